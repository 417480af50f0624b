"""analysis/compare.py: rows that say what they claim, resume to the same bytes, refuse what would mean nothing."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.compare import ComparePlan, planned_tokens, run_compare
from mambascope.analysis.compare_cells import reached
from mambascope.analysis.evaluate.bits import fresh_window_bits, token_bits
from mambascope.analysis.methods import chosen_methods
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import Texts
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.scales import scaling
from mambascope.spectra.tokens import Document

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

T, LENGTHS = 16, (16, 64, 128)
METHODS = ("constant:a:2", "constant:a:best", "heads", "spectrum")
SETTINGS = {"train_length": T, "fit_length": 32, "fit_on": "books", "steps": 1}


def texts_of(seed, *lengths):
    rng = np.random.default_rng(seed)
    return tuple(Document(f"{seed}-{k}", rng.integers(0, 50, n)) for k, n in enumerate(lengths))


def corpora_of():
    books = Texts(texts_of(1, 300, 300), texts_of(2, 300, 300), texts_of(3, 300, 300, 300))
    return {"books": books, "gov": Texts((), (), texts_of(4, 70, 70))}


def compare(model, methods=METHODS, **changes):
    return run_compare(model, corpora_of(), chosen_methods(methods), LENGTHS, **(SETTINGS | changes))


@pytest.fixture(scope="module")
def found():
    return compare(tiny.tiny_model("mamba2"))


def test_there_is_a_row_for_every_method_corpus_and_length_that_it_reaches(found):
    methods = {"none", "fresh-window", *METHODS}
    assert {(r.corpus, r.method, r.length) for r in found.rows} == {
        (corpus, m, n) for m in methods for corpus, ns in (("books", LENGTHS), ("gov", LENGTHS[:2])) for n in ns
    }
    assert {(r.corpus, r.documents, r.passages) for r in found.rows} == {("books", 3, 3), ("gov", 2, 2)}


def test_numbers_are_those_of_a_plain_evaluation(found):
    model = tiny.tiny_model("mamba2")
    ids = np.stack([document.ids[:128] for document in corpora_of()["books"].test])
    control = fresh_window_bits(model, ids, T)
    for method in ("none", "constant:a:2", "constant:a:best"):
        row = found.row("books", method, 64)
        s = {"none": 1.0, "constant:a:2": 2.0}.get(method) or row.factor
        bits = token_bits(model, ids, None if s == 1 else scaling("a", s))
        tail = slice(31, 63)
        np.testing.assert_allclose(row.bits, bits[:, :63].mean(), rtol=1e-6)
        np.testing.assert_allclose(row.perplexity, 2 ** bits[:, :63].mean(), rtol=1e-6)
        np.testing.assert_allclose(row.tail_bits, bits[:, tail].mean(), rtol=1e-6)
        np.testing.assert_allclose(row.harm, (bits - control)[:, tail].mean(), atol=1e-6)
        assert row.harm_low < row.harm < row.harm_high


def test_differences_are_to_the_reference_and_what_is_lost_inside_to_the_unscaled_model(found):
    spectrum, none = (found.row("books", m, 128) for m in ("spectrum", "none"))
    assert (spectrum.difference, spectrum.difference_low, none.inside) == (0, 0, 0)
    np.testing.assert_allclose(none.difference, none.tail_bits - spectrum.tail_bits, atol=1e-12)
    assert found.row("books", "fresh-window", 128).harm == 0
    assert found.row("books", "fresh-window", 128).inside is None
    heads, fixed = (found.row("books", m, 128) for m in ("heads", "constant:a:2"))
    assert 0 < abs(fixed.inside) < 1
    assert fixed.inside_low < fixed.inside < fixed.inside_high
    assert heads.difference != fixed.difference
    other = compare(tiny.tiny_model("mamba2"), ("constant:a:2",), reference="none")
    assert other.row("books", "none", 128).difference == 0
    np.testing.assert_allclose(
        other.row("books", "constant:a:2", 128).difference, fixed.difference - none.difference, atol=1e-12
    )


def test_a_stopped_comparison_ends_like_one_that_was_not(tmp_path, found):
    passed = 0

    def stop_at(tokens):
        def tick(n):
            nonlocal passed
            passed += n
            if passed > tokens:
                raise KeyboardInterrupt

        return tick

    def run_in(folder, tick=lambda _: None, methods=METHODS):
        model = tiny.tiny_model("mamba2")
        with RunFolder.open(tmp_path / folder, command={"v": 1}, seed=0) as run:
            return compare(model, methods, run=run, key="m", tick=tick)

    whole = run_in("whole", stop_at(10**9))
    everything = passed
    for share in (0.05, 0.7):  # in a fit, and later
        passed = 0
        with pytest.raises(KeyboardInterrupt):
            run_in("stopped", stop_at(share * everything))
    resumed = run_in("stopped")
    assert resumed.to_dict() == whole.to_dict() == found.to_dict()
    assert [row["fit_resumed"] for row in resumed.costs].count(True) == 1  # the fit in which the first stop fell
    assert not any(row["fit_resumed"] for row in whole.costs)
    data = {p.relative_to(tmp_path / "whole"): p.read_bytes() for p in (tmp_path / "whole/data").rglob("*.*")}
    assert data
    assert all((tmp_path / "stopped" / name).read_bytes() == content for name, content in data.items())

    def journaled():
        return (tmp_path / "whole/journal.jsonl").read_bytes().splitlines()

    before = journaled()
    more = run_in("whole", methods=(*METHODS, "constant:a:3"))
    assert journaled()[: len(before)] == before
    assert len(journaled()) - len(before) == 1 + 2 * 2  # the fit, and for each corpus long passages and windows
    assert [r for r in more.rows if r.method != "constant:a:3"] == list(whole.rows)


def test_equal_scales_share_a_pass():
    passed = []
    compare(tiny.tiny_model("mamba2"), ("constant:a:2",), reference="none", tick=passed.append)
    once, passed = sum(passed), []
    compare(tiny.tiny_model("mamba2"), ("constant:a:2", "constant:a:1"), reference="none", tick=passed.append)
    assert sum(passed) == once


def test_the_plan_foresees_the_work():
    passed = []
    compare(tiny.tiny_model("mamba2"), tick=passed.append)
    methods = chosen_methods(["none", "fresh-window", *METHODS])
    plan = ComparePlan(tiny.tiny_model("mamba2"), corpora_of(), methods, LENGTHS, **SETTINGS)
    planned = planned_tokens(plan.checked())
    assert 0.7 < sum(passed) / planned < 1.3


def test_scales_that_break_a_state_leave_gaps_and_not_an_end(tmp_path):
    scaling("dt", 7e28).then(scaling("dt", 7e28)).save(tmp_path / "wild.json")  # each alone would do
    name = f"scales:{tmp_path / 'wild.json'}"
    found = compare(tiny.tiny_model("mamba2"), (name,))
    row = found.row("books", name, 128)
    assert (row.bits, row.tail_bits, row.perplexity, row.harm, row.difference, row.inside) == (None,) * 6
    assert found.row("books", "none", 128).bits is not None
    assert all(name not in told for told in found.verdicts())


def test_a_test_document_among_the_calibration_texts_is_refused():
    corpora = corpora_of()
    corpora["gov"] = Texts((), (), (*corpora["gov"].test, corpora["books"].calibration[0]))
    with pytest.raises(RefusedInputError, match="same content"):
        run_compare(tiny.tiny_model("mamba2"), corpora, chosen_methods(["none"]), LENGTHS, **SETTINGS)


def test_lengths_below_training_are_refused():
    with pytest.raises(RefusedInputError, match="training length 16"):
        run_compare(tiny.tiny_model("mamba2"), corpora_of(), chosen_methods(["none"]), (8, 64), **SETTINGS)


def test_a_corpus_is_read_as_far_as_enough_documents_reach():
    documents = texts_of(0, 20, 70, 70, 140)
    assert reached(documents, (16, 64, 128), enough=3) == (16, 64)
    assert reached(documents, (16, 64, 128), enough=1) == (16, 64, 128)
    assert reached(documents[3:], (16, 64, 128), enough=3) == (16, 64, 128)
    with pytest.raises(RefusedInputError, match="fewer than 3"):
        reached(documents, (128, 256), enough=3)


def test_several_starts_and_fewer_documents_are_counted():
    found = compare(tiny.tiny_model("mamba"), ("none",), starts=2, documents=2, longest={"books": 64})
    assert {(r.corpus, r.documents, r.passages, r.length) for r in found.rows} == {
        ("books", 2, 4, 16), ("books", 2, 4, 64), ("gov", 2, 2, 16), ("gov", 2, 2, 64),
    }  # fmt: skip


def test_the_verdict_names_the_best_and_says_when_it_is_not_told_apart(found):
    for told, (corpus, length) in zip(
        found.verdicts(), [("books", 16), ("books", 64), ("books", 128), ("gov", 16), ("gov", 64)], strict=True
    ):
        rows = [r for r in found.rows if (r.corpus, r.length) == (corpus, length) and r.method != "fresh-window"]
        best = min(rows, key=lambda r: r.tail_bits)
        assert told.startswith(f"{corpus}, {length} tokens")
        assert f"{best.method} has the fewest tail bits, {best.tail_bits:.4f}" in told
        assert "(not told apart)" in told  # random ids: no method is better than another
        last = min(rows, key=lambda r: r.last_bits)
        who = (
            "It has the fewest bits over the last 100, too" if last is best else f"Over the last 100 {last.method} has"
        )
        assert who in told


def test_the_best_is_paired_with_the_next_and_with_the_reference(found):
    for best in found.best:
        name = "tail_bits" if best.by == "tail" else "last_bits"
        bits = {
            r.method: getattr(r, name)
            for r in found.rows
            if (r.corpus, r.length) == (best.corpus, best.length) and r.method != "fresh-window"
        }
        assert best.bits == bits[best.method] == min(bits.values())
        others = sorted(value for value in bits.values() if value != best.bits)
        assert bits[best.next] == others[0]
        np.testing.assert_allclose(best.to_next[0], best.bits - others[0], atol=1e-12)
        if best.method == "spectrum":
            assert best.to_reference == (None,) * 4
        else:
            np.testing.assert_allclose(best.to_reference[0], best.bits - bits["spectrum"], atol=1e-12)
    assert len(found.best) == 2 * 5  # both kinds, 3 lengths of books and 2 of gov


def test_a_method_that_drops_tokens_has_numbers_for_the_last_ones_alone():
    """Up to T + 101 tokens it drops none; at 256 it reads 155 before the last 101 and keeps 16 of them."""
    books = Texts(texts_of(1, 300), texts_of(2, 300), texts_of(3, 300, 300, 300))
    found = run_compare(
        tiny.tiny_model("mamba2"), {"books": books}, chosen_methods(["decimamba:1", "constant:a:2"]), (16, 256),
        **SETTINGS,
    )  # fmt: skip
    drops, none, fixed = (found.row("books", m, 256) for m in ("decimamba:1", "none", "constant:a:2"))
    assert (drops.bits, drops.perplexity, drops.tail_bits, drops.harm, drops.difference) == (None,) * 5
    assert drops.last_bits not in {None, none.last_bits}
    control, spectrum = (found.row("books", m, 256).last_bits for m in ("fresh-window", "spectrum"))
    np.testing.assert_allclose(drops.last_harm, drops.last_bits - control, atol=1e-12)
    np.testing.assert_allclose(fixed.last_difference, fixed.last_bits - spectrum, atol=1e-12)
    assert drops.last_difference_low < drops.last_difference < drops.last_difference_high
    assert drops.inside == 0  # windows of T tokens are within its budget
    assert found.row("books", "decimamba:1", 16).tail_bits == found.row("books", "none", 16).tail_bits
    assert {best.method for best in found.best if best.by == "tail" and best.length == 256} != {"decimamba:1"}


def test_workers_give_the_same_bytes(tmp_path, found):
    """In a run folder and without one; a fit's own folder below it included."""
    for jobs in (1, 2):
        with RunFolder.open(tmp_path / str(jobs), command={"v": 1}, seed=0) as run:
            again = compare(tiny.tiny_model("mamba2"), run=run, key="m", engine="loky", jobs=jobs)
        assert again.to_dict() == found.to_dict()
    one, two = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name / "data").rglob("*.safetensors")}
        for name in ("1", "2")
    )
    assert len(one) > 10
    assert one == two
    lines = [sorted((tmp_path / name / "journal.jsonl").read_bytes().splitlines()) for name in ("1", "2")]
    assert lines[0] == lines[1]
    assert (tmp_path / "2/fits/m/heads/journal.jsonl").is_file()


def test_costs_are_kept_with_the_cells_they_are_of(tmp_path):
    def run_in():
        with RunFolder.open(tmp_path / "run", command={"v": 1}, seed=0) as run:
            return compare(tiny.tiny_model("mamba2"), run=run, key="m")

    first, again = run_in(), run_in()
    assert first.costs == again.costs  # read, not measured again
    rows = {row["method"]: row for row in first.costs}
    assert rows["heads"]["fit_seconds"] > 0
    assert rows["heads"]["fit_resumed"] is False
    assert rows["constant:a:2"]["fit_seconds"] is None  # nothing to fit
    assert all(row["tokens_per_second"] > 0 for row in rows.values())
    assert b"tokens_per_second" not in (tmp_path / "run/journal.jsonl").read_bytes()
