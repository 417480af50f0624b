"""Progress on stderr: a bar on a terminal or in a notebook, and where neither is, a plain line now and then.

A pipe, a log file and a dumb terminal get no control characters: at most one line each half minute, with the share
done and the time left.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self

SECONDS_BETWEEN_LINES = 30.0
"""Ours: often enough to see that it lives, seldom enough for a log."""

DELAY_S = 1.0
"""What takes less than this shows no bar. Ours."""

Advance = Callable[..., None]
"""Called with what has been done since the last call, and a note in words if there is one."""


@contextmanager
def progress(total: int, what: str, unit: str = "tok") -> Generator[Callable[[int], None], None, None]:
    """Show how far some work is, with the time left, if it takes longer than a moment.

    Args:
        total: tokens (or steps) expected.
        what: label.
        unit: what is counted.

    Yields:
        A function to call with the tokens that have passed.
    """
    with meter(total, what, unit=unit, unit_scale=True) as advance:
        yield advance


@contextmanager
def meter(total: float, what: str, **looks: Any) -> Generator[Advance, None, None]:
    """Show how far some work is, with a note beside it.

    Args:
        total: units expected.
        what: label.
        looks: what ``tqdm`` takes, for a bar.

    Yields:
        A function to call with the units that have passed, and a note.
    """
    bars = _bars()
    if bars is None:
        with PlainLines(total, what) as lines:
            yield lines.advance
        return
    common = {"delay": DELAY_S, "mininterval": 0.2, "leave": False, "file": sys.stderr, "dynamic_ncols": True}
    with bars(total=total, desc=what, **common, **looks) as bar:

        def advance(amount: float, note: str = "") -> None:
            if note:
                bar.set_postfix_str(note, refresh=False)
            bar.update(amount)

        yield advance


class PlainLines:
    """Progress as lines of text."""

    def __init__(self, total: float, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._what, self._clock = total, what, clock
        self._start = self._told = clock()
        self._done = self._found = 0.0
        self._lines = 0

    def advance(self, amount: float, note: str = "") -> None:
        """Count what was done; print a line if the last one is half a minute old."""
        self._done += amount
        now = self._clock()
        if now - self._start < DELAY_S:
            self._found = self._done  # what a run folder had already says nothing about the speed
        if now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            self._lines += 1
            print(self._line(now - self._start, note), file=sys.stderr, flush=True)

    def _line(self, passed_s: float, note: str) -> str:
        parts = [f"{min(1.0, self._done / self._total):.0%}" if self._total > 0 else f"{self._done:g} done"]
        made = self._done - self._found
        if self._total > 0 and made > 0:
            left_s = max(0.0, self._total - self._done) * passed_s / made
            parts.append(f"{_clock_text(left_s)} left")
        return f"{self._what}: {', '.join([*parts, *([note] if note else [])])}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Say that it is done, if it is and anything was said before."""
        if self._lines and kind is None:
            took = _clock_text(self._clock() - self._start)
            print(f"{self._what}: done in {took}", file=sys.stderr, flush=True)


def _clock_text(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds.

    >>> _clock_text(80.2)
    '0:01:20'
    """
    return str(timedelta(seconds=round(min(seconds, 1e9))))


def _bars() -> Any:
    """Return the class of bars that this place shows; None where only plain lines are right."""
    if in_notebook():
        try:
            import ipywidgets  # type: ignore[import-not-found, unused-ignore] # noqa: F401 - without it tqdm's has no looks
            from tqdm.notebook import tqdm
        except ImportError:  # a bar of text, which a notebook redraws as a terminal does
            from tqdm import tqdm
        return tqdm
    if not is_terminal(sys.stderr):
        return None
    from tqdm import tqdm

    return tqdm


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in (getattr(shell, "config", None) or {})


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal that can move its cursor, and has a width to show a bar in."""
    try:
        if not stream.isatty() or os.environ.get("TERM") == "dumb":
            return False
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (AttributeError, ValueError, OSError):  # no real stream, or a closed one
        return False
