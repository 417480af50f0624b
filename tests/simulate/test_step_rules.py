"""Test ``mambascope.simulate.step_rules`` by stepping the moments of modes with scaled random steps."""

import numpy as np
import pytest

from mambascope.simulate.markov_steps import markov_moments
from mambascope.simulate.modes import mixed_gain
from mambascope.simulate.random_steps import iid_moments, independent_inputs
from mambascope.simulate.scale_rules import a_rule, dt_rule, joint_rule
from mambascope.simulate.step_rules import iid_rule, markov_rule
from mambascope.simulate.step_transforms import Gamma, constant_steps, two_point_steps

DT, P = np.array([0.01, 0.5]), np.array([[0.99, 0.01], [0.02, 0.98]])
A = np.array([1e-4, 0.01, 0.1])
T, L = 64, 1024


def stepped(a, dt, steps, variance, mean):
    """Mean and variance of h under the chain, state by state: E[h; j] and E[h^2; j] one token at a time."""
    pi = np.array([2 / 3, 1 / 3])
    first, second = np.zeros(2), np.zeros(2)
    x, write = np.exp(-a * dt), dt
    for _ in range(steps):
        first_in, second_in = P.T @ first, P.T @ second
        second = x**2 * second_in + 2 * x * write * mean * first_in + write**2 * (variance + mean**2) * pi
        first = x * first_in + write * mean * pi
    return first.sum(), second.sum() - first.sum() ** 2


@pytest.mark.parametrize("mean", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["a", "dt"])
def test_markov_rules_keep_the_second_moment(kind, mean):
    found = markov_rule(kind, A, DT, P, T, L, variance=0.8, mean=mean)
    assert found.solved.all()
    for k, a in enumerate(A):
        m, v = stepped(a, DT, T, 0.8, mean)
        after_m, after_v = stepped(a * found.a[k], DT * found.dt[k], L, 0.8, mean)
        assert (after_v + after_m**2) / (v + m**2) == pytest.approx(1, abs=1e-9)
    law = two_point_steps(0.01, 0.5, 2 / 3)  # negative control: the same steps in no order
    unordered = iid_rule(kind, law, A, T, L, variance=0.8, mean=mean)
    m, v = stepped(A[2], DT, T, 0.8, mean)
    after_m, after_v = stepped(A[2] * unordered.a[2], DT * unordered.dt[2], L, 0.8, mean)
    assert abs((after_v + after_m**2) / (v + m**2) - 1) > 0.01


def test_markov_joint_keeps_mean_and_variance():
    found = markov_rule("joint", A, DT, P, T, L, variance=0.8, mean=0.3)
    assert found.solved.all()
    constant = joint_rule(A * (DT @ [2 / 3, 1 / 3]), T, L)
    for k, a in enumerate(A):
        m, v = stepped(a, DT, T, 0.8, 0.3)
        after_m, after_v = stepped(a * found.a[k], DT * found.dt[k], L, 0.8, 0.3)
        assert after_m / m == pytest.approx(1, abs=1e-9)
        assert after_v / v == pytest.approx(1, abs=1e-8)
        plain_m, plain_v = stepped(a * constant.a[k], DT * constant.dt[k], L, 0.8, 0.3)
        assert abs(plain_m / m - 1) + abs(plain_v / v - 1) > 0.01  # negative control: the mean step in the plain rule


@pytest.mark.parametrize("kind", ["a", "dt", "joint"])
def test_rules_for_ever_and_for_slow_modes(kind):
    """L = inf is the limit of long L, and rates of 1e-12 a token are solved too."""
    a = np.array([1e-12, 1e-5, 0.05])
    for end in (10**9, np.inf):
        found = markov_rule(kind, a, DT, P, 4096, end, mean=0.2)
        if kind != "dt":
            assert found.solved.all()
    if kind == "dt":  # a mean and no end: only the fast mode has a factor
        assert found.solved.tolist() == [False, False, True]
    else:
        near = markov_rule(kind, a, DT, P, 4096, 10**9, mean=0.2)
        np.testing.assert_allclose(near.rate, found.rate, rtol=1e-6)
    assert markov_rule("dt", a[1:], DT, P, 4096, np.inf).solved.all()


def test_constant_steps_are_the_plain_rules():
    for kappa in (0.0, 0.04):
        mean = np.sqrt(kappa)
        same = {"variance": 1.0, "mean": mean}
        for kind, plain in [("a", a_rule), ("dt", dt_rule)]:
            expected = plain(A, T, L, kappa).rate
            np.testing.assert_allclose(iid_rule(kind, constant_steps(1.0), A, T, L, **same).rate, expected, rtol=1e-9)
            np.testing.assert_allclose(markov_rule(kind, A, [1.0, 1.0], P, T, L, **same).rate, expected, rtol=1e-9)
    expected = joint_rule(A, T, L)
    found = iid_rule("joint", constant_steps(1.0), A, T, L, mean=0.2)
    np.testing.assert_allclose(found.rate, expected.rate, rtol=1e-9)
    np.testing.assert_allclose(found.gain, expected.gain, rtol=1e-9)


@pytest.mark.parametrize("kind", ["a", "dt"])
@pytest.mark.parametrize("length", [8192, np.inf])
def test_iid_rules_keep_the_second_moment(kind, length):
    law, a = Gamma(0.5, 0.1), np.array([1e-3, 0.01, 0.1])
    found = iid_rule(kind, law, a, 512, length)
    before = iid_moments(independent_inputs(law, a), 512).second
    after = [
        float(iid_moments(independent_inputs(law, a[k] * found.a[k], step_factor=found.dt[k]), length).second)
        for k in range(3)
    ]
    np.testing.assert_allclose(after / before, 1, rtol=0, atol=1e-12)


def test_iid_rule_needs_more_than_the_mean_step_for_broad_laws():
    """Gamma steps: plugging in the mean misses by more the fewer large steps fall into T."""
    law = Gamma(0.02, 2.5)  # mean .05, rare and large
    errors = []
    for train in (512, 51_200):
        a = 0.5 / (law.mean * train)  # tau = 2 T
        plain = a_rule(a * law.mean, train, 16 * train, 0.0).rate
        assert iid_rule("a", law, a, train, 16 * train).solved
        before = iid_moments(independent_inputs(law, a), train).second
        after = iid_moments(independent_inputs(law, a * plain), 16 * train).second
        errors.append(abs(float(after / before) - 1))
    assert errors[0] > 5e-3
    assert errors[0] > 50 * errors[1]


def test_narrow_steps_reach_the_plain_rule_as_the_spread_shrinks():
    errors = []
    for shape in (1.0, 100.0, 1e4):
        law = Gamma(shape, 1 / shape)
        errors.append(abs(float(iid_rule("a", law, 0.01, T, L).rate / a_rule(0.01, T, L, 0.0).rate) - 1))
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert float(mixed_gain(0.01, T, 0.0)) > 1


def test_joint_without_a_mean_is_the_limit_of_a_small_one_and_keeps_the_variance():
    found = markov_rule("joint", A, DT, P, T, L)
    faint = markov_rule("joint", A, DT, P, T, L, mean=1e-5)
    np.testing.assert_allclose(found.rate, faint.rate, rtol=1e-6)
    np.testing.assert_allclose(found.gain, faint.gain, rtol=1e-6)
    kept = found.gain**2 * markov_moments(found.rate * A, DT, P, L).second
    np.testing.assert_allclose(kept, markov_moments(A, DT, P, T).second, rtol=1e-9)
    unchanged = markov_moments(A, DT, P, L).second  # the control
    assert (unchanged > 1.05 * markov_moments(A, DT, P, T).second).any()


def test_refusals():
    with pytest.raises(ValueError, match="joint"):
        iid_rule("joint", constant_steps(1.0), A, T, L, mean=np.where(A.max() == A, 1.0, 0.0))
    with pytest.raises(ValueError, match="joint"):
        iid_rule("joint", constant_steps(1.0), A, T, L, variance=0.0, mean=1.0)
    with pytest.raises(ValueError, match="2 <= T <= L"):
        iid_rule("a", constant_steps(1.0), A, L, T)
