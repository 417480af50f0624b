"""Test ``mambascope.analysis.diagnosis`` and ``proposal``: on a bundled model, and on answers worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from mambascope.analysis.diagnosis import Diagnosis, diagnose, training_windows
from mambascope.analysis.proposal import propose, propose_for
from mambascope.spectra.eigenvalues import Spectrum, spectrum
from mambascope.spectra.errors import TextError
from mambascope.spectra.loading import load
from mambascope.spectra.mode_statistics import ModeMoments
from mambascope.spectra.norms import StateNorms
from mambascope.spectra.tokens import Document
from mambascope.spectra.zoo import text_files


def made_up(growth, taus=(10.0, 100.0, 10_000.0)):
    """One layer of three heads whose state grows by ``growth`` between T = 100 and L = 400."""
    dt = np.full(3, 0.5)
    rates = 1 / (np.array(taus) * dt)
    moments = ModeMoments(1, (dt,), (dt**2,), (rates * dt,), (2 * rates * dt,))
    norms = np.ones((2, 1, 1, 3, 1))
    norms[1] *= growth
    return Diagnosis(
        Spectrum("m", "mamba2", (rates,), moments),
        StateNorms("m", (100, 400), norms, np.ones((2, 1, 1, 1))),
        train_length=100,
        target_length=400,
    )


def calibration(length):
    return np.stack([np.frombuffer(path.read_bytes(), np.uint8)[:length] for path in text_files("calibration")])


def test_the_soft_clip_by_hand():
    found = propose(made_up(growth=4.0))
    s = found.scales.factors[0].values[0].numpy()
    expected = [1 / (1 - np.exp(-10)), 1 / (1 - np.exp(-1)), 1 / (1 - np.exp(-0.01))]
    np.testing.assert_allclose(s, expected, rtol=1e-9)
    assert found.scales.factors[0].kind == "a"
    assert found.acts
    row = found.rows()[0]
    assert row["horizon_max_before_tokens"] == pytest.approx(10_000)
    assert row["horizon_max_after_tokens"] == pytest.approx(10_000 * (1 - np.exp(-0.01)))
    assert row["share_scaled_over_1.1"] == pytest.approx(2 / 3)
    assert "33%" in found.reason
    assert "4.0 times" in found.reason


def test_a_model_whose_states_stay_in_range_is_left_alone():
    found = propose(made_up(growth=1.4))
    assert not found.acts
    assert found.scales.factors == ()
    assert "left alone" in found.reason
    assert found.rows()[0]["factor_max"] == 1.0
    assert propose(made_up(growth=1.4), always=True).acts


@pytest.mark.parametrize(
    ("times", "growth", "acts"), [(2, 1.5, True), (2, 1.3, False), (3, 1.8, True), (64, 1.9, False)]
)
def test_near_the_training_length_less_growth_is_enough_to_act(times, growth, acts):
    """The threshold is min(2, sqrt(L / T)): 1.41 at twice T, 1.73 at three times, 2 from four times on."""
    found = made_up(growth)
    norms = replace(found.norms, lengths_tokens=(100, 100 * times))
    assert propose(replace(found, norms=norms, target_length=100 * times)).acts is acts


def test_growth_and_shares_by_hand():
    found = made_up(growth=3.0)
    assert found.growth() == pytest.approx([3.0])
    assert found.long_share() == pytest.approx([1 / 3])  # a horizon of exactly T is not beyond it
    row = found.rows()[0]
    assert row["mode_growth_predicted_max"] == pytest.approx(4.0, rel=0.02)  # L / T for a mode that never saturates
    assert row["horizon_median_tokens"] == pytest.approx(100)


def test_windows_are_spread_over_the_documents():
    ids = np.arange(2 * 1000).reshape(2, 1000)
    windows = training_windows(ids, 100, windows=8)
    assert windows.shape == (8, 100)
    assert sorted(windows[:, 0].tolist()) == [0, 200, 500, 700, 1000, 1200, 1500, 1700]
    assert training_windows(ids, 100, windows=1000).shape == (20, 100)
    with pytest.raises(TextError, match="shorter than the training length"):
        training_windows(ids, 1001)


def test_the_default_windows_fix_the_mean_steps_to_a_few_percent():
    """Two books apart, not only two samples."""
    model = load("mamba2-tiny")
    halves = [spectrum(model, training_windows(calibration(131072)[k : k + 2], 256)).moments for k in (0, 2)]
    dt = [np.stack(half.mean_dt) for half in halves]
    relative = np.abs(dt[0] - dt[1]) / (dt[0] + dt[1]) * 2
    assert np.sqrt(np.mean(relative**2)) < 0.05


@pytest.mark.parametrize(("name", "acts"), [("mamba2-tiny", True), ("mamba-tiny", True), ("mamba2-tiny-usual", False)])
def test_bundled_models_are_told_apart_without_a_loss(name, acts):
    found = propose(diagnose(load(name), calibration(4096), train_length=256, target_length=4096))
    assert found.acts is acts
    if acts:
        after = spectrum(load(name), training_windows(calibration(4096), 256), scales=found.scales)
        assert max(tau.max() for tau in after.horizons_tokens()) < 256 * 1.2


def test_texts_of_any_length_are_used_as_far_as_they_go():
    model = load("mamba2-tiny")
    texts = [
        Document(path.name, np.frombuffer(path.read_bytes(), np.uint8)[:1500]) for path in text_files("calibration")
    ]
    found = propose_for(model, texts, 256, 100_000)
    assert found.diagnosis.target_length == 1500
    assert found.acts
    uneven = [replace(d, ids=d.ids[: 1500 - k]) for k, d in enumerate(texts)]
    assert len(propose_for(model, uneven, 256, 100_000).diagnosis.norms.vector_l2[0, 0]) >= 2  # half or more are used
    short = [replace(d, ids=d.ids[:400]) for d in texts]
    with pytest.raises(TextError, match=r"at least 512 \(twice the training length\)"):
        propose_for(model, short, 256, 100_000)
    with pytest.raises(TextError, match="must be beyond the training length"):
        diagnose(model, calibration(512), train_length=256, target_length=256)
