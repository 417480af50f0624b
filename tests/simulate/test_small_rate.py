"""Test ``mambascope.simulate.small_rate``: the closed forms are the limit of the exact rules."""

import mpmath
import numpy as np
import pytest

from mambascope.simulate.modes import soft_clip
from mambascope.simulate.scale_rules import a_rule, dt_rule, joint_rule
from mambascope.simulate.small_rate import small_rate_a, small_rate_dt, small_rate_joint

TAUS = np.array([0.05, 0.3, 0.5, 2.0, 20.0, 1e4, 1e9])
KAPPA = {"noise": 0.0, "coherent": np.inf}


@pytest.mark.parametrize("inputs", ["noise", "coherent"])
@pytest.mark.parametrize("times", [2, 16, 1e6, np.inf])
def test_a_is_the_limit_of_the_exact_rule(inputs, times):
    train = 1e9
    rates = 1 / (TAUS * train)
    exact = a_rule(rates, train, times * train, KAPPA[inputs]).rate
    np.testing.assert_allclose(small_rate_a(rates, train, times * train, inputs), exact, rtol=1e-7)
    other = "noise" if inputs == "coherent" else "coherent"  # negative control
    assert np.abs(small_rate_a(rates, train, times * train, other) / exact - 1).max() > 0.1


def test_lambert_solves_the_equation_at_fifty_digits():
    """(1 - e^{-s k}) / s = c with k = 2 theta L/T, for theta from 1e-6 to 20."""
    for theta in (1e-6, 0.05, 0.5, 2.0, 20.0):
        for times in (1.5, 16.0, 1e4):
            s = float(small_rate_a(theta / 1000, 1000, times * 1000, "noise"))
            with mpmath.workdps(50):
                c, k = -mpmath.expm1(-2 * mpmath.mpf(theta)), 2 * mpmath.mpf(theta) * mpmath.mpf(times)
                exact = mpmath.findroot(lambda z, c=c, k=k: -mpmath.expm1(-z * k) / z - c, mpmath.mpf(s))
            assert s == pytest.approx(float(exact), rel=1e-11)
            assert float(exact) > 0.99


def test_dt_and_joint_are_the_limit_of_the_exact_rules():
    train = 1e9
    rates = 1 / (TAUS[1:5] * train)
    np.testing.assert_allclose(small_rate_dt(rates, train, 16 * train), dt_rule(rates, train, 16 * train).dt, rtol=1e-7)
    noise = small_rate_dt(rates, train, np.inf, "noise")
    np.testing.assert_allclose(noise, dt_rule(rates, train, np.inf, 0.0).dt, rtol=1e-7)
    np.testing.assert_allclose(noise * soft_clip(rates, train, "noise"), 1)
    assert small_rate_dt(rates, train, np.inf).tolist() == [0] * 4
    exact, closed = joint_rule(rates, train, np.inf), small_rate_joint(rates, train)
    np.testing.assert_allclose(closed.rate, exact.rate, rtol=1e-7)
    np.testing.assert_allclose(closed.gain, exact.gain, rtol=1e-7)
    with pytest.raises(ValueError, match="dt_rule"):
        small_rate_dt(rates, train, 2 * train, "noise")


def test_unsaturated_noise_scales_dt_by_the_root_of_the_lengths():
    assert dt_rule(1e-15, 256, 4096, 0.0).dt == pytest.approx(16**-0.5, rel=1e-6)
