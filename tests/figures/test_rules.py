"""figures/rules.py: a point a rule, harm up, memory across; names hide nothing."""

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from mambascope.analysis.goals import GOALS
from mambascope.figures.rules import looks, passage_gap, rules_figure


def points(axes):
    return {
        (float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines if line.get_marker() != "None"
    }


@pytest.mark.parametrize("saved", [True, False])
def test_every_rule_is_a_point_at_its_numbers(studies, rules_of, saved):
    table = rules_of(studies["mamba2"], saved=saved)
    axes = rules_figure(table).axes
    assert len(axes) == 1 + saved
    rows = table.summary(1024)
    assert points(axes[0]) == {(100 * row["energy_older"], row["harm_mean"]) for row in rows}
    if saved:
        assert points(axes[1]) == {(row["saved_at_52"], row["harm_mean"]) for row in rows}
    assert axes[0].get_yscale() == "symlog"
    assert axes[0].get_ylabel() == "mean harm at 1k (bits)"


def test_goals_and_none_are_named_in_the_legend(studies, rules_of):
    table = rules_of(studies["mamba2"])
    (legend,) = rules_figure(table).legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names[-2:] == ["other rules, baked into weights", "other rules, not to be baked"]
    expected = [
        "soft-clip: default",
        "soft-clip-noise: goal balanced",
        "hard-clip:4: goal retrieval",
        "none: as trained",
    ]
    assert set(names[:-2]) == set(expected)
    styles = [style for row, style, _ in looks(table) if row["rule"] in {goal.rule for goal in GOALS.values()}]
    assert len({style.marker for style in styles}) == len({style.colour for style in styles}) == 3


def test_names_overlap_neither_each_other_nor_the_frame(studies, rules_of):
    figure = rules_figure(rules_of(studies["mamba2"]))
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        for text in axes.texts:
            text.update_positions(renderer)
        boxes = [Text.get_window_extent(text, renderer) for text in axes.texts]  # without the line to its point
        assert len(boxes) > 5
        frame = axes.get_window_extent()
        for a, b in itertools.combinations(boxes, 2):
            assert min(a.x1, b.x1) - max(a.x0, b.x0) < 3 or min(a.y1, b.y1) - max(a.y0, b.y0) < 3
        assert all(box.x0 > frame.x0 - 3 and box.x1 < frame.x1 + 3 for box in boxes)


def test_the_passage_that_is_drawn_lies_within_the_training_length(studies, rules_of):
    assert passage_gap(rules_of(studies["mamba2"])) == 52
    assert passage_gap(rules_of(studies["mamba2"], saved=False)) is None
