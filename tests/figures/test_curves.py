"""figures/curves.py: the breakdown is whole in the picture, and so is a thousandth of a bit."""

import numpy as np
import pytest

from mambascope.analysis.study import bits_by_position
from mambascope.figures.curves import curves_figure, tail_figure
from mambascope.figures.style import METHODS


def line(axes, label):
    (found,) = [each for each in axes.lines if each.get_label() == label]
    return found


def test_curves_are_bits_by_position_and_their_difference(studies):
    study = studies["mamba2"]
    whole, difference = curves_figure(study).axes
    labels = {"none": "no scaling", "constant": "best constant (16)", "spectrum": "spectrum-guided"}
    for method, label in labels.items():
        drawn = line(whole, label)
        np.testing.assert_array_equal(drawn.get_ydata(), bits_by_position(study.bits[method])["mean"])
        assert drawn.get_color() == METHODS[method].colour
        expected = bits_by_position(study.bits[method] - study.bits["fresh-window"])["mean"]
        np.testing.assert_array_equal(line(difference, label).get_ydata(), expected)
    assert line(whole, "fresh-window control").get_linestyle() == "--"
    assert whole.get_ylabel() == "bits per token"
    assert difference.get_yscale() == "symlog"
    assert difference.get_xlabel() == "position in the text (tokens)"
    for axes in (whole, difference):
        assert {"T = 64", "L = 1k"} <= {text.get_text() for text in axes.texts}


@pytest.mark.parametrize("harm", [0.001, 4.0, 25.0])
def test_the_blow_up_is_never_cut_off(make, harm):
    study = make(harm=harm)
    for axes in [*curves_figure(study).axes, *tail_figure(study).axes]:
        low, high = axes.get_ylim()
        for each in axes.lines:
            if each.get_label() in {"no scaling", "spectrum-guided", "best constant (16)"}:
                assert low <= min(each.get_ydata()) <= max(each.get_ydata()) <= high


def test_bands_are_standard_errors_and_one_document_has_none(studies):
    assert len(curves_figure(studies["mamba2"]).axes[0].collections) == 4
    assert not curves_figure(studies["single"]).axes[0].collections


def test_tail_points_and_intervals_are_the_rows(studies):
    study = studies["mamba2"]
    tail, harm = tail_figure(study).axes
    rows = [study.row("none", n) for n in (64, 256, 1024)]
    assert list(line(tail, "no scaling").get_ydata()) == [row.tail_bits_per_token for row in rows]
    assert list(line(harm, "no scaling").get_ydata()) == [row.harm for row in rows]
    drawn = [tuple(segment[:, 1]) for bars in harm.collections for segment in bars.get_segments()]
    assert (rows[2].harm_ci_low, rows[2].harm_ci_high) in drawn
    assert len(drawn) == 9
    assert [text.get_text() for text in tail.get_xticklabels()] == ["T = 64", "256", "L = 1k"]
    assert tail.get_ylabel() == "tail bits per token"
    assert harm.get_ylabel() == "harm (bits more than the control)"


def test_one_document_has_no_intervals(studies):
    assert not tail_figure(studies["single"]).axes[1].collections


def test_a_model_left_alone_shows_no_second_copy_of_itself(studies):
    labels = [text.get_text() for text in curves_figure(studies["alone"]).axes[0].get_legend().get_texts()]
    assert labels == ["no scaling", "best constant (16)", "fresh-window control"]
