"""A sweep while it runs: a table that fills in place on a terminal; in a pipe a plain line now and then.

What goes wrong is always told, by a line of its own.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TextIO

from mambascope.analysis.resources import in_time
from mambascope.analysis.sweep import Event
from mambascope.analysis.sweep_cells import Cell

from .progress import SECONDS_BETWEEN_LINES, is_terminal

NONE = "\u2013"
EVERY_S = 0.2
"""Least time between two drawings on a terminal. Ours: what tqdm's bars have here, too."""


class Board:
    """What has become of each cell so far."""

    def __init__(
        self,
        cells: Sequence[Cell],
        tokens: int,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream, self.clock = stream or sys.stderr, clock
        self.people = is_terminal(self.stream)
        self.total, self.tokens, self.passed = len(cells), tokens, 0
        self.counts: Counter[str] = Counter()
        self._all = Counter(_place(cell) for cell in cells)
        self._done: Counter[tuple[str, str]] = Counter()
        self._failed: Counter[tuple[str, str]] = Counter()
        self._start = self._told = clock()
        self._drawn, self._lines = self._start - EVERY_S, 0

    def __call__(self, event: Event) -> None:
        """Take note of an event, and show it."""
        self.passed += event.tokens
        if not event.is_fit and event.what != "waits":
            self.counts[event.what] += 1
            if event.what in {"kept", "done"}:
                self._done[_place(event.cell)] += 1
            elif event.what == "failed":
                self._failed[_place(event.cell)] += 1
        now = self.clock()
        if event.failure is not None or event.what == "waits":
            self._erase()
            print(f"sweep: {_told(event)}", file=self.stream, flush=True)
        if self.people:
            if now - self._drawn >= EVERY_S or not self._lines:
                self._draw()
        elif now - self._told >= SECONDS_BETWEEN_LINES:
            print(self.status(), file=self.stream, flush=True)
            self._told = now

    def status(self) -> str:
        """Return the state of the whole in one line."""
        done, failed = self.counts["kept"] + self.counts["done"], self.counts["failed"]
        told = f"sweep: {done} of {self.total} cells done" + (f", {failed} failed" if failed else "")
        if self.counts["kept"]:
            told += f" ({self.counts['kept']} were there)"
        elapsed = self.clock() - self._start
        if self.passed and done + failed < self.total:
            told += f", about {in_time(elapsed * max(0, self.tokens - self.passed) / self.passed)} left"
        return told

    def lines(self, width: int, height: int) -> list[str]:
        """Return the table and the status, or what of it a terminal has room for."""
        rows, columns = (list(dict.fromkeys(place[k] for place in self._all)) for k in (0, 1))
        for turned in (False, True):
            down, across = (columns, rows) if turned else (rows, columns)
            cells = [["", *across]]
            for left in down:
                places = [(top, left) if turned else (left, top) for top in across]
                cells.append([left, *map(self._count, places)])
            table = aligned(cells)
            if max(map(len, table)) < width and len(table) + 1 < height:
                return [*table, self.status()[: width - 1]]
        return [self.status()[: width - 1]]

    def _count(self, place: tuple[str, str]) -> str:
        if not self._all[place]:
            return NONE
        failed = f" ({self._failed[place]} failed)" if self._failed[place] else ""
        return f"{self._done[place]}/{self._all[place]}{failed}"

    def _draw(self) -> None:
        size = os.get_terminal_size(self.stream.fileno())
        lines = self.lines(size.columns, size.lines)
        self._erase()
        self.stream.write("\n".join(lines) + "\n")
        self.stream.flush()
        self._lines, self._drawn = len(lines), self.clock()

    def _erase(self) -> None:
        if self._lines:
            self.stream.write(f"\x1b[{self._lines}F\x1b[0J")
            self._lines = 0

    def close(self) -> None:
        """Leave the status alone on the screen."""
        self._erase()
        print(self.status(), file=self.stream, flush=True)


def _told(event: Event) -> str:
    """Say what has failed, and why, or what is waited for."""
    cell, failure = event.cell, event.failure
    fit = f"the fit of {cell.method} to {cell.model}" + ("" if event.target is None else f" for {event.target} tokens")
    fit += "" if cell.seed is None else f", seed {cell.seed}"
    what = fit if event.is_fit else cell.words()
    if failure is None:
        return f"{what}: another process is at it; waiting"
    first = event.what == "again"
    return f"{what} failed{', and will be tried again' if first else ''}: {failure.error}"


def _place(cell: Cell) -> tuple[str, str]:
    """Return a cell's row and column on the board."""
    task = "" if cell.task == "perplexity" else f" {cell.task}"
    return f"{cell.model} {cell.corpus}{task}", cell.method


@contextmanager
def board(cells: Sequence[Cell], tokens: int) -> Generator[Board, None, None]:
    """Show a sweep while it runs.

    Args:
        cells: all of them.
        tokens: planned, of those that are not there.

    Yields:
        What to call with each event.
    """
    shown = Board(cells, tokens)
    try:
        yield shown
    finally:
        shown.close()


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines: the first column to the left, the others to the right.

    >>> aligned([["", "a"], ["row", "10"]])
    ['      a', 'row  10']
    """
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in cells
    ]
