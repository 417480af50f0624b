"""Test ``mambascope.simulate.scale_rules`` by stepping the moments of scaled modes, and against 50-digit arithmetic."""

import mpmath
import numpy as np
import pytest

from mambascope.simulate.modes import energy_gain, mean_gain, mixed_gain
from mambascope.simulate.scale_rules import a_rule, dt_rule, joint_rule, onset_rule, scale_rule

T = 256
TAUS = np.array([0.5, 2.0, 20.0])
RATES = 1 / (TAUS * T)
KAPPAS = [0.0, 1e-17, 0.05, 3.0, np.inf]


def stepped(rate, gain, steps, variance=0.0, mean=0.0):
    """Variance under unit noise and mean under the input 1, by the recurrence, from the given ones on."""
    x = np.exp(-rate)
    for _ in range(steps):
        variance, mean = x * x * variance + gain**2, x * mean + gain
    return variance, mean


def size(variance, mean, kappa):
    return mean**2 if kappa == np.inf else variance + kappa * mean**2


def exact_size(rate, gain, kappa):
    """Stationary size at 50 digits."""
    with mpmath.workdps(50):
        r, g = mpmath.mpf(float(rate)), mpmath.mpf(float(gain))
        noise, coherent = g**2 / -mpmath.expm1(-2 * r), (g / mpmath.expm1(-r)) ** 2
        return coherent if kappa == np.inf else noise + mpmath.mpf(kappa) * coherent


@pytest.mark.parametrize("kappa", KAPPAS)
@pytest.mark.parametrize("kind", ["a", "dt"])
def test_size_at_the_target_is_the_size_at_training(kind, kappa):
    before = size(*stepped(RATES, 1.0, T), kappa)
    found = scale_rule(kind, RATES, T, 16 * T, kappa)
    after = size(*stepped(found.rate * RATES, found.gain, 16 * T), kappa)
    assert found.solved.all()
    np.testing.assert_allclose(after / before, 1, rtol=0, atol=1e-9)
    assert np.all(found.rate >= 1) if kind == "a" else np.all(found.rate <= 1)
    raw = size(*stepped(RATES, 1.0, 16 * T), kappa)  # negative control: unscaled, and scaled by the other rule
    assert raw[-1] / before[-1] > 5
    other = size(*stepped(found.rate * RATES, 1.0 if kind == "dt" else found.rate, 16 * T), kappa)
    assert np.all(np.abs(other / before - 1) > 1e-3)


@pytest.mark.parametrize("kappa", KAPPAS)
@pytest.mark.parametrize("kind", ["a", "dt"])
def test_size_for_ever_is_the_size_at_training(kind, kappa):
    before = size(*stepped(RATES, 1.0, T), kappa)
    found = scale_rule(kind, RATES, T, np.inf, kappa)
    for s, g, r, b, solved in zip(found.rate, found.gain, RATES, before, found.solved, strict=True):
        if solved:
            assert float(exact_size(s * r, g, kappa) / b) == pytest.approx(1, rel=1e-9)
    assert found.solved.all() == (kind == "a" or kappa in {0, 1e-17})


def test_joint_keeps_mean_and_variance():
    v, m = stepped(RATES, 1.0, T)
    for end in (2 * T, 16 * T):
        found = joint_rule(RATES, T, end)
        after_v, after_m = stepped(found.rate * RATES, found.gain, end)
        np.testing.assert_allclose(after_v / v, 1, rtol=0, atol=1e-9)
        np.testing.assert_allclose(after_m / m, 1, rtol=0, atol=1e-9)
        a, dt = 1.3 * found.a, RATES / 1.3 * found.dt  # the two knobs give the same mode
        np.testing.assert_allclose(stepped(a * dt, found.dt, end), [after_v, after_m], rtol=1e-12)
        alone_v, alone_m = stepped(a_rule(RATES, T, end, 0.0).rate * RATES, 1.0, end)  # negative control: one knob
        np.testing.assert_allclose(alone_v / v, 1, atol=1e-9)
        assert np.all(np.abs(alone_m / m - 1) > 1e-3)
    forever = joint_rule(RATES, T, np.inf)
    for s, g, r, v0, m0 in zip(forever.rate, forever.gain, RATES, v, m, strict=True):
        assert float(exact_size(s * r, g, 0) / v0) == pytest.approx(1, rel=1e-9)
        assert float(exact_size(s * r, g, np.inf) / m0**2) == pytest.approx(1, rel=1e-9)


def test_factors_by_hand():
    np.testing.assert_allclose(a_rule(RATES, T, 16 * T, 0.0).rate, [1.01881, 1.58378, 10.528], rtol=2e-5)
    np.testing.assert_allclose(dt_rule(RATES, T, 16 * T, 0.0).dt, [0.98, 0.63, 0.27], atol=5e-3)
    np.testing.assert_allclose(a_rule(RATES, T, 16 * T).rate, [1.157, 2.541, 20.50], rtol=3e-3)
    found = joint_rule(1 / np.array([60.0, 200, 2000]), 200, 2400)
    np.testing.assert_allclose(found.rate, [1.074, 2.164, 20.02], atol=5e-3)
    np.testing.assert_allclose(found.gain, [1.035, 1.364, 1.896], atol=5e-4)
    assert a_rule(1 / (10 * T), T, np.inf, 0.0).rate == pytest.approx(10 / 1.81, rel=3e-3)  # tau' = 1.81 T
    scaled = dt_rule(RATES, T, 16 * T).dt * 16  # a constant sees time rescaled, up to the discrete step
    assert np.all((scaled >= 1) & (scaled <= 1.0121))


@pytest.mark.parametrize(
    ("train", "end"), [(2, 3), (2, np.inf), (17, 1e9), (256, 1e9), (10**9, np.inf), (10**9, 10**9)]
)
@pytest.mark.parametrize("kappa", KAPPAS)
def test_rates_of_any_size(train, end, kappa):
    """From 1e-17 to 30 the equation holds where a factor is said to be found; ``a`` and ``joint`` always find one."""
    rates = np.array([1e-17, 1e-12, 1e-9, 1e-4, 0.1, 3.0, 30.0])
    before = mixed_gain(rates, train, kappa)
    a, dt, joint = (scale_rule(kind, rates, train, end, kappa) for kind in ("a", "dt", "joint"))
    assert a.solved.all()
    assert joint.solved.all()
    np.testing.assert_allclose(mixed_gain(a.rate * rates, end, kappa) / before, 1, rtol=0, atol=1e-12)
    ratio = dt.gain**2 * mixed_gain(dt.rate * rates, end, kappa) / before
    np.testing.assert_allclose(ratio[dt.solved], 1, rtol=0, atol=1e-12)
    assert dt.solved.all() or (end == np.inf and kappa > 0)
    for gain in (energy_gain, mean_gain):
        after = joint.gain ** (2 if gain is energy_gain else 1) * gain(joint.rate * rates, end)
        np.testing.assert_allclose(after / gain(rates, train), 1, rtol=0, atol=1e-12)
    if end == train:
        np.testing.assert_allclose(a.rate, 1, rtol=0, atol=1e-14)


def test_horizons_end_where_theory_says():
    rates = np.geomspace(1e-15, 1e-3, 40)
    slow = rates < 1e-6
    for rule, limit in [
        (a_rule(rates, 4096, np.inf, 0.0), 2),
        (a_rule(rates, 4096, np.inf), 1),
        (joint_rule(rates, 4096, np.inf), 0.5),
    ]:
        horizon = 1 / (rule.rate * rates) / 4096
        assert np.all(horizon <= limit * 1.001)
        np.testing.assert_allclose(horizon[slow], limit, rtol=0.01)
    mixed = a_rule(rates, 4096, np.inf, 1e-4).rate
    assert np.all(
        (mixed >= a_rule(rates, 4096, np.inf, 0.0).rate * (1 - 1e-12))
        & (mixed <= a_rule(rates, 4096, np.inf).rate * (1 + 1e-12))
    )


def test_no_dt_holds_a_mean_for_ever():
    """s / (1 - e^{-sr}) stays above 1/r: a constant's level under ever smaller steps. Only fast modes have a factor."""
    rates = np.array([1e-4, 0.01, 0.03, 0.1])
    found = dt_rule(rates, T, np.inf)
    np.testing.assert_array_equal(found.solved, mean_gain(rates, T) > 1 / rates)
    assert found.solved.tolist() == [False, False, True, True]
    assert found.dt[0] == 1
    assert dt_rule(rates, T, 1e9).solved.all()


def test_the_wrong_inputs_or_the_small_rate_form_miss():
    """Negative controls: a factor for noise under a constant, and the closed form at rates that are not small."""
    from mambascope.simulate.small_rate import small_rate_a

    for_noise = a_rule(RATES, T, 16 * T, 0.0).rate
    assert np.all(np.abs(mixed_gain(for_noise * RATES, 16 * T, np.inf) / mixed_gain(RATES, T, np.inf) - 1) > 0.1)
    rough = small_rate_a(0.5, 4, 64, "noise")
    assert abs(float(energy_gain(rough * 0.5, 64) / energy_gain(0.5, 4)) - 1) > 1e-3
    exact = a_rule(0.5, 4, 64, 0.0).rate
    assert float(energy_gain(exact * 0.5, 64) / energy_gain(0.5, 4)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("kind", "kappa"), [("a", 0.0), ("a", np.inf), ("dt", 0.0), ("joint", 0.0), ("joint", 0.3)])
def test_onset_keeps_the_size_at_every_later_token(kind, kappa):
    v, m = stepped(RATES, 1.0, T)
    found = onset_rule(kind, RATES, T, kappa)
    start = size(v, m, kappa)
    for _ in range(500):
        v, m = stepped(found.rate * RATES, found.gain, 7, v, m)
        np.testing.assert_allclose(size(v, m, kappa) / start, 1, rtol=0, atol=1e-9)
    late = scale_rule(kind, RATES, T, 2 * T, kappa)  # negative control: the factor for L = 2T drifts
    assert np.any(np.abs(size(*stepped(late.rate * RATES, late.gain, 6 * T, v, m), kappa) / start - 1) > 1e-5)


@pytest.mark.parametrize("kappa", [1e-3, 0.01, 0.05, 1.0])
def test_onset_under_a_mixture_dips_and_returns(kappa):
    """One factor cannot hold noise and mean both: within 7 % below, never above."""
    v, m = stepped(RATES, 1.0, T)
    start, found, lowest = size(v, m, kappa), onset_rule("a", RATES, T, kappa), 1.0
    for _ in range(900):
        v, m = stepped(found.rate * RATES, 1.0, 16, v, m)
        ratio = size(v, m, kappa) / start
        assert ratio.max() <= 1 + 1e-9
        lowest = min(lowest, ratio.min())
    assert 0.93 < lowest < 0.9999
    np.testing.assert_allclose(ratio, 1, atol=1e-6)


def test_shapes_broadcast_and_refusals():
    assert a_rule(np.ones((3, 1)), 256, np.array([512.0, np.inf]), 0.1).rate.shape == (3, 2)
    assert joint_rule(np.ones((3, 1)), 256, np.array([512.0, np.inf])).a.shape == (3, 2)
    assert dt_rule(0.1, 256, 512).dt.shape == ()
    for bad in [
        (0.0, 256, 512),
        (-1.0, 256, 512),
        (np.nan, 256, 512),
        (0.1, 1, 512),
        (0.1, 256, 255),
        (0.1, np.inf, np.inf),
    ]:
        with pytest.raises(ValueError, match="expected"):
            a_rule(*bad)
        with pytest.raises(ValueError, match="expected"):
            joint_rule(*bad)
    with pytest.raises(ValueError, match="kappa"):
        dt_rule(0.1, 256, 512, -1.0)
    with pytest.raises(ValueError, match="expected a, dt or joint"):
        scale_rule("b", 0.1, 256, 512)
