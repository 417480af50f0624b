"""figures/spectrum.py: the heatmaps hold the spectrum's own numbers."""

import dataclasses

import numpy as np
import pytest

from mambascope.figures.spectrum import even_ranks, spectrum_figure


def meshes(figure):
    return [axes.collections[0] for axes in figure.axes[:3]]


@pytest.mark.parametrize(("which", "mode"), [("mamba2", "head"), ("mamba", "(channel, state)")])
def test_panels_hold_the_sorted_values(studies, which, mode):
    found = studies[which].proposal.diagnosis.spectrum
    figure = spectrum_figure(found, 64)
    static, effective, horizon = meshes(figure)
    np.testing.assert_array_equal(static.get_array(), found.heatmap("static"))
    np.testing.assert_array_equal(effective.get_array(), found.heatmap("effective"))
    taus = np.stack([np.sort(tau, axis=None)[::-1] for tau in found.horizons_tokens()])
    np.testing.assert_allclose(10 ** np.asarray(horizon.get_array()), taus, rtol=1e-12)
    assert static.get_clim() == effective.get_clim() == (0, 1)
    assert horizon.norm.vcenter == pytest.approx(np.log10(64))
    assert all(axes.get_xlabel() == f"rank of {mode}" for axes in figure.axes[:3])
    assert figure.axes[0].get_ylabel() == "layer"
    bars = {axes.get_xlabel() for axes in figure.axes[3:]}
    assert bars == {"eigenvalue (1 = forgets nothing)", "horizon tau (tokens)"}
    assert "T = 64" in [text.get_text() for axes in figure.axes for text in axes.texts]


def test_without_a_text_there_is_one_panel(studies):
    found = dataclasses.replace(studies["mamba"].proposal.diagnosis.spectrum, moments=None)
    figure = spectrum_figure(found)
    assert len([axes for axes in figure.axes if axes.get_ylabel() == "layer"]) == 1
    np.testing.assert_array_equal(figure.axes[0].collections[0].get_array(), found.heatmap())


def test_without_a_training_length_nothing_is_marked(studies):
    figure = spectrum_figure(studies["mamba2"].proposal.diagnosis.spectrum)
    assert not [text for axes in figure.axes for text in axes.texts]


def test_many_modes_are_resampled_with_both_ends():
    ranks = even_ranks(24576)
    assert len(ranks) == 256
    assert (ranks[0], ranks[-1]) == (0, 24575)
    assert np.abs(np.diff(ranks) - 24575 / 255).max() <= 1
    np.testing.assert_array_equal(even_ranks(5), np.arange(5))
