"""Test ``mambascope.analysis.passkey.binomial`` against published values and the definition."""

import pytest
from scipy.stats import binom

from mambascope.analysis.passkey.binomial import exact_interval


@pytest.mark.parametrize(
    ("solved", "examples", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),  # 1 - 0.025 ** (1 / 10)
        (10, 10, 0.6915, 1.0),
        (1, 10, 0.0025, 0.4450),  # Clopper and Pearson's chart, to its two digits; further digits from the definition
        (5, 10, 0.1871, 0.8129),
        (95, 100, 0.8872, 0.9836),
    ],
)
def test_known_intervals(solved, examples, low, high):
    assert exact_interval(solved, examples) == pytest.approx((low, high), abs=6e-5)


def test_at_each_end_the_count_is_as_unlikely_as_stated():
    low, high = exact_interval(17, 40, level=0.9)
    assert binom.sf(16, 40, low) == pytest.approx(0.05)
    assert binom.cdf(17, 40, high) == pytest.approx(0.05)


def test_impossible_counts_are_refused():
    for solved, examples in ((-1, 5), (6, 5), (0, 0)):
        with pytest.raises(ValueError, match="expected a count"):
            exact_interval(solved, examples)
