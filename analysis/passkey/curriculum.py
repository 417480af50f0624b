"""How far apart key and question are in a step of a training on the task: from T to a length that grows.

A key that is lost altogether gives no slope to follow, so lengths grow as the model learns to bridge them: a step's
longest length grows geometrically from ``first`` T and has reached the longest of all after ``growing`` of the steps;
the learning rate shrinks meanwhile, so the growth ends well before. A step's length is the larger of two log-uniform
draws from T to its longest one: mostly far, where there is something to learn, and now and then near.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GROWING = 0.4
"""Share of the steps in which the longest length grows. Ours."""


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Lengths by step."""

    train_length: int
    """T in tokens."""
    longest: int
    """Tokens of the longest prompt and answer."""
    steps: int
    """Steps of the whole training."""
    first: float = 2.0
    """Longest length of the first step, in T. Ours: what a model of T tokens still bridges in part."""
    growing: float = GROWING
    """Share of the steps in which the longest length grows."""

    def most(self, step: int) -> int:
        """Return the longest length of a step.

        >>> [Curriculum(512, 8192, 100).most(k) for k in (0, 25, 50, 99)]
        [1024, 3756, 8192, 8192]
        """
        low = min(self.first * self.train_length, self.longest)
        done = min(1.0, step / max(1.0, self.growing * self.steps))
        return round(float(low * (self.longest / low) ** done))

    def mean(self, step: int) -> float:
        """Return the mean length of a step: with r = most / T, 2 T (r / ln r - (r - 1) / ln^2 r).

        >>> round(Curriculum(512, 8192, 100).mean(99))
        3911
        """
        r = self.most(step) / self.train_length
        log = float(np.log(r))
        return 2 * self.train_length * (r / log - (r - 1) / log**2)

    def draw(self, rng: np.random.Generator, step: int) -> int:
        """Draw a step's length."""
        low, high = np.log(self.train_length), np.log(self.most(step))
        return round(float(np.exp(low + (high - low) * rng.random(2).max())))
