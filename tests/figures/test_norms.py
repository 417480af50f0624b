"""figures/norms.py: state norms along the text."""

import dataclasses

import numpy as np
import pytest

from mambascope.figures.norms import norms_figure, vector_norms_figure
from mambascope.spectra.norms import table1

T, L = 64, 1024


def named(axes, label):
    (line,) = [each for each in axes.lines if each.get_label() == label]
    return line


@pytest.mark.parametrize("which", ["mamba2", "mamba"])
def test_lines_are_the_rms_of_each_layer(studies, which):
    study = studies[which]
    axes = norms_figure(study.norms, study.scaled_norms, T, L).axes[0]
    for label, norms in (("no scaling", study.norms), ("spectrum-guided", study.scaled_norms)):
        for layer in range(2):
            line = named(axes, f"{label}, layer {layer}")
            np.testing.assert_array_equal(line.get_ydata(), norms.rms()[:, layer])
            assert tuple(line.get_xdata()) == norms.lengths_tokens
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlabel() == "position in the text (tokens)"
    assert axes.get_ylabel() == "RMS of the layer's state norm (L2)"
    assert {"T = 64", "L = 1k"} <= {text.get_text() for text in axes.texts}
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["layer 0", "layer 1", "no scaling", "spectrum-guided"]


def test_guides_double_and_grow_by_the_square_root(studies):
    axes = norms_figure(studies["mamba2"].norms, None, T, L).axes[0]
    for label, power in (("guide x2 per doubling", 1), ("guide x1.41 per doubling", 0.5)):
        (x0, x1), (y0, y1) = named(axes, label).get_data()
        assert np.log(y1 / y0) / np.log(x1 / x0) == pytest.approx(power)


def test_many_layers_get_a_colour_bar_and_zero_norms_a_gap(make):
    study = make(n_layer=9)
    vectors = study.norms.vector_l2.copy()
    vectors[0] = 0
    figure = norms_figure(dataclasses.replace(study.norms, vector_l2=vectors), None, T)
    assert "layer" in {axes.get_ylabel() for axes in figure.axes}
    assert np.isnan(named(figure.axes[0], "no scaling, layer 0").get_ydata()[0])


def test_one_length_and_no_training_length_can_be_drawn(studies):
    norms = studies["mamba2"].norms
    one = dataclasses.replace(norms, lengths_tokens=(16,), vector_l2=norms.vector_l2[:1], conv_l2=norms.conv_l2[:1])
    norms_figure(one).draw_without_rendering()
    vector_norms_figure(one, None, T).draw_without_rendering()


def test_band_is_the_papers_table_1(studies):
    study = studies["mamba"]
    axes = vector_norms_figure(study.norms, study.scaled_norms, T, L).axes[0]
    cells = table1(study.norms)
    np.testing.assert_array_equal(named(axes, "no scaling: largest").get_ydata(), [cell.max for cell in cells])
    np.testing.assert_array_equal(named(axes, "no scaling: smallest").get_ydata(), [cell.min for cell in cells])
    assert "T = 64" in [text.get_text() for text in axes.texts]
    assert axes.get_ylabel() == "norm of a state vector (L2)"
