"""figures/rules_section.py and report_corpora.py: words that follow from the table, corpora that are found."""

import argparse

import numpy as np
import pytest

from mambascope.analysis.rule_choice import choose_rule
from mambascope.figures.report_corpora import OWN, reaching, validation_corpora
from mambascope.figures.rules_section import choice_words, memory_words, rules_section, worst_words
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.tokens import Document


def test_a_default_that_is_not_the_best_is_called_so(studies, rules_of):
    def told(worst):
        return " ".join(choice_words(choose_rule([rules_of(studies["mamba2"], worst=worst)])))

    assert "is not the first of these: solved has 0.1000 bits less. It rests on measured writes" in told({
        "soft-clip": 0.101,
        "solved": 0.001,
    })
    assert "onset (-0.500; cannot be baked)" in told({"onset": -0.5}).replace("\N{MINUS SIGN}", "-")


def test_a_rule_that_loses_inside_is_told_with_its_loss(studies, rules_of):
    table = rules_of(studies["mamba2"], worst={"layer-a": -0.1, "hard-clip": 0.0})
    for row in table.texts:
        if row["rule"] in {"layer-a", "soft-clip"}:
            row["inside"] = 0.06
    told = " ".join(choice_words(choose_rule([table])))
    assert "layer-a (\N{MINUS SIGN}0.100; loses +0.0600 inside)" in told
    assert "The default does not meet the criterion here: soft-clip (+0.0010; loses +0.0600 inside)." in told
    for row in table.texts:
        row["inside"] = 0.06
    assert "No rule meets that here." in choice_words(choose_rule([table]))[1]


def test_what_is_given_up_is_told_beside_what_is_gained(studies, rules_of):
    told = " ".join(memory_words(rules_of(studies["mamba2"])))
    assert "as trained 90.0% of a state's energy is older than the 64 tokens" in told
    assert "with soft-clip (goal perplexity) 0.0%, mean harm +0.0008" in told
    assert "A passage read 52 tokens before saves the model as trained 0.0340 ± 0.0020 bits" in told
    table = rules_of(studies["mamba2"])
    for row in table.memory:
        row["saved_at_52_se"] = 0.02
    assert "cannot be told" in memory_words(table)[1]
    assert len(memory_words(rules_of(studies["mamba2"], saved=False))) == 1


def test_the_worst_cell_of_the_default_is_told_with_its_interval(studies, rules_of):
    table = rules_of(studies["mamba2"], worst={"soft-clip": 0.25})
    (told,) = worst_words(table)
    assert told == (
        "The default leaves most harm on books at 256 tokens: +0.250 bits (95 % interval +0.150 to +0.350, "
        "4 documents); as trained it is +4.00 there."
    )


def test_a_study_without_rules_has_no_such_section(studies):
    assert rules_section(studies["alone"], {}) == ""


def test_corpora_of_a_folder_join_the_bundled_ones(tmp_path):
    for corpus, parts in {
        "books": ("calibration", "validation", "test"),
        "more": ("calibration", "validation", "test"),
        "half": ("test", "validation"),
    }.items():
        for part in parts:
            (tmp_path / corpus / part).mkdir(parents=True)
            (tmp_path / corpus / part / "a.txt").write_text(corpus)
    ask = argparse.Namespace(validation=None, data=tmp_path)
    found = validation_corpora(ask)
    assert list(found) == ["books", "gov", "more"]
    assert found["books"] == [tmp_path / "books/validation/a.txt"]
    own = [tmp_path / "mine.txt"]
    assert validation_corpora(argparse.Namespace(validation=own, data=None)) == {OWN: own}
    with pytest.raises(RefusedInputError, match="CORPUS/calibration"):
        validation_corpora(argparse.Namespace(validation=None, data=tmp_path / "half"))


def test_corpora_that_are_too_short_are_told():
    texts = {name: [Document(name, np.zeros(n, np.uint8))] for name, n in (("long", 100), ("short", 50))}
    kept, left = reaching(texts, 80)
    assert list(kept) == ["long"]
    assert left == {"short": "none of its 1 documents reaches 80 tokens (the longest has 50)"}
