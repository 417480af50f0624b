"""figures/lengths.py: lengths as people write them."""

import pytest
from matplotlib.figure import Figure

from mambascope.figures.lengths import mark_lengths, token_axis, tokens_text


@pytest.mark.parametrize(("n", "text"), [(16, "16"), (1000, "1000"), (1024, "1k"), (65536, "64k"), (1448, "1448")])
def test_tokens_text(n, text):
    assert tokens_text(n) == text


def test_marks_are_named_and_leave_the_limits_alone():
    axes = Figure().subplots()
    axes.set_xlim(16, 4096)
    token_axis(axes, "tokens")
    mark_lengths(axes, 256, 100_000)
    assert [text.get_text() for text in axes.texts] == ["T = 256"]  # L is outside
    assert axes.get_xlim() == (16, 4096)
    assert axes.get_xscale() == "log"


def test_no_training_length_no_mark():
    axes = Figure().subplots()
    mark_lengths(axes, None)
    assert not axes.texts
    assert not axes.lines
