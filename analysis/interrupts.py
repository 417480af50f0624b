"""That a process was asked to stop, whatever became of the exception that said so.

An interrupt that falls into a library's own handling of errors can be lost there: pybind11 takes one that comes while
it converts arguments for a wrong type, and raises a TypeError in its place.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_asked: list[type[KeyboardInterrupt]] = []
"""What the latest signal inside of ``remembered`` raised."""


class TerminatedError(KeyboardInterrupt):
    """SIGTERM: wound up like Ctrl-C, so that workers end and the run folder says what happened."""


def _handle(number: int, frame: FrameType | None) -> None:
    del frame
    stop = TerminatedError if number == signal.SIGTERM else KeyboardInterrupt
    _asked[:] = [stop]
    raise stop


@contextmanager
def remembered() -> Generator[None, None, None]:
    """Raise on SIGTERM as on Ctrl-C inside the block, and remember both; a caller's own handlers are left as they were.

    Outside of the main thread, which alone hears of signals, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked.clear()
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _handle)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        _asked.clear()


@contextmanager
def not_lost() -> Generator[None, None, None]:
    """Raise the interrupt in place of an error that came after it.

    Raises:
        KeyboardInterrupt: a signal came before the error.
    """
    try:
        yield
    except Exception as problem:
        if _asked:
            raise _asked[0] from problem
        raise
