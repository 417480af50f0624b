"""Adam on ln s, in float64: a bfloat16 factor at 1 would not move at all for steps of 1e-3 or less.

Source: Kingma and Ba 2015, Algorithm 1; Mamba Modulation, Algorithm 2 (Adam on the factors, all else frozen).
"""

from __future__ import annotations

import numpy as np

from .descent import Moved, Problem, half_cosine
from .parameters import Floats
from .plan import Plan

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Kingma and Ba 2015, section 2."""


class Adam:
    """Back-propagation's gradient, Adam's step, in ln s; the learning rate falls to 0 on half a cosine."""

    def __init__(self, plan: Plan, size: int) -> None:
        self.plan = plan
        self.memory: dict[str, Floats] = {"first": np.zeros(size), "second": np.zeros(size)}

    def step(self, k: int, u: Floats, problem: Problem) -> Moved:
        """Take one step."""
        bits, slope = problem.gradient(u, k)
        g = slope * u  # with respect to ln u
        first = BETA1 * self.memory["first"] + (1 - BETA1) * g
        second = BETA2 * self.memory["second"] + (1 - BETA2) * g**2
        self.memory = {"first": first, "second": second}
        rate = self.plan.learning_rate * half_cosine(k, self.plan.steps)
        step = rate * first / (1 - BETA1 ** (k + 1)) / (np.sqrt(second / (1 - BETA2 ** (k + 1))) + EPSILON)
        return Moved(np.exp(np.clip(np.log(u) - step, np.log(problem.least), np.log(problem.most))), bits)
