"""figures/calibration_section.py: what is said of a calibration follows from its interval."""

import dataclasses

import pytest

from mambascope.figures.calibration_section import calibration_section, gain_words, how_it_went


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.2, -0.1, "gained"),
        (0.1, 0.2, "lost"),
        (-0.1, 0.001, "at most 0.002 bits may have been lost"),
        (-0.1, 0.1, "no difference can be told."),
        (None, None, "One document decides nothing."),
    ],
)
def test_what_calibration_gained_follows_the_interval(studies, refined_of, low, high, word):
    study = refined_of(studies["mamba2"])
    row = dataclasses.replace(study.refined.gain(1024), harm_ci_low=low, harm_ci_high=high)
    assert word in gain_words(study, dataclasses.replace(study.refined, gains=(row,)))


def test_where_the_start_is_kept_it_is_said(studies, refined_of):
    study = refined_of(studies["mamba"])
    assert "step 10 of 10 was kept" in how_it_went(study, study.refined)
    assert "for every channel" in how_it_went(study, study.refined)
    kept = dataclasses.replace(study.refined.found, step=0, scales=study.refined.found.start)
    assert "the start itself was kept" in how_it_went(study, dataclasses.replace(study.refined, found=kept))


def test_a_study_that_was_not_refined_has_no_such_section(studies):
    assert calibration_section(studies["alone"], {}) == ""
