"""figures/head_norms.py: a point for every head, with the line where prediction and measurement agree."""

import numpy as np
import pytest

from mambascope.analysis.head_norms import HeadNorms
from mambascope.analysis.norm_forms import FORMS
from mambascope.figures.head_norms import head_norms_figure
from mambascope.figures.style import svg_bytes


def norms_of(name, shape, inputs="model", off=1.0):
    trained = np.exp(np.random.default_rng(0).normal(0, 1, shape))
    predicted = dict.fromkeys(FORMS, 20 * off * trained)
    unit = "head" if len(shape) == 2 else "mode"
    return HeadNorms(name, unit, 64, 4096, inputs, trained, 20 * trained, 0 * trained, predicted)


def rows():
    return [
        [norms_of(name, shape, "model", 1.5), norms_of(name, shape, "replay", 1.02)]
        for name, shape in (("two", (3, 5)), ("one", (3, 6, 4)))
    ]


def test_every_head_has_its_point():
    figure = head_norms_figure(rows())
    panels = figure.axes
    assert len(panels) == 4
    for axes, each in zip(panels, [n for row in rows() for n in row], strict=True):
        shown = each.by_channel()
        *layers, trained = axes.collections
        assert len(layers) == 3
        for layer, points in enumerate(layers):
            x, y = np.asarray(points.get_offsets()).T
            np.testing.assert_allclose(x, shown.predicted["long_run"][layer])
            np.testing.assert_allclose(y, shown.measured[layer])
        assert len(trained.get_offsets()) == shown.measured.size
        assert axes.get_xlim() == axes.get_ylim()
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert "15 heads" in panels[0].get_title(loc="left")
    assert "18 channels" in panels[2].get_title(loc="left")


def test_the_error_is_printed():
    figure = head_norms_figure(rows())
    titles = [axes.get_legend().get_title().get_text() for axes in figure.axes]
    assert titles == ["median error 50.0%", "median error 2.0%"] * 2
    assert "layer 1: 50.0%" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "L = 4k tokens, predicted from windows of T = 64" in figure.get_suptitle()


def test_many_layers_get_a_colour_bar_and_rows_may_differ():
    deep = norms_of("deep", (20, 3))
    figure = head_norms_figure([[deep, deep], [norms_of("two", (3, 5))]])
    assert figure.axes[-1].get_ylabel() == "layer"
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False, True]
    assert "median error 50.0%" not in [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("again", [0, 1])
def test_equal_inputs_give_equal_bytes(again):
    assert svg_bytes(head_norms_figure(rows())) == svg_bytes(head_norms_figure(rows()))
