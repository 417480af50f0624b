"""Laws of the step size dt_t, and the law of the inputs u_t: what the kernels draw at every token.

``Gamma`` is in ``step_transforms``: it is its own closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import Floats
from .markov_steps import stationary_law
from .step_transforms import Gamma, StepTransforms, constant_steps, softplus_normal_steps

CONSTANT, GAMMA, SOFTPLUS_NORMAL, MARKOV, TRACE = range(5)


@dataclass(frozen=True, slots=True)
class Constant:
    """The same step at every token."""

    dt: float = 1.0
    """Step size, above 0."""

    def __post_init__(self) -> None:
        _positive(self, "dt")


@dataclass(frozen=True, slots=True)
class SoftplusNormal:
    """dt_t = softplus(mu + sigma z), z standard normal: what a mixer computes from a Gaussian projection."""

    mu: float
    """Mean before the softplus."""
    sigma: float
    """Standard deviation before the softplus."""

    def __post_init__(self) -> None:
        _positive(self, "sigma")
        if not np.isfinite(self.mu):
            raise ValueError(f"SoftplusNormal: mu = {self.mu}, expected a finite number")


@dataclass(frozen=True, slots=True)
class Markov:
    """dt_t follows a Markov chain over a few values, started in its stationary law: steps that stay small or large."""

    values: tuple[float, ...]
    """Step size of each state."""
    transition: tuple[tuple[float, ...], ...]
    """transition[i][j]: probability to go from i to j; rows sum to 1."""

    def __post_init__(self) -> None:
        P = np.array(self.transition, dtype=np.float64)
        n = len(self.values)
        if P.shape != (n, n) or (P < 0).any() or np.abs(P.sum(1) - 1).max() > 1e-12:
            raise ValueError(f"transition matrix: expected {n} x {n} with rows that sum to 1, got {self.transition}")
        if not (np.isfinite(self.values).all() and min(self.values) >= 0 and max(self.values) > 0):
            raise ValueError(f"step sizes {self.values}: expected finite ones, none below 0, not all 0")
        stationary_law(P)  # refuses a chain that falls apart

    def stationary(self) -> Floats:
        """Return the stationary probabilities of the states, (states,)."""
        return stationary_law(np.array(self.transition))


@dataclass(frozen=True, slots=True)
class Trace:
    """Consecutive steps out of a recording: each trial starts at a random place of a random row and wraps there."""

    rows: tuple[tuple[float, ...], ...]
    """Recorded step sizes, one row a document or head."""

    def __post_init__(self) -> None:
        if not self.rows or len({len(row) for row in self.rows}) != 1 or not self.rows[0]:
            raise ValueError("a trace needs rows of equal length, at least one step each")
        steps = np.array(self.rows, dtype=np.float64)
        if not (np.isfinite(steps).all() and steps.min() >= 0):
            raise ValueError("a trace of step sizes: expected finite numbers of at least 0")


StepLaw = Constant | Gamma | SoftplusNormal | Markov | Trace


@dataclass(frozen=True, slots=True)
class InputLaw:
    """u_t = mean + e_t with autocovariance E e_t e_{t+k} = variance * rho^|k|, stationary from the first token on."""

    variance: float = 1.0
    """Variance of e; 0 leaves the mean alone."""
    mean: float = 0.0
    """Mean."""
    rho: float = 0.0
    """Correlation of neighbours, in (-1, 1)."""

    def __post_init__(self) -> None:
        if not (0 <= self.variance < np.inf and -1 < self.rho < 1 and np.isfinite(self.mean)):
            raise ValueError(f"{self}: expected a finite mean, a finite variance of at least 0 and -1 < rho < 1")


def transforms(law: StepLaw) -> StepTransforms | None:
    """Return what closed forms need of steps that are independent of each other, None where they are not."""
    if isinstance(law, Constant):
        return constant_steps(law.dt)
    if isinstance(law, SoftplusNormal):
        return softplus_normal_steps(law.mu, law.sigma)
    return law if isinstance(law, Gamma) else None


def encode(law: StepLaw) -> tuple[int, Floats, Floats]:
    """Return a step law as the kernels take it.

    Args:
        law: any step law.

    Returns:
        Its code, two numbers, and a table: for a chain the values, the cumulative stationary law and the cumulative
        transition rows; for a trace its rows.
    """
    none = np.zeros((1, 1))
    if isinstance(law, Constant):
        return CONSTANT, np.array([law.dt, 0.0], dtype=np.float64), none
    if isinstance(law, Gamma):
        return GAMMA, np.array([law.shape, law.scale], dtype=np.float64), none
    if isinstance(law, SoftplusNormal):
        return SOFTPLUS_NORMAL, np.array([law.mu, law.sigma], dtype=np.float64), none
    if isinstance(law, Markov):
        start = np.cumsum(law.stationary())[None]
        table = np.concatenate([
            np.array(law.values, dtype=np.float64)[None],
            start,
            np.cumsum(np.array(law.transition), axis=1),
        ])
        return MARKOV, np.zeros(2), table
    return TRACE, np.zeros(2), np.array(law.rows, dtype=np.float64)


def _positive(law: object, *names: str) -> None:
    for name in names:
        value = getattr(law, name)
        if not 0 < value < np.inf:
            raise ValueError(f"{type(law).__name__}: {name} = {value}, expected a number above 0")
