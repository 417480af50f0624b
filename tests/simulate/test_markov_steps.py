"""Test ``mambascope.simulate.markov_steps`` against all paths of a chain, stepped moments and 60-digit powers."""

import itertools

import mpmath
import numpy as np
import pytest

from mambascope.simulate.markov_steps import markov_moments, stationary_law
from mambascope.simulate.modes import first_moment, second_moment
from mambascope.simulate.random_steps import iid_moments, independent_inputs
from mambascope.simulate.step_transforms import two_point_steps

STICKY = np.array([[0.99, 0.01], [0.02, 0.98]])
THREE = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.7, 0.0, 0.3]])


def test_sticky_steps_by_hand():
    found = float(markov_moments(1.0, [0.01, 0.5], STICKY, np.inf).second)
    assert found == pytest.approx(0.219714, abs=5e-7)
    independent = iid_moments(independent_inputs(two_point_steps(0.01, 0.5, 2 / 3), 1.0), np.inf)
    assert float(independent.second) == pytest.approx(0.3725, abs=5e-5)  # negative control: order counts
    np.testing.assert_allclose(stationary_law(STICKY), [2 / 3, 1 / 3], rtol=1e-15)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_moments_equal_the_sum_over_all_paths(steps):
    """Every sequence of states with its probability; given it, h is a sum with known mean and variance."""
    a, dt, mean, variance = 1.3, np.array([0.05, 0.4, 1.1]), np.array([0.5, -0.2, 0.1]), np.array([1.0, 0.3, 2.0])
    pi = stationary_law(THREE)
    first = second = transposed = 0.0
    for path in itertools.product(range(3), repeat=steps):
        p = pi[path[0]] * np.prod([THREE[i, j] for i, j in itertools.pairwise(path)])
        q = pi[path[0]] * np.prod([THREE[j, i] for i, j in itertools.pairwise(path)])
        m = v = 0.0
        for state in path:
            x = np.exp(-a * dt[state])
            m, v = x * m + dt[state] * mean[state], x**2 * v + dt[state] ** 2 * variance[state]
        first, second, transposed = first + p * m, second + p * (m**2 + v), transposed + q * (m**2 + v)
    found = markov_moments(a, dt, THREE, steps, variance=variance, mean=mean)
    assert float(found.mean) == pytest.approx(first, rel=1e-13)
    assert float(found.second) == pytest.approx(second, rel=1e-13)
    if steps > 2:  # negative control: the transposed chain is another one
        assert abs(transposed / second - 1) > 1e-3


def test_a_chain_without_memory_is_independent_steps():
    rates = np.array([1e-13, 1e-6, 0.01, 1.0, 60.0])
    chain, law = [[0.3, 0.7], [0.3, 0.7]], two_point_steps(0.01, 0.5, 0.3)
    for steps in (1, 2, 1000, 10**9, np.inf):
        found = markov_moments(rates, [0.01, 0.5], chain, steps, mean=0.2, variance=0.5)
        expected = iid_moments(independent_inputs(law, rates, mean=0.2, variance=0.5), steps)
        np.testing.assert_allclose(found.second, expected.second, rtol=1e-12)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)


@pytest.mark.parametrize("rate", [1e-17, 1e-12, 1e-6, 0.1])
def test_equal_steps_are_the_plain_mode(rate):
    for steps in (3, 10**9 - 1, np.inf):
        found = markov_moments(rate, [1.0, 1.0, 1.0], THREE, steps, mean=-0.3)
        assert float(found.second) == pytest.approx(float(second_moment(rate, steps, mean=-0.3)), rel=1e-12)
        assert float(found.mean) == pytest.approx(float(first_moment(rate, steps, mean=-0.3)), rel=1e-12)


@pytest.mark.parametrize("a", [1e-12, 1e-9, 1e-5, 1.0])
@pytest.mark.parametrize("steps", [5, 10**6 + 1, 10**9])
def test_long_horizons_against_sixty_digits(a, steps):
    dt, mean = [0.01, 0.5], 0.4
    with mpmath.workdps(60):
        P = mpmath.matrix([[mpmath.mpf(99) / 100, mpmath.mpf(1) / 100], [mpmath.mpf(2) / 100, mpmath.mpf(98) / 100]])
        big = mpmath.zeros(6, 6)  # rows (v, m, pi)
        for i, j in itertools.product(range(2), repeat=2):
            x, d = mpmath.exp(-mpmath.mpf(a) * mpmath.mpf(dt[j])), mpmath.mpf(dt[j])
            big[i, j] = P[i, j] * x**2
            big[2 + i, 2 + j] = P[i, j] * x
            big[4 + i, 4 + j] = P[i, j]
            big[2 + i, j] = 2 * P[i, j] * x * d * mpmath.mpf(mean)
            big[4 + i, 2 + j] = P[i, j] * d * mpmath.mpf(mean)
            big[4 + i, j] = P[i, j] * d**2 * (1 + mpmath.mpf(mean) ** 2)
        row = mpmath.matrix([[0, 0, 0, 0, mpmath.mpf(2) / 3, mpmath.mpf(1) / 3]]) * big**steps
        exact = float(row[0] + row[1]), float(row[2] + row[3])
    found = markov_moments(a, dt, STICKY, steps, mean=mean)
    assert (float(found.second), float(found.mean)) == pytest.approx(exact, rel=1e-11)
    if a == 1e-12 and steps == 10**9:  # negative control: float64 matrices as they stand lose the decay
        x = np.exp(-a * np.array(dt))
        plain = np.linalg.matrix_power(STICKY * x, steps).sum()
        assert abs(plain / np.exp(-2 * a * steps * (0.02 / 3 + 0.5 / 3)) - 1) > 1e-9


def test_against_simulation():
    """20,000 runs of 200 tokens: within 6 standard errors (false alarm 2e-9)."""
    rng = np.random.default_rng(3)
    h, state = np.zeros(20_000), rng.choice(2, 20_000, p=[2 / 3, 1 / 3])
    dt = np.array([0.01, 0.5])
    for _ in range(200):
        h = np.exp(-dt[state]) * h + dt[state] * rng.standard_normal(h.size)
        state = np.where(rng.random(h.size) < STICKY[state, 0], 0, 1)
    error = np.std(h**2) / np.sqrt(h.size)
    assert abs(np.mean(h**2) - float(markov_moments(1.0, dt, STICKY, 200).second)) < 6 * error
    assert abs(np.mean(h**2) - 0.3725) > 6 * error


def test_per_mode_inputs_broadcast():
    found = markov_moments([0.1, 0.2], [0.01, 0.5], STICKY, 50, mean=[[0.1], [0.7]], variance=[[1.0], [2.0]])
    alone = markov_moments(0.2, [0.01, 0.5], STICKY, 50, mean=0.7, variance=2.0)
    assert float(found.second[1]) == pytest.approx(float(alone.second), rel=1e-14)


def test_stationary_law_of_rare_states_and_periodic_chains():
    rare = stationary_law([[1 - 1e-12, 1e-12], [0.5, 0.5]])
    assert rare[1] == pytest.approx(2e-12, rel=1e-10)
    np.testing.assert_allclose(stationary_law([[0, 1], [1, 0]]), [0.5, 0.5])
    np.testing.assert_allclose(stationary_law(THREE) @ THREE, stationary_law(THREE), rtol=1e-14)
    periodic = markov_moments(1.0, [0.1, 0.5], [[0, 1], [1, 0]], np.inf)
    x, y = np.exp(-0.2), np.exp(-1.0)
    after_small, after_large = (0.01 + x * 0.25) / (1 - x * y), (0.25 + y * 0.01) / (1 - x * y)
    assert float(periodic.second) == pytest.approx((after_small + after_large) / 2, rel=1e-13)


@pytest.mark.parametrize(
    ("a", "dt", "transition", "steps"),
    [
        (0.0, [0.1, 0.2], STICKY, 5),
        (1.0, [0.0, 0.0], STICKY, 5),
        (1.0, [0.1, 0.2], STICKY, 2.5),
        (1.0, [0.1, 0.2], STICKY, 0),
        (1.0, [0.1, 0.2], [[0.5, 0.4], [0.5, 0.5]], 5),
        (1.0, [0.1, 0.2], [[0.5, 0.5], [0.0, 1.0]], 5),
    ],
)
def test_refusals(a, dt, transition, steps):
    with pytest.raises(ValueError, match="expected"):
        markov_moments(a, dt, transition, steps)
