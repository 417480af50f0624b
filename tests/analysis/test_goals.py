"""Test ``mambascope.analysis.goals``: what a goal's words say follows from formulas and holds in simulation."""

import re

import numpy as np
import pytest

from mambascope.analysis.goals import FAR_CLIP, GOALS, kept_over_T, most_growth
from mambascope.analysis.rule_table import TABLE_RULES
from mambascope.simulate.modes import mean_gain


def test_the_words_of_the_far_clip_are_what_a_clipped_mode_does():
    T = 4096
    rate = 1 / (FAR_CLIP * T)
    kept = np.exp(-rate) ** T
    grown = float(mean_gain(np.array(rate), 10**9) / mean_gain(np.array(rate), T))  # a constant drives it
    assert kept_over_T(FAR_CLIP) == pytest.approx(kept)
    assert most_growth(FAR_CLIP) == pytest.approx(grown, rel=1e-3)
    why = GOALS["retrieval"].why
    assert f"{kept:.0%} of a write" in why
    assert f"more than {grown:.1f} times" in why


def test_the_far_clip_is_the_nearest_that_costs_less_than_a_quarter():
    clips = sorted(float(rule.partition(":")[2] or 1) for rule in TABLE_RULES if rule.startswith("hard-clip"))
    assert min(c for c in clips if kept_over_T(c) > 0.75) == FAR_CLIP
    assert GOALS["retrieval"].rule == f"hard-clip:{FAR_CLIP:g}"


def test_no_words_quote_a_measurement():
    for goal in GOALS.values():
        told = goal.why.replace(f"{kept_over_T(FAR_CLIP):.0%}", "").replace(f"{most_growth(FAR_CLIP):.1f}", "")
        assert not re.search(r"\d+(\.\d+)? (bits|tokens)", told)
        assert not re.search(r"0\.\d", told)
