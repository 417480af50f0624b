"""What work costs on this machine: seconds and growth of memory, measured where it is done and kept beside the results.

Clocks differ from run to run. So costs have a journal of their own, ``costs.jsonl``: everything else in a run folder is
the same byte by byte however often it was stopped, and a resumed run still knows what its finished parts have cost.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from mambascope.spectra.compiled.recycled import release

from .journal import Journal
from .runs import RunFolder
from .texts import Tick

FILE = "costs.jsonl"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one piece of work took."""

    seconds: float
    """Wall-clock time, while as many other workers ran as were asked for."""
    peak_bytes: int | None
    """Most memory that the process held during the work, less what it held before; None where it was not measured or
    the system has no ``/proc``."""
    tokens: int
    """Tokens that passed through a model."""
    resumed: bool = False
    """True where an earlier session had done a part, which is not in the numbers."""


def measured(work: Callable[[Tick], Any], tick: Tick = lambda _: None, *, memory: bool = True) -> tuple[Any, Cost]:
    """Do some work and say what it took.

    Args:
        work: called with a function to report tokens to.
        tick: called with the same tokens.
        memory: False leaves memory unmeasured, which costs more than a small piece of work.

    Returns:
        What the work returned, and its cost.
    """
    passed = 0

    def count(tokens: int) -> None:
        nonlocal passed
        passed += tokens
        tick(tokens)

    before = _fresh_peak() if memory else None
    start = time.perf_counter()
    found = work(count)
    seconds = time.perf_counter() - start
    peak = None if before is None else _status("VmHWM")
    return found, Cost(seconds, None if before is None or peak is None else max(0, peak - before), passed)


def _fresh_peak() -> int | None:
    """Let a new peak of memory begin, and return what is held now."""
    gc.collect()
    release()  # what is kept of earlier work, here and by glibc, would hide the growth
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int | None:
    """Return a number of ``/proc/self/status`` in bytes."""
    with suppress(OSError, IndexError, ValueError):
        return 1024 * int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])
    return None


class CostBook:
    """The costs of a run by key; in memory alone where there is no run folder."""

    def __init__(self, journal: Journal | None = None) -> None:
        self._journal = journal
        self._here: dict[str, dict[str, Any]] = {}

    @classmethod
    @contextmanager
    def open(cls, run: RunFolder | None) -> Generator[Self, None, None]:
        """Open the costs of a run.

        Args:
            run: its folder.

        Yields:
            The book.
        """
        if run is None:
            yield cls()
            return
        with Journal.open(run.output(FILE)) as journal:
            yield cls(journal)

    def note(self, key: str, cost: Cost) -> None:
        """Keep the cost of a piece of work."""
        self._here[key] = asdict(cost)
        if self._journal is not None:
            self._journal.append("cost", key, asdict(cost))

    def of(self, key: str) -> Cost | None:
        """Return the cost of a piece of work; None where none was kept."""
        stored = self._here.get(key) if self._journal is None else self._journal.get("cost", key)
        return None if stored is None else Cost(**stored)
