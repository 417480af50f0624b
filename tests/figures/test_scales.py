"""figures/scales.py: the factors as they were proposed."""

import numpy as np

from mambascope.figures.scales import constants_figure, factors_of, scales_figure


def test_heads_are_a_heatmap(studies):
    study = studies["mamba2"]
    figure = scales_figure(study)
    mesh = figure.axes[0].collections[0]
    np.testing.assert_array_equal(mesh.get_array(), study.proposal.scales.factors[0].values.numpy())
    assert mesh.norm.vmin == 1
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("head", "layer")
    assert figure.axes[1].get_ylabel() == "factor s (times)"


def test_channels_and_states_are_sorted_curves(studies):
    study = studies["mamba"]
    axes = scales_figure(study).axes[0]
    for layer, line in enumerate(axes.lines):
        expected = np.sort(study.proposal.scales.factors[0].values[layer].numpy(), axis=None)[::-1]
        np.testing.assert_array_equal(line.get_ydata(), expected)
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "factor s (times)"


def test_a_model_left_alone_has_factors_of_one(studies):
    assert (factors_of(studies["alone"]) == 1).all()
    scales_figure(studies["alone"]).draw_without_rendering()


def test_constants_are_marked_with_their_best(studies):
    axes = constants_figure(studies["mamba2"]).axes[0]
    tried, best = axes.lines
    assert list(zip(tried.get_xdata(), tried.get_ydata(), strict=True)) == [(1, 6.0), (4, 3.0), (16, 2.125)]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (16, 2.125)
    assert axes.get_xlabel() == "constant factor on A (times)"
    assert axes.get_ylabel() == "validation tail bits per token"
