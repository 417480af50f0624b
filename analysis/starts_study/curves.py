"""Loss against passes: best selection bits so far, and how many passes it took to reach a level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .plan import Task
from .scores import Score

Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class StartRun:
    """One finished calibration."""

    task: Task
    """What was run."""
    curve: Curve
    """(passes, best selection tail bits so far), one pair a look; what the start itself cost is in it."""
    start_bits: float
    """Selection tail bits of the start."""
    final_bits: float
    """Selection tail bits of the result."""
    step: int
    """Step whose point is the result."""
    passes: float
    """Forward passes in all, over a window of L tokens."""
    start: Score
    """The start on test text."""
    final: Score
    """The result on test text."""

    @property
    def name(self) -> str:
        """Start and seed in words."""
        return f"{self.task.label} (seed {self.task.plan.seed})"


def passes_to_reach(curve: Curve, bits: float) -> float | None:
    """Return the passes after which a curve is at or below a level, or None.

    >>> passes_to_reach(((8, 3.0), (20, 2.5), (32, 2.5)), 2.5)
    20
    """
    return next((passes for passes, best in curve if best <= bits), None)


@dataclass(frozen=True, slots=True)
class PassRatio:
    """How much sooner the spectrum start is where the best of all other starts ends."""

    method: str
    """Method of both, or ``any``."""
    bits: float
    """Least final selection bits of any other start and seed."""
    other: str
    """Which start that is."""
    other_passes: float
    """Passes after which it was there; later looks that gained nothing do not count."""
    other_whole: float
    """Its passes in all."""
    spectrum_passes: tuple[float | None, ...]
    """Passes of the spectrum start to get there, its proposal among them, one a seed; None: never."""

    @property
    def worst(self) -> float | None:
        """Largest ratio over the seeds; None if a seed never got there."""
        return self._worst(self.other_passes)

    @property
    def worst_of_whole(self) -> float | None:
        """The same, of all passes of the other start."""
        return self._worst(self.other_whole)

    def _worst(self, passes: float) -> float | None:
        took = [p for p in self.spectrum_passes if p is not None]
        return max(took) / passes if len(took) == len(self.spectrum_passes) else None

    def row(self) -> dict[str, Any]:
        """Return a row of a table."""
        rest = asdict(self)
        passes = rest.pop("spectrum_passes")
        return (
            rest
            | {f"spectrum_passes_seed_{k}": p for k, p in enumerate(passes)}
            | {
                "worst_ratio": self.worst,
                "worst_ratio_of_whole": self.worst_of_whole,
            }
        )


def pass_ratio(runs: Sequence[StartRun], method: str) -> PassRatio:
    """Compare the spectrum start with the best of the others.

    Args:
        runs: calibrations of the first part.
        method: its name; ``any`` takes the best of all methods on both sides.

    Returns:
        The comparison.
    """
    of = [run for run in runs if method in {"any", run.task.plan.method}]
    best = min((run for run in of if run.task.label != "spectrum"), key=lambda run: run.final_bits)
    there = passes_to_reach(best.curve, best.final_bits)
    assert there is not None
    ours: dict[int, float | None] = {}
    for run in of:
        if run.task.label == "spectrum":
            seed, took = run.task.plan.seed, passes_to_reach(run.curve, best.final_bits)
            known = [p for p in (ours.get(seed), took) if p is not None]
            ours[seed] = min(known, default=None)
    name = best.name if method != "any" else f"{best.name}, {best.task.plan.method}"
    return PassRatio(method, best.final_bits, name, there, best.passes, tuple(ours[seed] for seed in sorted(ours)))
