"""Test ``mambascope.simulate.geometric`` against the sums themselves and against 120-digit arithmetic."""

import mpmath
import numpy as np
import pytest

from mambascope.simulate.geometric import alternating_sum, geometric_sum, pair_sum

RATES = [1e-17, 1e-12, 1e-9, 1e-6, 1e-3, 0.03, 1.0, 40.0]
STEPS = [1, 2, 3, 10, 1000, 10**6, 10**9 - 1, 10**9]


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(120):
        yield


def divided(x, y, n):
    return n * x ** (n - 1) if x == y else (x**n - y**n) / (x - y)


@pytest.mark.parametrize(("p", "q"), [(0.0, 0.0), (1e-3, 0.5), (0.2, 0.2), (0.7, 0.0), (3.0, 1e-9)])
@pytest.mark.parametrize("n", [1, 2, 3, 9, 40])
def test_sums_term_by_term(p, q, n):
    pairs = sum(np.exp(-p * i - q * j) for i in range(n) for j in range(n) if i + j <= n - 2)
    assert float(pair_sum(p, q, n)) == pytest.approx(pairs, rel=1e-13)
    assert float(geometric_sum(p, n)) == pytest.approx(sum(np.exp(-p * k) for k in range(n)), rel=1e-13)


@pytest.mark.parametrize("n", STEPS)
def test_every_digit_at_any_rate_and_horizon(n):
    """Relative error below 1e-14 from rates of 1e-17, with equal, near and distant second rates."""
    for p in RATES:
        x = mpmath.exp(-mpmath.mpf(p))
        assert abs(geometric_sum(p, n) / divided(mpmath.mpf(1), x, n) - 1) < 1e-14
        for q in [*RATES, p * (1 + 1e-15), 2 * p]:
            y = mpmath.exp(-mpmath.mpf(q))
            exact = (divided(mpmath.mpf(1), x, n) - divided(x, y, n)) / (1 - y)
            assert abs(pair_sum(p, q, n) - exact) <= 1e-14 * abs(exact) + 1e-300


def test_the_plain_formula_would_not_do():
    """Negative control: written out in float64 the pair sum is wrong in every digit at a rate of 1e-12."""
    x, y, n = np.exp(-1e-12), np.exp(-2e-12), 1000
    plain = ((1 - x**n) / (1 - x) - (x**n - y**n) / (x - y)) / (1 - y)
    assert abs(plain / float(pair_sum(1e-12, 2e-12, n)) - 1) > 0.1


def test_endless_sums():
    for p, q in [(1e-17, 2e-17), (0.3, 1e-9), (2.0, 2.0)]:
        exact = 1 / ((1 - mpmath.exp(-mpmath.mpf(p))) * (1 - mpmath.exp(-mpmath.mpf(q))))
        assert abs(pair_sum(p, q, np.inf) / exact - 1) < 1e-14
        assert float(pair_sum(p, q, np.inf)) == float(pair_sum(q, p, np.inf))


@pytest.mark.parametrize("n", [1, 2, 3, 10, 999_999, 10**9])
def test_alternating_sum_keeps_digits_where_it_nearly_vanishes(n):
    for r in RATES:
        for y in [1e-5, 0.3, 0.97, float(np.exp(-r)), 1 - 1e-9, 1 - 1e-13]:
            if not 0 < y < 1:
                continue
            x, q = mpmath.exp(-mpmath.mpf(r)), -mpmath.mpf(y) * mpmath.exp(-mpmath.mpf(r))
            p = x * x
            exact = (1 + q) / (1 - q) * divided(mpmath.mpf(1), p, n) - 2 * q / (1 - q) * divided(p, q, n)
            assert abs(alternating_sum(r, y, n) / exact - 1) < 1e-13


def test_broadcasting():
    assert pair_sum(np.ones((3, 1)), np.ones(4), 5).shape == (3, 4)
    assert alternating_sum(np.ones((3, 1)), np.full(4, 0.5), 5).shape == (3, 4)
