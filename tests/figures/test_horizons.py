"""figures/horizons.py: all modes' memory, before and after."""

import numpy as np

from mambascope.figures.horizons import horizons_figure, sorted_horizons


def test_curves_are_the_sorted_horizons(studies):
    study = studies["mamba"]
    axes = horizons_figure(study).axes[0]
    for label, spectrum in (
        ("no scaling", study.proposal.diagnosis.spectrum),
        ("spectrum-guided", study.scaled_spectrum),
    ):
        (line,) = [each for each in axes.lines if each.get_label() == label]
        tau = np.concatenate([t.ravel() for t in spectrum.horizons_tokens()])
        np.testing.assert_array_equal(line.get_ydata(), np.sort(tau)[::-1])
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "horizon tau (tokens)"
    assert {"T = 64", "L = 1k"} <= {text.get_text() for text in axes.texts}


def test_a_model_left_alone_has_one_curve(studies):
    axes = horizons_figure(studies["alone"]).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["no scaling"]


def test_shares_run_over_all_modes():
    share, tau = sorted_horizons([np.arange(1.0, 2001.0)])
    assert len(share) == len(tau) == 512
    assert 0 < share[0] < share[-1] < 100
    assert (tau[0], tau[-1]) == (2000, 1)
