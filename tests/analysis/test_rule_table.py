"""Test ``mambascope.analysis.rule_table``, ``rule_scores`` and ``repeated_passages`` on small random models."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.diagnosis import diagnose
from mambascope.analysis.evaluate.intervals import interval
from mambascope.analysis.evaluate.perplexity import fresh_window_bits, token_bits
from mambascope.analysis.evidence import Evidence
from mambascope.analysis.repeated_passages import PASSAGE_TOKENS, RepeatedPassages, bits_saved, repeated_passages
from mambascope.analysis.rule_scores import INSIDE_WINDOWS
from mambascope.analysis.rule_table import (
    DEFAULT,
    TABLE_RULES,
    planned_tokens,
    rule_table,
    rules_for,
    score_rows,
    times_within,
)
from mambascope.analysis.rules import find_rule
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.training_windows import training_windows
from mambascope.spectra.errors import TextError
from mambascope.spectra.loading import load
from mambascope.spectra.tokens import Document
from mambascope.spectra.zoo import text_files

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

T = 16


def documents(seed, length=700, count=2):
    rng = np.random.default_rng(seed)
    return [Document(f"d{seed}-{k}", rng.integers(0, 50, length).astype(np.uint8)) for k in range(count)]


def agrees(row, name, by_document):
    expected = interval(by_document)
    found = [row[f"{name}{end}"] for end in ("", "_ci_low", "_ci_high")]
    np.testing.assert_allclose(found, [expected.mean, expected.low, expected.high], atol=3e-5)  # 12.7 standard errors


def test_statistics_are_of_differences_by_document():
    def scores(*tail, inside=(1.0, 1.0, 1.0)):
        return [{"length": 64, "tail": list(tail), "inside": list(inside[: len(tail)])}]

    control, default = scores(1.0, 1.0, 1.0), scores(0.0, 3.0, 3.0)
    (row,) = score_rows(scores(1.0, 2.0, 3.0, inside=(1.5, 1.5, 1.5)), control, default)
    half = 4.302653 / np.sqrt(3)  # Student's t of 2 degrees of freedom; the differences 0, 1, 2 have a deviation of 1
    assert (row["length"], row["documents"], row["tail_bits_per_token"], row["harm"]) == (64, 3, 2.0, 1.0)
    assert row["harm_ci_low"] == pytest.approx(1 - half)
    assert row["harm_ci_high"] == pytest.approx(1 + half)
    assert [row[f"inside{end}"] for end in ("", "_ci_low", "_ci_high")] == [0.5, 0.5, 0.5]
    assert row["against_default"] == 0.0  # 1, -1, 0
    assert row["against_default_ci_low"] == pytest.approx(-half)
    (alone,) = score_rows(scores(1.0), scores(0.5), None)
    assert alone["harm"] == 0.5
    assert alone["harm_ci_low"] is alone["against_default"] is alone["against_default_ci_high"] is None


def test_a_run_keeps_documents_and_the_statistics_follow_from_them(tmp_path):
    model = tiny.tiny_model("mamba2")
    found = diagnose(model, np.stack([d.ids for d in documents(1)]), train_length=T, target_length=64)
    corpora, counted = {"one": documents(2, count=3)}, []
    ask = {"rules": ["none", DEFAULT], "times": [2, 4], "tick": counted.append}
    with RunFolder.open(tmp_path / "run", command={"verb": "rules"}, seed=0) as run:
        table = rule_table(model, found, corpora, [], run=run, **ask)
        kept = {name: run.journal.get("cell", f"{model.name}/rule-{name}") for name in
                ("control/one", "scores/one/none", f"scores/one/{DEFAULT}")}  # fmt: skip
        read = len(counted)
        rule_table(model, found, corpora, [], run=run, **ask)
        assert len(counted) == read  # nothing is scored twice
    control, none, default = kept.values()
    assert [len(score["tail"]) for score in none] == [len(score["inside"]) for score in none] == [3, 3]
    rows = score_rows(none, control, default)
    of_none = [row for row in table.texts if row["rule"] == "none"]
    assert [row["harm"] for row in of_none] == [row["harm"] for row in rows]
    assert [row["against_default_ci_low"] for row in of_none] == [row["against_default_ci_low"] for row in rows]
    without = rule_table(model, found, corpora, [], rules=["none"], times=[2])
    assert without.texts[0]["against_default"] is None


def test_the_table_is_what_direct_scores_give(tmp_path):
    model = tiny.tiny_model("mamba2")
    calibration = np.stack([d.ids for d in documents(1)])
    found = diagnose(model, calibration, train_length=T, target_length=256, writes=True)
    corpora = {"one": documents(2), "two": documents(3)}
    ask = {"rules": ["none", "soft-clip", "layer-dt"], "times": [4, 16]}
    with RunFolder.open(tmp_path / "run", command={"verb": "rules"}, seed=0) as run:
        table = rule_table(model, found, corpora, [], run=run, **ask)
        assert rule_table(model, found, corpora, [], run=run, **ask).to_dict() == table.to_dict()
    assert len(table.texts) == 3 * 2 * 2
    for row in table.texts:
        n = row["length"]
        ids = np.stack([d.ids[:256] for d in corpora[row["corpus"]]])
        scales = find_rule(row["rule"])(Evidence.of(found, n))
        tail = slice(n // 2 - 1, n - 1)
        bits, control = token_bits(model, ids, scales), fresh_window_bits(model, ids, T)
        agrees(row, "harm", (bits - control)[:, tail].mean(1))
        lost = []
        for document in ids:  # its share of the windows
            windows = training_windows(document[None], T, INSIDE_WINDOWS // len(ids))
            lost.append(token_bits(model, windows, scales).mean() - token_bits(model, windows).mean())
        agrees(row, "inside", np.array(lost))
        default = token_bits(model, ids, find_rule(DEFAULT)(Evidence.of(found, n)))
        agrees(row, "against_default", (bits - default)[:, tail].mean(1))
    none = [row for row in table.memory if row["rule"] == "none"]
    assert all(row["energy_older_before"] == row["energy_older_after"] for row in none)
    assert [row["rule"] for row in table.summary(256)] == sorted(
        ask["rules"],
        key=lambda rule: np.mean([r["harm"] for r in table.texts if (r["rule"], r["length"]) == (rule, 256)]),
    )


def test_a_table_counts_its_tokens_files_cells_by_key_and_leaves_impossible_passages_out(tmp_path):
    model = tiny.tiny_model("mamba2")
    found = diagnose(model, np.stack([d.ids for d in documents(1)]), train_length=64, target_length=256, writes=True)
    corpora, counted = {"one": documents(2), "two": documents(3, count=3)}, []
    ask = {"rules": ["none", "soft-clip", "layer-dt", "hard-clip:4"], "times": [2, 4], "key": "k"}
    with RunFolder.open(tmp_path / "run", command={"verb": "rules"}, seed=0) as run:
        table = rule_table(model, found, corpora, corpora["one"], run=run, tick=counted.append, **ask)
        assert ("cell", "k/rule-scores/two/layer-dt") in run.journal
        assert ("cell", "k/rule-passages/none") in run.journal
    assert sum(counted) == pytest.approx(planned_tokens(corpora, 64, [2, 4], rules=4), rel=0.25)
    assert table.gaps == [52]
    assert table.documents() == {"one": 2, "two": 3}
    assert table.lengths == [128, 256]
    alone = rule_table(model, found, corpora, corpora["one"][:1], **ask)  # two documents at least are needed
    assert alone.gaps == []
    assert alone.texts == table.texts
    rows = {row["rule"]: row for row in table.summary()}
    for rule, row in rows.items():
        of_rule = [text for text in table.texts if text["rule"] == rule]
        assert row["harm_worst"] == max(text["harm"] for text in of_rule)
        assert row["inside_worst"] == max(text["inside"] for text in of_rule)
        assert row["harm_mean"] == pytest.approx(np.mean([t["harm"] for t in of_rule if t["length"] == 256]))
    assert rows["none"]["inside_worst"] == 0


def test_lengths_and_rules_that_a_model_allows():
    assert times_within(256, 16384) == (4, 16, 64)
    assert times_within(256, 5000) == (4, 16)
    assert times_within(256, 700) == (2,)
    model = tiny.tiny_model("mamba2")
    ids = np.stack([d.ids for d in documents(1)])
    plain = diagnose(model, ids, train_length=T, target_length=64)
    assert set(rules_for(plain)) == {rule for rule in TABLE_RULES if not find_rule(rule).needs_writes}
    assert rules_for(diagnose(model, ids, train_length=T, target_length=64, writes=True)) == list(TABLE_RULES)


def test_passages_stand_at_both_ends():
    pairs = repeated_passages(documents(4), 100, 6, seed=3)
    P = PASSAGE_TOKENS
    assert pairs.repeated.shape == (6, 100 + P)
    np.testing.assert_array_equal(pairs.repeated[:, :P], pairs.repeated[:, -P:])
    np.testing.assert_array_equal(pairs.repeated[:, P:], pairs.other[:, P:])
    assert (pairs.repeated[:, :P] != pairs.other[:, :P]).mean() > 0.9
    np.testing.assert_array_equal(repeated_passages(documents(4), 100, 6, seed=3).other, pairs.other)
    with pytest.raises(TextError, match="two documents"):
        repeated_passages(documents(4, count=1), 100, 6, seed=3)


def test_a_clip_far_out_keeps_what_a_near_one_forgets():
    """On the bundled Mamba-1 model, 3 T back; and against itself a passage saves exactly nothing."""
    model = load("mamba-tiny")
    texts = [Document(p.name, np.frombuffer(p.read_bytes(), np.uint8)) for p in text_files("calibration")]
    found = diagnose(model, np.stack([d.ids[:1024] for d in texts]), train_length=256, target_length=1024)
    pairs = repeated_passages(texts, 208, 48, seed=1)
    saved = {
        rule: bits_saved(model, pairs, find_rule(rule)(Evidence.of(found)))[0] for rule in ("soft-clip", "hard-clip:4")
    }
    unscaled, error = bits_saved(model, pairs)
    assert unscaled > 3 * error
    assert saved["hard-clip:4"] > 0.85 * unscaled
    assert saved["soft-clip"] < 0.8 * unscaled
    same = RepeatedPassages(pairs.gap_tokens, pairs.repeated[:4], pairs.repeated[:4])
    assert bits_saved(model, same) == (0.0, 0.0)
