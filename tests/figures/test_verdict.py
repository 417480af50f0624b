"""figures/verdict.py: words follow the numbers, whatever they are."""

import dataclasses

import pytest

from mambascope.figures.verdict import (
    TOLERANCE_BITS,
    breaks_down,
    constants_words,
    harm_text,
    judge,
    measured_harm,
    signed,
)


@pytest.mark.parametrize(
    ("harm", "left", "word"),
    [
        (4.0, 0.004, "breaks down, mended"),
        (4.0, 0.9, "breaks down, partly mended"),
        (4.0, 3.9, "breaks down, not mended"),
        (4.0, 9.0, "breaks down, not mended"),
        (0.01, 0.012, "does not break down"),
        (0.01, 0.5, "does not break down, harmed by the scales"),
        (-0.2, -0.2, "does not break down"),
    ],
)
def test_verdicts_of_models_that_were_scaled(make, harm, left, word):
    study = make(harm=harm, left=left)
    assert judge(study).word == word
    assert harm_text(study.row("none", 1024)) in judge(study).sentences[0]
    assert harm_text(study.row("spectrum", 1024)) in judge(study).sentences[1]


def test_a_model_left_alone(make):
    assert judge(make(acts=False, harm=0.0)).word == "left alone"
    assert judge(make(acts=False, harm=4.0)).word == "breaks down, left alone"
    assert "gains from reading further" in judge(make(acts=False, harm=-0.3)).sentences[0]


def test_harm_that_may_be_chance_is_no_breakdown(make):
    row = make().row("none", 1024)
    assert breaks_down(row)
    assert not breaks_down(dataclasses.replace(row, harm_ci_low=-0.1))
    assert not breaks_down(dataclasses.replace(row, harm=TOLERANCE_BITS))


def test_one_document_says_that_it_has_no_interval(studies):
    text = " ".join(judge(studies["single"]).sentences)
    assert "one document: no interval" in text
    assert "overlap" not in text


def test_the_last_constant_of_the_grid_is_called_so(make):
    study = make()
    assert "largest of the grid tried" in constants_words(study)
    inside = dataclasses.replace(study, constants={1.0: 6.0, 4.0: 2.0, 16.0: 2.125})
    assert "largest of the grid" not in constants_words(inside)


def test_numbers_carry_sign_and_digits():
    assert [signed(v) for v in (12.0643, 0.4761, -0.00024, 0.0, -0.000001)] == [
        "+12.06",
        "+0.476",
        "\N{MINUS SIGN}0.0002",
        "0.0000",
        "0.0000",
    ]


def test_a_row_without_a_control_has_no_harm(make):
    row = dataclasses.replace(make().row("none", 64), harm=None)
    assert harm_text(row) == "not measured"
    with pytest.raises(ValueError, match="control was not run"):
        measured_harm(row)
