"""Many cells at once: model x corpus x length x method x seed, each a pure function of the plan and its files.

``sweep_run.SweepRun`` runs them: a whole sweep in one process with workers of any engine, or a cell in each of any
number of processes, of which a run of the whole then only puts the tables together. Here is what it tells and returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mambascope.spectra.errors import MambascopeError

from .engine_each import Failure
from .sweep_cells import Cell, SweepJob
from .sweep_rows import CellState, Row, cell_rows, summary_rows


class SweepFailedError(MambascopeError):
    """Cells that could not be done; all others are.

    Attributes:
        states: the cells that failed.
    """

    def __init__(self, states: Sequence[CellState]) -> None:
        self.states = tuple(states)
        first = states[0]
        assert first.failure is not None
        self.exit_code = first.failure.exit_code
        more = f", and {len(states) - 1} more" if len(states) > 1 else ""
        super().__init__(
            f"{len(states)} cell{'s' if len(states) > 1 else ''} failed: cell {first.cell.number} "
            f"({first.cell.words()}): {first.failure.error}{more}; what is done is kept, and a run of the whole sweep "
            "tries again"
        )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to a sweep."""

    what: Literal["kept", "done", "again", "failed", "waits"]
    """``kept``: it was there, or another process has done it; ``again``: it has failed for the first time; ``failed``:
    for good; ``waits``: another process is at it, and this one waits for that."""
    cell: Cell
    """Which cell; for a fit, the first that uses it."""
    tokens: int = 0
    """About how many of the planned tokens it stands for."""
    seconds: float | None = None
    """What it took."""
    failure: Failure | None = None
    """What went wrong."""
    is_fit: bool = False
    """It happened to the fit that the cell needs."""
    target: int | None = None
    """Length that a fit is for; None where it serves any."""


Watch = Callable[[Event], None]


@dataclass(frozen=True)
class Sweep:
    """All cells of a job."""

    job: SweepJob
    """What was asked."""
    states: tuple[CellState, ...]
    """In the order of the plan."""

    def rows(self) -> list[Row]:
        """Return one row a cell."""
        return cell_rows(self.states)

    def summary(self) -> list[Row]:
        """Return one row for all seeds of a cell."""
        return summary_rows(self.rows())

    def failed(self) -> list[CellState]:
        """Return the cells that could not be done."""
        return [state for state in self.states if state.result is None and state.failure is not None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"rows": self.rows(), "summary": self.summary()}

    def __repr__(self) -> str:
        done = sum(state.result is not None for state in self.states)
        return f"Sweep({len(self.states)} cells, {done} done, {len(self.failed())} failed)"
