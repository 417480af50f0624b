"""What a training on the task leaves on the disk: one file with its steps and all that the next step needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy.typing as npt

from ..states import StateError, read_state, write_state
from .problem import Look

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class TunedStep:
    """One step."""

    step: int
    """Steps done; 0 is the start."""
    tokens: int
    """Tokens read so far, a gradient's counted four times."""
    loss: float | None
    """What the step saw before it moved; None at the start."""
    longest: int
    """Longest length that the step could draw."""
    look: Look | None
    """The new point on validation keys and text, where it was looked at."""

    def row(self) -> dict[str, Any]:
        """Return a row of a table."""
        found: dict[str, Any] = {"step": self.step, "tokens": self.tokens, "loss": self.loss, "longest": self.longest}
        look = self.look
        found |= {"key_bits": look and look.key_bits, "text_bits": look and look.text_bits}
        return found | ({f"share_{n}": share for n, _, share in look.by_length} if look else {})


@dataclass
class TunedHistory:
    """Steps so far, the last point and the best one."""

    path: Path | None = None
    """Where they are kept."""
    steps: list[TunedStep] = field(default_factory=list)
    """In order."""
    point: dict[str, Array] = field(default_factory=dict)
    """Parameters, and the optimiser's memory."""
    best: dict[str, Array] = field(default_factory=dict)
    """Parameters of the step with the least objective."""
    best_step: int = 0
    """That step."""

    @classmethod
    def open(cls, path: Path | None) -> TunedHistory:
        """Read what an earlier session left, or begin.

        Args:
            path: the file; None to keep nothing.

        Returns:
            The history.

        Raises:
            StateError: the file is none of ours.
        """
        found = cls(path)
        if path is None or not path.is_file():
            return found
        stored, about = read_state(path)
        try:
            for step in msgspec.json.decode(about["steps"], type=list[TunedStep]):
                found._take(step)
        except (msgspec.DecodeError, LookupError, TypeError, AssertionError) as error:
            raise StateError(path, error) from error
        for name, array in stored.items():
            part, _, key = name.partition("/")
            (found.best if part == "best" else found.point)[key] = array
        return found

    def objective(self) -> float:
        """Return the least objective so far."""
        look = self.steps[self.best_step].look
        assert look is not None
        return look.objective

    @property
    def done(self) -> int:
        """Steps done, the start not counted."""
        return len(self.steps) - 1

    def _take(self, step: TunedStep) -> bool:
        self.steps.append(step)
        if step.look is None or (step.step and step.look.objective >= self.objective()):
            return False
        self.best_step = step.step
        return True

    def add(self, step: TunedStep, point: Callable[[], dict[str, Array]], result: str, *, write: bool = True) -> None:
        """Keep a step.

        Args:
            step: what it was.
            point: returns all that the next step needs.
            result: what the names of the arrays that make the result begin with.
            write: put it on the disk now; a stopped training goes on from the last step that was.
        """
        best = self._take(step)
        if not (best or write):
            return
        self.point = point()
        if best:
            self.best = {name: array.copy() for name, array in self.point.items() if name.startswith(result)}
        if self.path is not None and write:
            arrays = {f"point/{k}": v for k, v in self.point.items()} | {f"best/{k}": v for k, v in self.best.items()}
            told = msgspec.json.encode([asdict(each) for each in self.steps]).decode()
            write_state(self.path, arrays, {"steps": told})
