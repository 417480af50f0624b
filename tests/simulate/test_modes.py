"""Test ``mambascope.simulate.modes`` against the recurrence itself and against hand-worked numbers."""

import numpy as np
import pytest

from mambascope.simulate.modes import (
    energy_gain,
    first_moment,
    mean_gain,
    mixed_gain,
    overshoot,
    overshoot_mixed,
    second_moment,
    soft_clip,
    write_gain,
)


def moments_by_recurrence(rate, steps):
    """Run variance and mean of h = e^-r h + u for unit white noise and for u = 1."""
    decay, variance, mean = np.exp(-rate), 0.0, 0.0
    for _ in range(steps):
        variance, mean = decay**2 * variance + 1, decay * mean + 1
    return variance, mean


@pytest.mark.parametrize("rate", [0.0, 1e-9, 1e-4, 0.03, 1.0, 50.0])
@pytest.mark.parametrize("steps", [1, 2, 17, 1000])
def test_gains_equal_the_recurrence(rate, steps):
    variance, mean = moments_by_recurrence(rate, steps)
    assert float(energy_gain(rate, steps)) == pytest.approx(variance, rel=1e-10)
    assert float(mean_gain(rate, steps)) == pytest.approx(mean, rel=1e-10)


def test_gains_by_hand():
    assert float(energy_gain(np.log(2) / 2, 3)) == pytest.approx(1 + 1 / 2 + 1 / 4)
    assert float(mean_gain(np.log(2), 3)) == pytest.approx(1 + 1 / 2 + 1 / 4)
    assert float(energy_gain(np.log(2) / 2, np.inf)) == pytest.approx(2)


def test_rates_below_the_resolution_of_a_decay_keep_their_digits():
    """1 - 1e-17 is 1 in float64, yet a mode of that rate has grown to a billion after as many steps."""
    assert float(energy_gain(1e-17, 1e9)) == pytest.approx(1e9, rel=1e-7)
    assert float(energy_gain(1e-9, np.inf)) == pytest.approx(0.5e9, rel=1e-8)


def test_monte_carlo_agrees_with_the_gain():
    """20,000 runs: the squared final state has a relative standard error of sqrt(2/20000) = 1 %; 6 sigma allowed."""
    rng = np.random.default_rng(0)
    rate, steps, h = 0.02, 60, np.zeros(20_000)
    for _ in range(steps):
        h = np.exp(-rate) * h + rng.standard_normal(h.size)
    found = np.mean(h**2) / float(energy_gain(rate, steps))
    assert abs(found - 1) < 0.06
    wrong = np.mean(h**2) / float(energy_gain(rate, np.inf))  # negative control: the stationary value does not fit
    assert abs(wrong - 1) > 0.06


def test_overshoot_is_bounded_by_the_ratio_of_lengths():
    rates = np.geomspace(1e-14, 10, 50)
    noise, coherent = overshoot(rates, 256, 16384, "noise"), overshoot(rates, 256, 16384)
    assert np.all((noise >= 1) & (noise <= 64 * (1 + 1e-12)))
    assert np.all((coherent >= 1) & (coherent <= 64**2 * (1 + 1e-12)))
    assert noise[0] == pytest.approx(64)
    assert coherent[0] == pytest.approx(64**2)
    assert coherent[-1] == pytest.approx(1)


@pytest.mark.parametrize("inputs", ["noise", "coherent"])
def test_soft_clip_keeps_the_final_size_at_the_trained_size(inputs):
    """With s on its rate, a mode at length infinity is as large as the unscaled mode at T, to O(rate)."""
    rates = np.geomspace(1e-7, 1e-3, 30)
    s = soft_clip(rates, 256, inputs)
    gain = energy_gain if inputs == "noise" else mean_gain
    np.testing.assert_allclose(gain(s * rates, np.inf), gain(rates, 256), rtol=0.01)
    assert np.all(np.diff(s) < 0)


def test_soft_clip_bounds_the_horizon_and_spares_short_ones():
    tau = np.array([1.0, 25.0, 256.0, 1e4, 1e9])
    after = tau / soft_clip(1 / tau, 256)
    assert np.all(after <= 256)
    assert after[1] == pytest.approx(25, rel=1e-4)
    assert after[2] == pytest.approx(256 * (1 - np.exp(-1)))
    assert np.all(tau / soft_clip(1 / tau, 256, "noise") <= 512)


@pytest.mark.parametrize(
    ("a", "dt", "level"),
    [
        (1, 0.01, 0.00505017),
        (1, 0.1, 0.0551666),
        (1, 0.5, 0.395494),
        (1, 2, 4.07463),
        (1, 6, 36.0002),
        (0.1, 0.1, 0.505017),
    ],
)
def test_stationary_level_with_the_euler_gain(a, dt, level):
    """dt^2 / (1 - e^{-2 a dt}); with one factor dt only, as printed in the paper, it would be off by 1/dt."""
    found = float(write_gain(a, dt) ** 2 * energy_gain(a * dt, np.inf))
    assert found == pytest.approx(level, rel=2e-6)
    if dt != 1:
        assert float(write_gain(a, dt) * energy_gain(a * dt, np.inf)) != pytest.approx(level, rel=0.5)


def test_zero_order_hold_is_the_differential_equation():
    """h' = -a h + b u integrated over a step in 100,000 pieces, against Euler's one."""
    a, dt, b, pieces = 1.7, 0.3, 0.8, 100_000
    h = 0.0
    for _ in range(pieces):
        h += dt / pieces * (b - a * (h + dt / pieces * (b - a * h) / 2))
    assert float(write_gain(a, dt, "zoh")) * b == pytest.approx(h, rel=1e-9)
    assert float(write_gain(a, dt)) * b == pytest.approx(0.24)
    r = np.array([0.01, 0.1, 1, 5])
    ratio = np.square(write_gain(r, 1.0) / write_gain(r, 1.0, "zoh"))
    np.testing.assert_allclose(ratio, [1.01, 1.10, 2.50, 25], rtol=0.02)
    assert float(write_gain(0.0, 0.3, "zoh")) == 0.3


def second_moment_by_recurrence(rate, steps, variance, mean, rho):
    """Step E h, E h^2 and E h e together: e_t = rho e_{t-1} + fresh noise, h_t = x h_{t-1} + mean + e_t."""
    x, first, square, with_input, variance_h = np.exp(-rate), 0.0, 0.0, 0.0, 0.0
    for _ in range(steps):
        before = rho * with_input  # E[h_{t-1} e_t], mean taken out
        variance_h = x**2 * variance_h + 2 * x * before + variance
        with_input = x * before + variance
        first = x * first + mean
        square = variance_h + first**2
    return first, square


@pytest.mark.parametrize("rate", [1e-9, 1e-3, 0.03, 0.5, 4.0])
@pytest.mark.parametrize("rho", [0.0, 0.8, -0.6, 0.999, -0.999, "decay", "minus decay"])
def test_second_moment_equals_the_recurrence(rate, rho):
    rho = {"decay": np.exp(-rate), "minus decay": -np.exp(-rate)}.get(rho, rho)
    for steps in [1, 2, 3, 50, 777]:
        first, square = second_moment_by_recurrence(rate, steps, 0.7, 0.2, rho)
        assert float(second_moment(rate, steps, variance=0.7, mean=0.2, rho=rho)) == pytest.approx(square, rel=1e-10)
        assert float(first_moment(rate, steps, mean=0.2)) == pytest.approx(first, rel=1e-11)
        if abs(rho) > 0.1 and steps > 1 and rate < 1:
            white = float(second_moment(rate, steps, variance=0.7, mean=0.2))
            assert abs(white / square - 1) > 1e-3  # negative control: correlation counts


@pytest.mark.parametrize(
    ("decay", "rho", "mean", "value"),
    [
        (0.97, 0, 0, 16.9205),
        (0.97, 0.8, 0, 134.155),
        (0.97, 0, 0.3, 116.920),
        (0.99, 0.5, 0.1, 248.764),
        (0.9, -0.6, 0.2, 5.57211),
    ],
)
def test_stationary_second_moment_by_hand(decay, rho, mean, value):
    found = float(second_moment(-np.log(decay), np.inf, mean=mean, rho=rho))
    assert found == pytest.approx(value, rel=5e-6)
    assert float(second_moment(-np.log(decay), 1e9, mean=mean, rho=rho)) == pytest.approx(found, rel=1e-12)


def test_slow_modes_see_the_long_run_variance():
    """S(0) / (2 r) with S(0) = (1 + rho) / (1 - rho), plus mu^2 / r^2."""
    for rho in (0.9, -0.9):
        expected = (1 + rho) / (1 - rho) / 2e-9 + 0.01 / 1e-18
        assert float(second_moment(1e-9, np.inf, mean=0.1, rho=rho)) == pytest.approx(expected, rel=1e-7)


def test_mixed_gain_weighs_noise_and_mean():
    rates = np.geomspace(1e-17, 5, 40)
    for kappa in (0.0, 1e-17, 0.05, 3.0):
        whole = second_moment(rates, 1e9, mean=np.sqrt(kappa)) / (1 + kappa)
        np.testing.assert_allclose(mixed_gain(rates, 1e9, kappa), whole, rtol=1e-13)
    np.testing.assert_array_equal(mixed_gain(rates, 300, np.inf), np.square(mean_gain(rates, 300)))
    coherence = np.square(mean_gain(rates, 300)) / energy_gain(rates, 300)
    np.testing.assert_allclose(coherence, np.tanh(rates * 150) / np.tanh(rates / 2), rtol=1e-12)


def test_overshoot_mixed_lies_between_noise_and_a_constant():
    rates = np.geomspace(1e-12, 1, 40)
    noise, constant = overshoot(rates, 256, 8192, "noise"), overshoot(rates, 256, 8192)
    np.testing.assert_allclose(overshoot_mixed(rates, 256, 8192, 0.0), noise, rtol=1e-14)
    np.testing.assert_allclose(overshoot_mixed(rates, 256, 8192, np.inf), constant, rtol=1e-14)
    mixed = overshoot_mixed(rates, 256, 8192, 0.01)
    assert np.all((mixed >= noise * (1 - 1e-14)) & (mixed <= constant * (1 + 1e-14)))
    assert mixed[0] > 2 * noise[0]


@pytest.mark.parametrize(
    ("tau_over_train", "noise", "noise_32", "coherent", "coherent_32"),
    [
        (0.5, 1.019, 1.019, 1.34, 1.34),
        (1, 1.157, 1.157, 2.50, 2.50),
        (2, 1.582, 1.582, 6.46, 6.46),
        (5, 3.03, 3.03, 30.4, 30.3),
        (10, 5.52, 5.51, 110, 102),
        (100, 50.5, 23.9, 10100, 757),
    ],
)
def test_overshoot_of_slow_modes(tau_over_train, noise, noise_32, coherent, coherent_32):
    rate, train = 1e-6 / tau_over_train, 1e6
    found = [
        float(overshoot(rate, train, end, inputs)) for inputs in ("noise", "coherent") for end in (np.inf, 32 * train)
    ]
    assert found == pytest.approx([noise, noise_32, coherent, coherent_32], rel=6e-3)
