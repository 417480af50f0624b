"""Monte-Carlo estimates of E ||h||^2 with honest error bars, and a flag where they cannot be honest.

When eigenvalues reach close to 1, most of E ||h||^2 comes from draws too rare to be in the sample: the mean is then
mostly too low and its error bar too short, and nothing in the sample shows it. So the flag is computed from the laws,
not from the sample: the skewness that the mean of N independent modes has is known from quadrature, and above
``MOST_SKEWED`` the estimate is called not covered. For lambda ~ U[0, 1 - eps] that is about N eps < 100.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Floats
from .exact import exact_second_moment, skewness_of_levels
from .recurrence import Recurrence, check_times
from .threefry import Words, key_words

MOST_SKEWED = 0.06
"""Skewness of a mean up to which its error bar is trusted. Ours: a 95 % interval then covers 94 % or more (tested)."""

FEWEST_TRUSTED = 200
"""Below so many trials a sample's own skewness says nothing, and no error bar is trusted."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

BLOCK_UPDATES = 2**26
"""State updates of a block, a fraction of a second: what a resumed run may have to repeat; no result depends on it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """E ||h_T||^2 at chosen times."""

    times_steps: tuple[int, ...]
    """Times T, ascending."""
    trials: int
    """Independent trials."""
    mean: Floats
    """Sample means, one a time."""
    se: Floats
    """Their standard errors."""
    quantiles: Floats
    """(times, levels) of one trial's ||h_T||^2, at ``QUANTILES``."""
    skewness: Floats
    """Skewness of each mean, from the sample."""
    exact: Floats | None
    """The same expectations by quadrature, where the laws allow it (not for recorded step sizes)."""
    skewness_expected: Floats | None
    """Skewness that each mean must have because eigenvalues are random, by quadrature; None as for ``exact``."""

    @property
    def covered(self) -> npt.NDArray[np.bool_]:
        """Whether the error bars can be trusted, one a time."""
        if self.trials < FEWEST_TRUSTED:
            return np.zeros(self.mean.shape, dtype=np.bool_)
        skewed = np.abs(self.skewness)
        if self.skewness_expected is not None:
            skewed = np.maximum(skewed, self.skewness_expected)
        return np.asarray(skewed <= MOST_SKEWED)

    def _distance(self, k: int) -> float | None:
        """Standard errors between mean and exact value; None without one of them, as for a deterministic recurrence."""
        return None if self.exact is None or not self.se[k] else float((self.mean[k] - self.exact[k]) / self.se[k])

    def _repr_html_(self) -> str:
        import pandas  # half a second, and only a notebook needs it

        table = pandas.DataFrame(self.rows()).to_html(index=False)
        return f"<p>E ||h||^2 over {self.trials:,} trials</p>{table}"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a time."""
        return [
            {
                "steps": time,
                "mean": float(self.mean[k]),
                "se": float(self.se[k]),
                "exact": None if self.exact is None else float(self.exact[k]),
                "z": self._distance(k),
                **{f"q{100 * q:g}": float(v) for q, v in zip(QUANTILES, self.quantiles[k], strict=True)},
                "covered": bool(self.covered[k]),
            }
            for k, time in enumerate(self.times_steps)
        ]


@dataclass(frozen=True, slots=True)
class Paths:
    """An experiment on a recurrence: per trial, the squared state norm at chosen times."""

    recurrence: Recurrence
    """What runs."""
    times_steps: tuple[int, ...]
    """Times, ascending."""

    def __post_init__(self) -> None:
        check_times(self.times_steps)

    def run(self, key: Words, first: int, trials: int) -> Floats:
        """Return (trials, times); a row depends on the key and its trial's number alone."""
        return self.recurrence.squared_norms(key, np.array(self.times_steps), first, trials)

    def updates(self) -> int:
        """Return state updates of one trial."""
        return self.times_steps[-1] * self.recurrence.channels


def blocks(updates: int, trials: int) -> Iterator[tuple[int, int]]:
    """Cut trials into blocks of about ``BLOCK_UPDATES``.

    Args:
        updates: state updates of one trial.
        trials: how many trials.

    Yields:
        First trial and number of trials of each block.
    """
    size = max(1, BLOCK_UPDATES // max(1, updates))
    for first in range(0, trials, size):
        yield first, min(size, trials - first)


def summarise(recurrence: Recurrence, times_steps: Sequence[int], norms: Floats) -> Estimate:
    """Turn squared norms of all trials, in their order, into an estimate.

    Args:
        recurrence: what they are of.
        times_steps: at which times.
        norms: (trials, times).

    Returns:
        The estimate, with the exact values beside it where the laws allow.
    """
    n = len(norms)
    mean = norms.mean(0)
    centred = norms - mean
    sd = np.sqrt(np.square(centred).sum(0) / max(1, n - 1))
    spread = np.where(sd > 0, sd, 1.0)
    modes = n * (recurrence.channels if recurrence.kind == "diagonal" else 1) if recurrence.redraw else n
    return Estimate(
        times_steps=tuple(int(t) for t in times_steps),
        trials=n,
        mean=mean,
        se=sd / np.sqrt(n),
        quantiles=np.quantile(norms, QUANTILES, axis=0).T,
        skewness=np.power(centred / spread, 3).mean(0) / np.sqrt(n),
        exact=exact_second_moment(recurrence, times_steps),
        skewness_expected=skewness_of_levels(recurrence, times_steps, modes),
    )


def estimate(
    recurrence: Recurrence,
    horizon_steps: int | Sequence[int],
    trials: int,
    key: int | Words = 0,
    *,
    tick: Callable[[int], None] = lambda _: None,
) -> Estimate:
    """Estimate E ||h_T||^2 by running the recurrence.

    Args:
        recurrence: what to run.
        horizon_steps: T, or several ascending times of one trajectory.
        trials: independent trials, at least 2.
        key: seed, or words from ``key_words``.
        tick: called with the number of state updates as they are done.

    Returns:
        The estimate; the same for equal arguments, whatever the machine's threads.

    Raises:
        ValueError: fewer than two trials, or times that do not ascend.
    """
    if trials < 2:
        raise ValueError(f"trials {trials}: expected at least 2, for an error bar")
    times = tuple(int(t) for t in np.atleast_1d(horizon_steps))
    paths = Paths(recurrence, times)
    words = key if isinstance(key, np.ndarray) and key.ndim else key_words(int(key))
    parts = []
    for first, count in blocks(paths.updates(), trials):
        parts.append(paths.run(words, first, count))
        tick(count * paths.updates())
    return summarise(recurrence, times, np.concatenate(parts))
