"""Test ``mambascope.simulate.growth``: what it calls saturated is, and its divergence is the one of the textbooks."""

import mpmath
import numpy as np
import pytest

from mambascope.simulate.growth import divergence, growth_exponent, horizon_steps_to
from mambascope.simulate.modes import first_moment, overshoot, second_moment


@pytest.mark.parametrize("inputs", ["noise", "coherent"])
def test_horizon_leaves_exactly_the_asked_for_excess(inputs):
    rates, excess = np.array([[1e-15], [1e-6], [0.3]]), np.array([1e-9, 0.01, 0.5, 10.0])
    steps = horizon_steps_to(rates, excess, inputs)
    left = [overshoot(r, t, np.inf, inputs) - 1 for r, row in zip(rates.ravel(), steps, strict=True) for t in row]
    np.testing.assert_allclose(np.reshape(left, steps.shape), np.broadcast_to(excess, steps.shape), rtol=1e-6)


def test_horizon_by_hand():
    found = [
        [round(float(1 / horizon_steps_to(1.0, e, i)), 2) for e in (0.01, 0.1, 0.5)] for i in ("noise", "coherent")
    ]
    assert found == [[0.43, 0.83, 1.82], [0.19, 0.33, 0.59]]


def test_growth_exponent_names_the_regime():
    exponent = growth_exponent([1.0, 1e-9, 1e-9], 1000, 2000, mean=[0, 0, 1], variance=[1, 1, 0])
    np.testing.assert_allclose(exponent, [0, 1, 2], atol=1e-5)


def test_no_stationary_input_grows_by_more_than_the_doubling_bound():
    rng = np.random.default_rng(0)
    rate, rho = 10 ** rng.uniform(-6, 1, 3000), rng.uniform(-0.9999, 0.9999, 3000)
    steps = 2.0 ** rng.integers(0, 18, 3000)
    found = growth_exponent(
        rate, steps, 2 * steps, variance=rng.uniform(0, 1, 3000), mean=rng.normal(size=3000), rho=rho
    )
    assert found.max() <= 2 + 1e-12
    assert found.max() > 1.9
    late = second_moment(0.001, 100, mean=5) + second_moment(0.001, 100)  # negative control: inputs grow after T
    assert np.log2(float(late / second_moment(0.001, 100))) > 2


@pytest.mark.parametrize("rate", [1e-12, 1e-4, 0.01, 0.2])
@pytest.mark.parametrize("mean", [0.0, 0.3])
def test_divergence_is_that_of_two_normal_laws(rate, mean):
    """Against quadrature of p ln(p/q) at 30 digits, moments from the recurrence at T = 64 and L = 256."""
    moments = []
    for steps in (64, 256):
        x, v, m = np.exp(-rate), 0.0, 0.0
        for _ in range(steps):
            v, m = x * x * v + 1, x * m + mean
        moments.append((m, v))
    (m0, v0), (m1, v1) = moments
    with mpmath.workdps(30):
        sd = mpmath.sqrt(v1)

        def integrand(z):
            at = m1 + sd * z
            log_ratio = mpmath.log(v0 / v1) / 2 - z * z / 2 + (at - m0) ** 2 / (2 * v0)
            return mpmath.npdf(z) * log_ratio

        exact = float(mpmath.quad(integrand, [-12, 0, 12]))
    assert float(divergence(rate, 64, 256, mean=mean)) == pytest.approx(exact, rel=1e-9, abs=1e-13)


def test_divergence_keeps_its_digits_near_zero_and_at_infinity():
    rate, train = 0.05, 200
    y = np.exp(-2 * rate * train)  # v_L / v_T - 1 = y / (1 - y) at L = inf
    assert float(divergence(rate, train, np.inf)) == pytest.approx((y / (1 - y)) ** 2 / 4, rel=1e-5)
    for steps in (60, 75, 80, 120):  # v_L / v_T - 1 from 2e-3 over the seam of the series at 1e-3 to 6e-6
        y = np.exp(-0.1 * steps) / -np.expm1(-0.1 * steps)
        exact = float((mpmath.mpf(y) - mpmath.log1p(y)) / 2)
        assert float(divergence(rate, steps, np.inf)) == pytest.approx(exact, rel=1e-9)
    assert float(divergence(1.0, 1000, np.inf, mean=1)) == 0
    slow = divergence(1e-12, 256, [256, 512, 4096], mean=0.1)
    assert slow[0] == 0
    assert np.all(np.diff(slow) > 0)
    gap = first_moment(1e-12, 4096, mean=0.1) - first_moment(1e-12, 256, mean=0.1)
    assert slow[-1] == pytest.approx((15 - np.log(16) + gap**2 / 256) / 2, rel=1e-8)


def test_divergence_of_the_synthetic_layer():
    """128 modes, tau log-uniform on 1..1e5, T = 2048, L = 32 T: .63 and 2188, between two ways to grid it."""
    ends = np.geomspace(1, 1e5, 128)
    middles = 10 ** (5 * (np.arange(128) + 0.5) / 128)
    noise = [divergence(1 / tau, 2048, 65536).mean() for tau in (middles, ends)]
    mixed = [divergence(1 / tau, 2048, 65536, mean=np.sqrt(0.05)).mean() for tau in (middles, ends)]
    assert noise[0] < 0.63 < noise[1] < 0.64
    assert mixed[0] < 2188 < mixed[1] < 2230
