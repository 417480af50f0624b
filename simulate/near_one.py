"""How plain Monte Carlo fails as decays come close to 1, and where it can be trusted.

For lambda ~ U[0, 1 - eps] the level 1 / (1 - lambda^2) has a tail that falls like 1 / (2 y) up to y = 1 / (2 eps): its
mean rests on draws too rare to be in the sample. The sample mean is then mostly too low and its interval too short.
Quadrature has no such trouble; this module measures the failure by repeating the sampling many times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .exact import skewness_of_mean
from .laws import Uniform
from .modes import energy_gain
from .montecarlo import MOST_SKEWED
from .threefry import DECAYS, key_words, uniforms


@dataclass(frozen=True, slots=True)
class Coverage:
    """Repeated plain Monte Carlo against the exact level, for one eps."""

    eps: float
    """Distance of the largest decay from 1."""
    draws: int
    """Draws of each run."""
    runs: int
    """Independent runs."""
    exact: float
    """E 1 / (1 - lambda^2), by quadrature."""
    median_ratio: float
    """Median over runs of estimate / exact."""
    low_ratio: float
    """5 % quantile of it."""
    high_ratio: float
    """95 % quantile of it."""
    interval_covers: float
    """Share of runs whose nominal 95 % interval holds the exact value."""
    below: float
    """Share of runs that are too low."""
    trusted: bool
    """Whether the flag of ``montecarlo`` calls such a run covered."""


def coverage(eps: float, draws: int = 10_000, runs: int = 200, seed: int = 0) -> Coverage:
    """Repeat plain Monte Carlo and count how often its interval is right.

    Args:
        eps: distance of the largest decay from 1.
        draws: eigenvalues drawn in each run.
        runs: independent runs.
        seed: root seed.

    Returns:
        The counts.
    """
    law = Uniform(0.0, eps)

    def level(a: np.ndarray) -> np.ndarray:
        return energy_gain(a, np.inf)

    exact = law.expect(level)
    key = key_words(seed, "near one", repr(eps))
    estimates, errors = np.empty(runs), np.empty(runs)
    for run in range(runs):
        levels = level(law.rates(uniforms(key, DECAYS, run, 1, draws)[0]))
        estimates[run], errors[run] = levels.mean(), levels.std(ddof=1) / np.sqrt(draws)
    ratio = estimates / exact
    return Coverage(
        eps=eps,
        draws=draws,
        runs=runs,
        exact=exact,
        median_ratio=float(np.median(ratio)),
        low_ratio=float(np.quantile(ratio, 0.05)),
        high_ratio=float(np.quantile(ratio, 0.95)),
        interval_covers=float((np.abs(estimates - exact) <= 1.96 * errors).mean()),
        below=float((ratio < 1).mean()),
        trusted=skewness_of_mean(law, level, draws) <= MOST_SKEWED,
    )
