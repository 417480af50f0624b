"""Test ``mambascope.simulate.roots`` on functions whose roots are known."""

import numpy as np
import pytest

from mambascope.simulate.roots import solve_factor


@pytest.mark.parametrize("power", [-3.0, -0.2, 0.1, 1.0, 7.0])
def test_powers_rising_and_falling(power):
    roots = np.geomspace(1e-8, 1e8, 33)
    found = solve_factor(lambda s: s**power, roots**power, 1e-9, 1e9)
    np.testing.assert_allclose(found.factor, roots, rtol=1e-13)
    assert found.solved.all()


def test_kinks_and_plateaus():
    """Flat to the left of 1, then falling to a floor: every root on the slope is found, none is invented."""
    found = solve_factor(lambda s: 0.1 + np.minimum(1.0, s**-6), np.array([0.9, 0.2, 0.1001, 0.05, 1.1]), 1e-3, 1e3)
    np.testing.assert_allclose(found.factor[:3], [0.8 ** (-1 / 6), 0.1 ** (-1 / 6), 1e-4 ** (-1 / 6)], rtol=1e-9)
    assert found.solved.tolist() == [True, True, True, False, True]
    assert found.factor[3] == 1


def test_few_evaluations():
    calls = []

    def quantity(s):
        calls.append(1)
        return -np.expm1(-s) / s

    found = solve_factor(quantity, -np.expm1(-0.37) / 0.37, 1e-12, 1e12)
    assert float(found.factor) == pytest.approx(0.37, rel=1e-12)
    assert len(calls) < 20  # halving alone takes 55


def test_ends_of_the_bracket_count():
    found = solve_factor(lambda s: s, [1.0, 4.0], 1.0, 4.0)
    np.testing.assert_allclose(found.factor, [1, 4], rtol=1e-15)
    assert found.solved.all()
    assert not solve_factor(lambda s: s, 5.0, 1.0, 4.0).solved


def test_the_start_wins_where_everything_fits():
    """A quantity that is flat up to rounding: no change is the answer, and it counts as solved."""
    for start, stop in [(1.0, 1e6), (1.0, 1e-6)]:
        found = solve_factor(lambda s: np.where(np.abs(np.log(s)) < 1, 1.0, 1 / s), 1 + 2e-16, start, stop)
        assert float(found.factor) == 1
        assert found.solved
    just_missed = solve_factor(lambda s: 1 / s, 1 + 4e-16, 1.0, 1e6)  # the root lies a rounding outside
    assert just_missed.solved
    assert float(just_missed.factor) == pytest.approx(1, abs=1e-14)
