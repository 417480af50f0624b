"""figures/rules_section.py, rules_words.py, corpora.py: words that follow from the table, corpora found."""

import argparse
import dataclasses

import numpy as np
import pytest

from mambascope.analysis.rule_choice import choose_rule
from mambascope.analysis.rules import find_rule
from mambascope.figures.corpora import OWN, corpus_files, reaching, validation_corpora
from mambascope.figures.gallery import drawings
from mambascope.figures.markup import coded, escape
from mambascope.figures.rules_section import across_models, rules_section
from mambascope.figures.rules_words import apart_words, choice_words, few_words, memory_words, worst_words
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.tokens import Document


def test_a_default_that_is_not_the_best_is_called_so(studies, rules_of):
    def told(worst):
        return " ".join(choice_words(choose_rule([rules_of(studies["mamba2"], worst=worst)])))

    assert "is not the first of these: solved has 0.1000 bits less. solved rests on measured writes" in told({
        "soft-clip": 0.101,
        "solved": 0.001,
    })
    assert "onset (-0.500; cannot be baked)" in told({"onset": -0.5}).replace("\N{MINUS SIGN}", "-")


def test_a_rule_that_loses_inside_is_told_with_its_loss(studies, rules_of):
    table = rules_of(studies["mamba2"], worst={"layer-a": -0.1, "hard-clip": 0.0})
    for row in table.texts:
        if row["rule"] in {"layer-a", "soft-clip"}:
            row |= {"inside": 0.06, "inside_ci_low": 0.05, "inside_ci_high": 0.07}
    told = " ".join(choice_words(choose_rule([table])))
    lost = "loses +0.0600 [+0.0500, +0.0700] inside"
    assert f"layer-a (\N{MINUS SIGN}0.100; {lost})" in told
    assert f"The default does not meet the criterion here: soft-clip (+0.0010; {lost})." in told
    for row in table.texts:
        if row["rule"] == "soft-clip":
            row["inside_ci_low"] = 0.001
    told = " ".join(choice_words(choose_rule([table])))
    assert "soft-clip (+0.0010; loses +0.0600 [+0.0010, +0.0700] inside, not settled)." in told
    assert "Document by document, hard-clip is told apart from the default in none of 4 cells" in told
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


def test_a_rule_ahead_of_the_default_is_told_apart_or_not(studies, rules_of):
    table = rules_of(studies["mamba2"], worst={"soft-clip": 0.002, "solved": 0.0005})
    told = " ".join(choice_words(choose_rule([table])))
    minus = "\N{MINUS SIGN}"
    assert (
        "Document by document, solved is told apart from the default in none of 4 cells (a corpus at a length); the "
        f"difference is {minus}0.0005 [{minus}0.0055, +0.0045] bits where the default leaves most harm, and "
        f"{minus}0.0005 [{minus}0.0055, +0.0045] where it speaks most against solved."
    ) in told
    for row, shift in zip((row for row in table.texts if row["rule"] == "solved"), (-1, -1, 1, 0), strict=True):
        row |= {
            f"against_default{end}": shift * 0.5 + at for end, at in (("", 0), ("_ci_low", -0.1), ("_ci_high", 0.1))
        }
    told = apart_words(choose_rule([table]).row("solved"), models=2)
    assert "told apart from the default in 3 of 4 cells (a model on a corpus at a length), 2 in its own favour" in told
    assert "and 1 in the default's" in told
    assert "+0.500 [+0.400, +0.600] where it speaks most against solved." in told


def test_few_documents_are_said_to_be_few(studies, rules_of):
    table = rules_of(studies["mamba2"])
    assert "Cells have 3 to 4 documents: such intervals are wide" in few_words([table])
    for row in table.texts:
        row["documents"] = 12
    assert few_words([table]).startswith("Cells have 12 documents; ")
    assert "wide" not in few_words([table])


def test_the_worst_cell_of_the_default_is_told_with_its_interval(studies, rules_of):
    table = rules_of(studies["mamba2"], worst={"soft-clip": 0.25})
    harm, inside = worst_words(table)
    assert harm == (
        "The default leaves most harm on books at 256 tokens: +0.250 bits (95 % interval +0.150 to +0.350, "
        "4 documents); as trained it is +4.00 there."
    )
    assert inside == (
        "Inside the training length it loses most on books: +0.0001 bits (95 % interval \N{MINUS SIGN}0.0010 to "
        "+0.0012, 4 documents), within the 0.005 that a default may lose, and the interval settles that."
    )
    row = next(r for r in table.texts if (r["rule"], r["corpus"], r["length"]) == ("soft-clip", "gov", 1024))
    row |= {"inside": 0.01, "inside_ci_low": -0.01, "inside_ci_high": 0.03}
    told = worst_words(table)[1]
    assert told.startswith("Inside the training length it loses most on gov with the scales for 1k tokens: +0.0100")
    assert told.endswith("more than the 0.005 that a default may lose, but the interval does not settle that.")
    for each in table.texts:
        each["inside"] = -0.002
    assert worst_words(table)[1].startswith("Inside the training length it loses on no corpus; it gains least on ")


def test_every_rule_is_explained_where_it_is_named(studies, rules_of, make):
    study = dataclasses.replace(studies["mamba2"], rules=rules_of(studies["mamba2"]))
    html = rules_section(study, {"rules": drawings(make())["constants"]})
    inside = html[html.index("What each rule does") : html.index("All rules")]
    for name in {row["rule"] for row in study.rules.memory}:
        assert f"<td>{name}</td><td>{escape(find_rule(name).description)}</td>" in inside
    assert html.index("A rule turns the diagnosis into factors") < html.index("What is given up")


def test_goals_show_commands_as_code_and_escape_the_rest():
    assert coded("`a b` <i> `c") == "<code>a b</code> &lt;i&gt; `c"


def test_tables_hold_every_rule_against_the_default(studies, rules_of):
    one, two = (dataclasses.replace(studies[n], rules=rules_of(studies[n])) for n in ("mamba2", "mamba"))
    row = choose_rule([one.rules, two.rules]).row("layer-a")
    cell = f'data-value="{row["against_default_worst"]!r}"'
    html = across_models([one, two])
    assert "against the default, worst cell (bits)" in html
    assert cell in html
    assert "is the default" in html


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
    assert corpus_files("more", "test", tmp_path) == [tmp_path / "more/test/a.txt"]
    assert corpus_files("gov", "test", tmp_path) == corpus_files("gov", "test")
    for corpus, data, says in (("half", tmp_path, "half/calibration"), ("poems", None, "--data DIR")):
        with pytest.raises(RefusedInputError, match=says):
            corpus_files(corpus, "calibration", data)
    own = [tmp_path / "mine.txt"]
    assert validation_corpora(argparse.Namespace(validation=own, data=None)) == {OWN: own}
    with pytest.raises(RefusedInputError, match="CORPUS/calibration"):
        validation_corpora(argparse.Namespace(validation=None, data=tmp_path / "half"))


def test_corpora_that_are_too_short_are_told():
    texts = {name: [Document(name, np.zeros(n, np.uint8))] for name, n in (("long", 100), ("short", 50))}
    kept, left = reaching(texts, 80)
    assert list(kept) == ["long"]
    assert left == {"short": "none of its 1 documents reaches 80 tokens (the longest has 50)"}
