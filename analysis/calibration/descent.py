"""What a method of calibration is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .parameters import Floats

LEAST = 1e-3
"""No multiplier falls below this. Mamba Modulation, Algorithm 3."""
MOST = {"a": 1e6, "dt": 1e6, "a_power": 16.0}
"""No multiplier rises above this. Ours: beyond, no mode has any memory left; 100^16 still fits float32."""


class Problem(Protocol):
    """A loss to lower, seen through draws of windows."""

    least: Floats
    """Least value of each multiplier."""
    most: Floats
    """Largest value of each multiplier."""

    def loss(self, u: Floats, step: int) -> float:
        """Return the bits of a step's windows."""
        ...

    def gradient(self, u: Floats, step: int) -> tuple[float, Floats]:
        """Return the bits of a step's windows and their gradient with respect to u."""
        ...

    def selection(self, u: Floats) -> float:
        """Return the bits of the selection windows, scored as the method scores."""
        ...


@dataclass(frozen=True, slots=True)
class Moved:
    """Where a step went."""

    u: Floats
    """The new point."""
    bits: float
    """What the step saw of the loss at the old one."""


class Descent(Protocol):
    """A method: one step at a time, with a memory that can be stored between steps."""

    memory: dict[str, Floats]
    """All that the next step needs besides the point."""

    def step(self, k: int, u: Floats, problem: Problem) -> Moved:
        """Take step ``k`` = 0, 1, ... from a point."""
        ...


def half_cosine(k: int, steps: int) -> float:
    """Return the share of the learning rate at step k: 1 at the first, 0 after the last."""
    return 0.5 * (1 + float(np.cos(np.pi * k / steps)))
