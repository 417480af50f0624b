"""Test ``mambascope.simulate.modes`` against the recurrence itself and against hand-worked numbers."""

import numpy as np
import pytest

from mambascope.simulate import energy_gain, mean_gain, overshoot, soft_clip


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
