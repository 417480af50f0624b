"""Simultaneous perturbation: two losses give a slope along one random direction, whatever the number of factors.

    delta in {-1, 1}^p,   h = (loss(s + c delta) - loss(s - c delta)) / (2 c),   gradient ~ h delta.

Three forms: the paper's Algorithm 3, the schedules and the rule of the released script, and ours.
Source: Spall 1992; Mamba Modulation, Algorithm 3 and its perplexity script (facts in the comments).
"""

from __future__ import annotations

import math

import numpy as np

from .descent import LEAST, Moved, Problem, half_cosine
from .parameters import Floats
from .plan import Plan
from .windows import DIRECTIONS, generator

LN2 = math.log(2)
MOMENTUM = 0.8
"""Weight of earlier directions in ours. Ours: averages about 5 of them."""
SIZE_MEMORY = 0.9
"""Weight of earlier slopes in the size that ours divides by. Ours: about 10 of them."""


def direction(seed: int, k: int, size: int) -> Floats:
    """Return the Rademacher direction of step k."""
    return np.where(generator(seed, k, DIRECTIONS).random(size) < 0.5, -1.0, 1.0)


class PaperSpsa:
    """The paper's Algorithm 3: s <- max(s - eta (l+ - l-) / (2 c delta), 0.001), the last s is the result.

    c and eta are constants and are not printed; the loss is in nats. Perturbed factors stay at 0.001 or above, too,
    which the paper does not say: a negative one would make states grow without bound.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.memory: dict[str, Floats] = {}

    def step(self, k: int, u: Floats, problem: Problem) -> Moved:
        """Take one step."""
        c, delta = self.plan.perturbation, direction(self.plan.seed, k, u.size)
        plus = problem.loss(np.maximum(u + c * delta, LEAST), k)
        minus = problem.loss(np.maximum(u - c * delta, LEAST), k)
        gradient = LN2 * (plus - minus) / (2 * c * delta)
        return Moved(np.maximum(u - self.plan.learning_rate * gradient, LEAST), (plus + minus) / 2)


class ReleasedSpsa:
    """The released script: c = 0.1 / (1+k)^0.1, eta = 0.001 cos(k pi / 198), perplexities in place of losses.

    Factors are held at 0.01 or above (``a_power`` on Mamba-1 in [0.01, 1]). After each step the script goes on from
    whichever of the new and the two perturbed points has the least perplexity, comparing the new one on other texts
    (its test set; here the selection texts) with the two on calibration text. That rule is kept, bfloat16 is not.
    """

    LEAST = 0.01

    def __init__(self, plan: Plan, *, most: float = math.inf) -> None:
        self.plan, self.most = plan, most
        self.memory: dict[str, Floats] = {}

    def step(self, k: int, u: Floats, problem: Problem) -> Moved:
        """Take one step."""
        c = self.plan.perturbation / (1 + k) ** 0.1
        rate = self.plan.learning_rate * math.cos(k * math.pi / 198)
        delta = direction(self.plan.seed, k, u.size)
        ends = [np.clip(u + sign * c * delta, self.LEAST, self.most) for sign in (1, -1)]
        bits = [problem.loss(end, k) for end in ends]
        plus, minus = (_perplexity(b) for b in bits)
        new = np.clip(u - rate * (plus - minus) * delta / (2 * c), self.LEAST, self.most)
        found = [(_perplexity(problem.selection(new)), new), (plus, ends[0]), (minus, ends[1])]
        return Moved(min(found, key=lambda each: each[0])[1], sum(bits) / 2)


def _perplexity(bits: float) -> float:
    return math.exp2(min(bits, 1023.0))


class Spsa:
    """Ours: SPSA on the log-loss in ln s, with momentum, and steps whose size does not depend on the loss's.

    Both perturbations read the same windows, drawn anew each step. The slope h is divided by its own running size, so
    that the learning rate is a distance in ln s on any model and at any length.
    """

    def __init__(self, plan: Plan, size: int) -> None:
        self.plan = plan
        self.memory: dict[str, Floats] = {"momentum": np.zeros(size), "square": np.zeros(1)}

    def step(self, k: int, u: Floats, problem: Problem) -> Moved:
        """Take one step."""
        c, delta, x = self.plan.perturbation, direction(self.plan.seed, k, u.size), np.log(u)
        low, high = np.log(problem.least), np.log(problem.most)
        plus = problem.loss(np.exp(np.clip(x + c * delta, low, high)), k)
        minus = problem.loss(np.exp(np.clip(x - c * delta, low, high)), k)
        h = (plus - minus) / (2 * c)
        momentum = MOMENTUM * self.memory["momentum"] + (1 - MOMENTUM) * h * delta
        square = SIZE_MEMORY * self.memory["square"] + (1 - SIZE_MEMORY) * h**2
        self.memory = {"momentum": momentum, "square": square}
        size = math.sqrt(float(square[0]) / (1 - SIZE_MEMORY ** (k + 1)))
        rate = self.plan.learning_rate * half_cosine(k, self.plan.steps)
        if size > 0:
            x = np.clip(x - rate * momentum / (1 - MOMENTUM ** (k + 1)) / size, low, high)
        return Moved(np.exp(x), (plus + minus) / 2)
