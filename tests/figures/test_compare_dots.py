"""figures/compare_dots.py: every number that there is, drawn where it belongs, and no other."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mambascope.figures.compare_dots import costs_figure, keys_figure, methods_figure, ranked
from mambascope.figures.compare_plots import shown

_made = importlib.util.spec_from_file_location("comparisons", Path(__file__).parent / "comparisons.py")
comparisons = importlib.util.module_from_spec(_made)
_made.loader.exec_module(comparisons)
HARM, LENGTHS, DROPS = comparisons.HARM, comparisons.LENGTHS, comparisons.DROPS


def drawn(axes):
    """Return (row, value) of every point; three lengths share a row."""
    return sorted(
        (round(line.get_ydata()[0]), float(line.get_xdata()[0]))
        for line in axes.lines
        if line.get_marker() not in {"None", ""}
    )


def test_methods_are_ranked_by_harm_and_broken_ones_stand_last():
    assert ranked(comparisons.made_up())[:3] == ["spectrum", "heads", "constant:a:best"]
    assert ranked(comparisons.made_up(broken=("spectrum",)))[-1] == "spectrum"
    assert "fresh-window" not in ranked(comparisons.made_up())


@pytest.mark.parametrize("broken", [(), ("heads",)])
def test_every_harm_is_drawn_and_a_row_without_any_says_why(broken):
    found = comparisons.made_up(broken=broken)
    methods = ranked(found)
    half, _, last, _ = methods_figure(found).axes
    wanted = [(k, HARM[m]) for k, m in enumerate(methods) if m not in {*broken, DROPS} for _ in LENGTHS]
    assert drawn(half) == sorted(wanted)
    by_last = [(k, HARM[m] + 0.01) for k, m in enumerate(methods) if m not in broken for _ in LENGTHS]
    np.testing.assert_allclose(drawn(last), sorted(by_last))
    said = {round(text.get_position()[1]): text.get_text() for text in half.texts}
    assert said == {methods.index(DROPS): "only the last tokens"} | {methods.index(m): "broken" for m in broken}
    assert [text.get_text() for text in half.get_yticklabels()] == methods


def test_keys_are_drawn_against_harm_for_the_methods_of_the_other_figures():
    found = comparisons.made_up(keys=comparisons.made_up_keys())
    near, far = keys_figure(found).axes
    methods = [m for m in ranked(found) if m in shown(found) and m != DROPS]
    for axes, length in ((near, 512), (far, 2048)):
        points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1]
        assert points == [(HARM[m], found.keys.at(m, length).share) for m in methods]


def test_costs_that_were_not_measured_have_no_bar():
    found = comparisons.made_up()
    seconds, memory, speed = costs_figure(found).axes
    assert [len(axes.patches) for axes in (seconds, memory, speed)] == [len(HARM) - 1, len(HARM), len(HARM)]
    assert max(bar.get_width() for bar in seconds.patches) == 10.0 * (len(HARM) - 1)
