"""Test ``mambascope.analysis.memory``: kernels summed one by one, known steps, and decays measured under scales."""

import numpy as np
import pytest

from mambascope.analysis.diagnosis import Diagnosis, diagnose, training_windows
from mambascope.analysis.evidence import Evidence
from mambascope.analysis.memory import decay_per_token, factors_on_modes, memory_change, share_older
from mambascope.analysis.rules import find_rule
from mambascope.spectra.eigenvalues import Spectrum, spectrum
from mambascope.spectra.loading import load
from mambascope.spectra.mode_statistics import ModeMoments
from mambascope.spectra.norms import StateNorms
from mambascope.spectra.scales import Scales, scaling
from mambascope.spectra.zoo import text_files

T, L = 100, 6400
TAUS = np.array([5.0, 80.0, 3000.0, 1e7])


def known(shape=None, spread=0.0, taus=TAUS):
    """One layer with gamma-distributed steps of relative variance ``spread``."""
    dt = np.full(taus.shape[0], 0.5)
    rate = 1 / (taus * 0.5)
    if spread:
        loss = [-np.expm1(-np.log1p(m * spread / taus) / spread) for m in (1, 2)]
    else:
        loss = [-np.expm1(-m / taus) for m in (1, 2)]
    moments = ModeMoments(1, (dt,), (dt**2 * (1 + spread),), (loss[0],), (loss[1],))
    arch = "mamba2" if taus.ndim == 1 else "mamba"
    norms = StateNorms("m", (T, L), np.ones((2, 1, 1, taus.shape[0], 1)), np.ones((2, 1, 1, 1)))
    return Diagnosis(Spectrum("m", arch, (rate,), moments), norms, T, L)


def test_shares_are_those_of_kernels_summed_one_by_one():
    ages = np.arange(L)
    for rate in (0.0, 1e-12, 1e-4, 0.01, 3.0):
        kernel = np.exp(-rate * ages)
        for k in (0, 1, T, L):
            assert share_older(rate, k, L) == pytest.approx(kernel[k:].sum() / kernel.sum(), abs=1e-12)


def test_fixed_steps_by_hand():
    change = memory_change(known(), scaling("a", [[1.0, 2.0, 40.0, 1e5]]), lag_tokens=50)
    after = TAUS / [1.0, 2.0, 40.0, 1e5]
    ages = np.arange(L)
    for k in range(4):
        for tau, energy, weight in (
            (TAUS[k], change.energy_before, change.weight_before),
            (after[k], change.energy_after, change.weight_after),
        ):
            for found, kernel in ((weight, np.exp(-ages / tau)), (energy, np.exp(-2 * ages / tau))):
                assert found[0, k] == pytest.approx(kernel[50:].sum() / kernel.sum(), abs=1e-9)
    np.testing.assert_allclose(change.forgets_before_tokens[0], TAUS, rtol=1e-6)
    np.testing.assert_allclose(change.forgets_after_tokens[0], after, rtol=1e-6)
    assert "50 tokens back" in change.sentence()
    assert f"{change.energy_after.mean():.1%} does now" in change.sentence()


@pytest.mark.parametrize("spread", [0.3, 4.0])
def test_random_steps_under_a_factor(spread):
    """Steps of the gamma law: E e^{-m s a dt} = (1 + m s r spread)^{-1/spread}, at every factor."""
    layer = Evidence.of(known(spread=spread)).layers[0]
    for order in (1, 2):
        for s in (0.02, 1.0, 7.0, 900.0):
            exact = np.log1p(order * s * spread / TAUS) / spread
            np.testing.assert_allclose(decay_per_token(layer, s, order), exact, rtol=1e-6)
    fixed = Evidence.of(known()).layers[0]  # negative control: fixed steps forget faster
    assert decay_per_token(fixed, 900.0, 2)[0] > 2 * decay_per_token(layer, 900.0, 2)[0]


def test_scales_of_any_kind():
    taus = np.array([[4.0, 900.0, 2e4], [30.0, 2e5, 600.0]])
    found = known(taus=taus)
    rate = found.spectrum.rates[0]
    cases = [
        (scaling("dt", [[0.5, 2.0]]), np.array([[0.5], [2.0]]), [0.5, 2.0]),
        (scaling("a_power", [2.0]), rate, [1, 1]),
        (scaling("a", 3.0).then(scaling("dt", 0.25)), 0.75, [0.25, 0.25]),
        (scaling("a", [[[1, 2, 3.0], [4, 5, 6]]], onset_tokens=T), [[1, 2, 3], [4, 5, 6]], [1, 1]),
        (Scales(), 1.0, [1, 1]),
    ]
    for scales, factor, gain in cases:
        ((on_rate, on_gain),) = factors_on_modes(Evidence.of(found), scales, T)
        np.testing.assert_allclose(on_rate, np.broadcast_to(factor, taus.shape))
        np.testing.assert_allclose(on_gain, gain)
        change = memory_change(found, scales)
        np.testing.assert_allclose(change.forgets_after_tokens[0], taus / factor, rtol=1e-6)
        assert change.gain.tolist() == [list(gain)]
        assert len(change.rows()) == 1


def test_nothing_given_up_is_said_and_so_is_dilution():
    assert "no memory is given up" in memory_change(known(), Scales()).sentence()
    assert "no memory is given up" in memory_change(known(), scaling("a", 1.0)).sentence()
    assert "no memory" not in memory_change(known(), scaling("a", 8.0)).sentence()
    assert "a write counts 0.25 times" in memory_change(known(), scaling("dt", 0.25)).sentence()
    for lag in (-1, L + 1):
        with pytest.raises(ValueError, match="expected 0 to"):
            memory_change(known(), Scales(), lag_tokens=lag)


@pytest.mark.parametrize("name", ["mamba2-tiny", "mamba-tiny"])
def test_the_closed_form_agrees_with_decays_measured_under_scales(name):
    model = load(name)
    ids = np.stack([np.frombuffer(path.read_bytes(), np.uint8)[:1024] for path in text_files("calibration")])
    found = diagnose(model, ids, train_length=256, target_length=1024)
    for rule in ("soft-clip", "hard-clip:4", "winsorize:10"):
        scales = find_rule(rule)(Evidence.of(found))
        change = memory_change(found, scales)
        measured = spectrum(model, training_windows(ids, 256), scales=scales).moments
        rate = -np.log1p(-np.minimum(np.stack(measured.loss_second), 1 - 1e-16))
        now = share_older(rate, 256, 1024)
        assert np.quantile(np.abs(change.energy_after - now), 0.99) < 0.03  # a few modes get other inputs
        assert change.energy_after.mean() == pytest.approx(now.mean(), abs=0.002)
    unscaled = change.energy_before  # negative control: the check tells scales from none
    clipped = memory_change(found, find_rule("soft-clip")(Evidence.of(found))).energy_after
    assert np.abs(clipped - unscaled).max() > 0.3
