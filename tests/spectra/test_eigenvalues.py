"""Test ``mambascope.spectra.eigenvalues`` and ``mode_statistics``: made-up spectra with answers worked by hand."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mambascope.spectra.dynamics import Dynamics, Observation
from mambascope.spectra.eigenvalues import Spectrum, spectrum
from mambascope.spectra.errors import ScaleError
from mambascope.spectra.mode_statistics import ModeMoments, ModeStatistics
from mambascope.spectra.scales import scaling
from mambascope.spectra.state import LayerState

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)


def observe(dt, A, layer=0):
    state = LayerState(torch.zeros(1), torch.zeros(1))
    return Observation(layer, 0, dt.shape[1], Dynamics(dt, A, dt), torch.zeros(1), torch.zeros(1), state)


def test_the_heatmap_of_figure_1_by_hand():
    """Rates ln 2, 0, ln 4 give eigenvalues 1/2, 1, 1/4: sorted 1, 1/2, 1/4; layers stay in order."""
    rates = (np.array([np.log(2), 0.0, np.log(4)]), np.array([np.log(10), np.log(5), np.log(2)]))
    found = Spectrum("m", "mamba2", rates)
    np.testing.assert_allclose(found.heatmap(), [[1, 0.5, 0.25], [0.5, 0.2, 0.1]])
    row = found.rows()[0]
    assert (row["layer"], row["kind"], row["modes"]) == (0, "static", 3)
    assert (row["q0"], row["q50"], row["q100"]) == pytest.approx((0.25, 0.5, 1.0))
    with pytest.raises(ValueError, match="needs a text"):
        found.eigenvalues("effective")


def test_effective_eigenvalues_by_hand():
    """A head with |A| = ln 2 takes steps 1 and 3: decays 1/2 and 1/8, mean 5/16; mean dt 2, horizon 1/(2 ln 2)."""
    statistics = ModeStatistics()
    A = torch.tensor([-np.log(2.0)])
    statistics.update(observe(torch.tensor([[[1.0], [3.0]]], dtype=torch.float64), A))
    found = Spectrum("m", "mamba2", (np.array([np.log(2.0)]),), statistics.result())
    assert found.eigenvalues("effective")[0] == pytest.approx([5 / 16])
    assert found.horizons_tokens()[0] == pytest.approx([1 / (2 * np.log(2))])
    moments = found.moments
    assert moments.mean_dt_squared[0] == pytest.approx([5.0])
    assert 1 - moments.loss_second[0] == pytest.approx([(1 / 4 + 1 / 64) / 2])
    assert moments.tokens == 2


def test_mamba_1_has_a_mode_for_each_channel_and_state():
    statistics = ModeStatistics()
    A = -torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=torch.float64)
    dt = torch.rand(2, 200, 3, dtype=torch.float64)
    statistics.update(observe(dt, A))
    direct = torch.exp(dt.flatten(0, 1)[..., None] * A).mean(0)
    np.testing.assert_allclose(1 - statistics.result().loss_first[0], direct, rtol=1e-12)


def test_a_mode_of_ten_million_tokens_keeps_its_digits_in_float32():
    statistics = ModeStatistics()
    statistics.update(observe(torch.full((1, 1000, 1), 1e-3), torch.tensor([-1e-4])))
    assert statistics.result().loss_first[0] == pytest.approx([1e-7], rel=1e-5)


def test_merging_is_the_same_as_seeing_everything():
    A, dt = -torch.rand(2, 4, dtype=torch.float64), torch.rand(3, 90, 2, dtype=torch.float64)
    whole, left, right, last = (ModeStatistics() for _ in range(4))
    whole.update(observe(dt, A))
    for part, observer in zip(dt.split([40, 30, 20], dim=1), (left, right, last), strict=True):
        observer.update(observe(part, A))
    right.merge(last)
    left.merge(right)
    a, b = left.result(), whole.result()
    assert a.tokens == b.tokens == 270
    for name in ("mean_dt", "mean_dt_squared", "loss_first", "loss_second"):
        np.testing.assert_allclose(getattr(a, name)[0], getattr(b, name)[0], rtol=1e-12)


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_the_model_is_measured_as_it_runs(arch):
    model = tiny.tiny_model(arch, torch.float64)
    ids = torch.randint(0, 50, (2, 40))
    found = spectrum(model, ids)
    A = [layer.mixer.A_log.exp().numpy() for layer in model.layers()]
    for rates, direct in zip(found.rates, A, strict=True):
        np.testing.assert_allclose(rates, direct, rtol=1e-12)
    assert isinstance(found.moments, ModeMoments)
    assert found.moments.tokens == 80
    blocks = spectrum(model, ids)  # the same again: nothing is left over from the first time
    np.testing.assert_array_equal(blocks.moments.loss_first[1], found.moments.loss_first[1])
    doubled = spectrum(model, ids, scales=scaling("a", 2.0))
    np.testing.assert_allclose(doubled.rates[0], 2 * A[0], rtol=1e-12)
    assert np.all(doubled.eigenvalues("effective")[0] < found.eigenvalues("effective")[0])
    np.testing.assert_allclose(doubled.horizons_tokens()[0], found.horizons_tokens()[0] / 2, rtol=1e-6)


def test_scales_with_an_onset_have_no_one_spectrum():
    model = tiny.tiny_model("mamba2")
    with pytest.raises(ScaleError, match="before it and after it"):
        spectrum(model, torch.randint(0, 50, (1, 40)), scales=scaling("a", 2.0, onset_tokens=20))
