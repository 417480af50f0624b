"""Means over documents with 95 % intervals, and differences between two methods on the same documents.

A document counts once, however many passages were cut from it. The interval is a studentised bootstrap: quantiles of
(resampled mean - mean) / (standard error of the resample), times the standard error; a twentieth of the sample's own
variance is mixed into that of each resample, or one that repeats a document would stretch the interval without bound.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 12; the mixing is ours. p-values are of sign
flips: Fisher, The Design of Experiments, section 21.

Why this one (ours): harms of few documents are skewed. Share of 95 % intervals from 8 documents that hold the truth,
mean over 18 harms of 20 test books (mamba2-tiny unscaled and spectrum-guided, mamba-tiny unscaled, 2 to 64 T): subsets
of 8 against the mean of all 20, deviations widened by sqrt(19/12), and draws from a Pearson III law with each harm's
skewness; and the width that 1 % exceed, in widths of Student's interval.

    interval              subsets of books    same skewness    width
    percentile                  .863               .872         0.8
    BCa                         .855               .873
    Student's t                 .921               .925         1
    studentised                 .921               .944         2.4
    the same, mixed             .917               .938         1.5

On 15 government documents, where one outlier can rule a harm: .906 (Student's .922) and .934 (.923).
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.stats

from .bits import Floats
from .passages import Ints, Passages

LEVEL = 0.95
"""Coverage that an interval aims at."""
RESAMPLES = 9999
"""Bootstrap resamples."""
STEADY = 0.05
"""Share of the sample's variance in that of each resample. Ours, see above."""
FEWEST, MOST = 5, 100
"""Documents for which resamples are drawn; Student's t below, where most resamples repeat one document too often to
tell a spread, and above, where the two agree."""
EXACT_UP_TO = 14
"""Documents up to which all 2^n sign flips are tried. Ours: 16,384 of them take a millisecond."""
FLIPS = 16_384
"""Random sign flips for more documents; the same number."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over documents."""

    mean: float
    """Mean over documents."""
    low: float | None
    """Lower end of the 95 % interval; None for fewer than two documents."""
    high: float | None
    """Upper end."""
    documents: int
    """Documents behind it."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.mean:+.4f}" + ("" if self.low is None else f" [{self.low:+.4f}, {self.high:+.4f}]")


@dataclass(frozen=True, slots=True)
class Paired:
    """A difference between two methods on the same documents."""

    mean: float
    """Mean over documents of the difference, first less second."""
    low: float | None
    """Lower end of its 95 % interval; None for fewer than two documents."""
    high: float | None
    """Upper end."""
    p: float | None
    """Chance of a mean at least as far from 0 if the sign of each document's difference were a coin's; None for fewer
    than two documents."""
    documents: int
    """Documents behind it."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def by_document(values: Floats, passages: Passages | Ints) -> Floats:
    """Average passages by document.

    Args:
        values: one a passage, (passages,); NaN for a passage that has none.
        passages: what the values are of, or the index of the document of each.

    Returns:
        One mean a document that has a value, (documents,).
    """
    index = passages.document if isinstance(passages, Passages) else passages
    there = ~np.isnan(values)
    count = np.bincount(index[there])
    return (np.bincount(index[there], weights=values[there])[count > 0]) / count[count > 0]


def interval(values: Floats) -> Interval:
    """Average over documents.

    Args:
        values: one a document.

    Returns:
        The mean with its 95 % interval.

    Raises:
        ValueError: no document.
    """
    if not len(values):
        raise ValueError("0 documents: expected at least one that reaches the length")
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean, None, None, n)
    error = float(values.std(ddof=1)) / math.sqrt(n)
    if FEWEST <= n <= MOST and error > 0:
        low, high = _quantiles(values - mean, error)
    else:
        high = float(scipy.stats.t.ppf((1 + LEVEL) / 2, n - 1))
        low = -high
    return Interval(mean, mean - high * error, mean - low * error, n)


def _quantiles(centred: Floats, error: float) -> tuple[float, float]:
    """Return quantiles of resampled means, each in units of its own standard error."""
    n = len(centred)
    drawn = centred[_resamples(n)]  # (RESAMPLES, documents)
    own = (1 - STEADY) * drawn.var(1, ddof=1) / n + STEADY * error**2
    t = np.sort(drawn.mean(1) / np.sqrt(own))
    low, high = (round(q * (RESAMPLES - 1)) for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(t[low]), float(t[high])


@functools.lru_cache(maxsize=8)
def _resamples(n: int) -> Ints:
    """Documents of each resample, the same whenever there are as many."""
    return np.random.default_rng(0).integers(0, n, (RESAMPLES, n), dtype=np.int32)


def paired(a: Floats, b: Floats) -> Paired:
    """Compare two methods document by document.

    Args:
        a: the first method's values, one a document.
        b: the second's, of the same documents.

    Returns:
        The mean difference, its interval, and the p-value of sign flips.
    """
    difference = a - b
    found = interval(difference)
    p = sign_flip_p(difference) if len(difference) > 1 else None
    return Paired(found.mean, found.low, found.high, p, found.documents)


def sign_flip_p(difference: Floats) -> float:
    """Return the p-value of the mean difference under flips of each document's sign.

    Exact up to 14 documents: the smallest it can be is 2 / 2^n, 1/128 for 8 documents. For more, random flips from a
    fixed seed, with the one that was observed counted in.

    Args:
        difference: one a document.

    Returns:
        The share of flips with a mean at least as far from 0.
    """
    n = len(difference)
    if n <= EXACT_UP_TO:
        signs = 1.0 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)  # (flips, documents), the first without any
    else:
        signs = np.random.default_rng(0).choice((1.0, -1.0), (FLIPS, n))
        signs[0] = 1.0
    means = np.abs(signs @ difference)
    return float((means >= means[0] * (1 - 1e-12)).mean())
