"""Test ``mambascope.analysis.sweep``: cells that say what they claim, found again by what they depend on."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis import sweep_run as module
from mambascope.analysis.engine_each import Failure
from mambascope.analysis.evaluate.bits import fresh_window_bits, token_bits
from mambascope.analysis.methods import METHODS, Task, find_method
from mambascope.analysis.sweep import SweepFailedError
from mambascope.analysis.sweep_cells import FOR_ONE_LENGTH, SweepCorpus, SweepJob, SweepModel, draws, located, portable
from mambascope.analysis.sweep_run import SweepRun
from mambascope.analysis.sweep_store import SweepStore
from mambascope.analysis.sweep_work import find_cell
from mambascope.spectra.errors import MambascopeError, RefusedInputError
from mambascope.spectra.loading import load
from mambascope.spectra.scales import scaling
from mambascope.spectra.zoo import text_files

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

T, LENGTHS = 16, (16, 64)
METHOD_NAMES = ("none", "fresh-window", "constant:a:2", "state-passing:noise")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model, and texts of 80 bytes or more."""
    base = tmp_path_factory.mktemp("sweep")
    tiny.save_tiny(base / "m2", "mamba2")
    for split in ("calibration", "validation", "test"):
        for k, path in enumerate(text_files(split)[:3]):
            (base / f"{split}{k}.txt").write_bytes(path.read_bytes()[: 80 if split == "test" and k == 2 else 300])
    return base


@pytest.fixture
def job(files):
    model = SweepModel("m2", str(files / "m2"), T, LENGTHS, 2 * T, None)
    texts = ([str(files / f"{split}{k}.txt") for k in range(3)] for split in ("calibration", "validation", "test"))
    corpus = SweepCorpus("books", *map(tuple, texts))
    return SweepJob((model,), (corpus,), {name: name for name in METHOD_NAMES}, "books", seeds=(0, 1), steps=1)


@pytest.fixture
def run_in(tmp_path):
    """Run a job in a folder, and say what was computed."""

    def run(job, folder="s", **where):
        events = []
        with SweepStore.open(tmp_path / folder) as store:
            found = SweepRun(job, store).run(watch=events.append, **where)
        return found, [("fitted" if e.is_fit and e.what == "done" else e.what, e.cell.number) for e in events]

    return run


def row(found, **where):
    (match,) = [r for r in found.rows() if all(r[name] == value for name, value in where.items())]
    return match


def test_cells_are_numbered_by_the_plan_alone(job):
    cells = replace(job, tasks=("perplexity", "passkey")).cells()
    assert [cell.number for cell in cells] == list(range(1, len(cells) + 1))
    places = [(cell.length, cell.method, cell.seed) for cell in cells if cell.task == "perplexity"]
    each = [
        ("none", None),
        ("fresh-window", None),
        ("constant:a:2", None),
        ("state-passing:noise", 0),
        ("state-passing:noise", 1),
    ]
    assert places == [(n, *one) for n in LENGTHS for one in each]
    keys = [(cell.method, cell.seed) for cell in cells if cell.task == "passkey" and cell.length == T]
    assert keys == [(name, seed) for name in METHOD_NAMES if name != "fresh-window" for seed in (0, 1)]
    limited = replace(job, corpora=(replace(job.corpora[0], longest=32),))
    assert {cell.length for cell in limited.cells()} == {16}
    assert cells[0].words() == "perplexity of m2 on books, 16 tokens, none"


def test_numbers_are_those_of_a_plain_evaluation(job, files, run_in):
    found, _ = run_in(job)
    model = load(files / "m2")
    ids = np.stack([np.frombuffer((files / f"test{k}.txt").read_bytes()[:64], np.uint8) for k in range(3)])
    control = fresh_window_bits(model, ids, T)
    for method, scales in (("none", None), ("constant:a:2", scaling("a", 2.0))):
        bits, of = token_bits(model, ids, scales), row(found, method=method, length=64)
        np.testing.assert_allclose(of["bits"], bits.mean(), rtol=1e-6)
        np.testing.assert_allclose(of["perplexity"], 2 ** bits.mean(), rtol=1e-6)
        np.testing.assert_allclose(of["tail_bits"], bits[:, 31:].mean(), rtol=1e-6)
        np.testing.assert_allclose(of["harm"], (bits - control)[:, 31:].mean(), atol=1e-6)
        assert of["harm_low"] < of["harm"] < of["harm_high"]
        assert (of["documents"], of["passages"], of["state"], of["error"]) == (3, 3, "done", None)
    both = [r["tail_bits"] for r in found.rows() if r["method"] == "state-passing:noise" and r["length"] == 64]
    assert both[0] != both[1]
    summary = next(r for r in found.summary() if r["method"] == "state-passing:noise" and r["length"] == 64)
    assert (summary["cells"], summary["done"], summary["failed"]) == (2, 2, 0)
    np.testing.assert_allclose(summary["tail_bits_mean"], np.mean(both))
    np.testing.assert_allclose(summary["tail_bits_sd"], np.std(both, ddof=1))


def test_a_plan_that_grows_computes_only_what_is_new(job, run_in):
    first, done = run_in(job)
    assert sorted(n for what, n in done if what == "done") == list(range(1, 11))
    assert [what for what, _ in done].count("fitted") == 2  # one a seed, for both lengths
    again, done = run_in(job)
    assert {what for what, _ in done} == {"kept"}
    assert again.rows() == first.rows()
    longer = replace(job, models=(replace(job.models[0], lengths=(16, 32, 64)),), seeds=(1, 2))
    found, done = run_in(longer)
    new = [cell.number for cell in longer.cells() if cell.length == 32 or cell.seed == 2]
    assert sorted(n for what, n in done if what == "done") == new
    assert [what for what, _ in done].count("fitted") == 1  # seed 2
    for name, seed in (("none", None), ("state-passing:noise", 1)):
        where = {"method": name, "length": 64, "seed": seed}
        assert row(found, **where)["key"] == row(first, **where)["key"]


PASSKEY = {"tasks": ("passkey",), "methods": {"none": "none", "spectrum": "spectrum"}}
PROPOSED = {"methods": {"spectrum": "spectrum", "constant:a:best": "constant:a:best"}}


def changed_keys(job, other, tmp_path):
    """Return the methods whose cells have another address in another job, and those whose cells have the same."""
    with SweepStore.open(tmp_path) as store:
        before, after = (SweepRun(each, store) for each in (job, other))
        pairs = list(zip(before.cells, after.cells, strict=True))
        moved = {a.method for a, b in pairs if before.key(a) != after.key(b)}
        kept = {a.method for a, b in pairs if before.key(a) == after.key(b)}
        assert len({before.key(cell) for cell in before.cells}) == len(before.cells)
    return moved, kept


def without_first(job, *parts):
    """Return the job with the first text of some parts left out."""
    corpus = job.corpora[0]
    return replace(job, corpora=(replace(corpus, **{name: getattr(corpus, name)[1:] for name in parts}),))


def with_model(job, **parts):
    return replace(job, models=(replace(job.models[0], **parts),))


ALL, NOISE = set(METHOD_NAMES), {"state-passing:noise"}


@pytest.mark.parametrize(
    ("base", "change", "moved"),
    [
        ({}, lambda job: replace(job, batch=2), ALL),
        ({}, lambda job: replace(job, starts=2), ALL),
        ({}, lambda job: replace(job, documents=2), ALL),
        ({}, lambda job: replace(job, threads=2), ALL),
        ({}, lambda job: replace(job, dtype="float64"), ALL),
        ({}, lambda job: with_model(job, train_length=15), ALL),
        ({}, lambda job: without_first(job, "test"), ALL),
        ({}, lambda job: replace(job, steps=2), NOISE),
        ({}, lambda job: with_model(job, fit_length=64), NOISE),
        ({}, lambda job: without_first(job, "calibration"), NOISE),
        ({}, lambda job: without_first(job, "validation"), NOISE),
        ({}, lambda job: replace(job, examples=3, depths=(0.0,)), set()),
        (PROPOSED, lambda job: with_model(job, target_length=128), {"spectrum"}),
        (PASSKEY, lambda job: replace(job, examples=3), {"none", "spectrum"}),
        (PASSKEY, lambda job: replace(job, depths=(0.0, 0.5)), {"none", "spectrum"}),
        (PASSKEY, lambda job: replace(job, seeds=(2, 3)), {"none", "spectrum"}),
        (PASSKEY, lambda job: without_first(job, "test"), {"none", "spectrum"}),
        (PASSKEY, lambda job: without_first(job, "calibration"), {"spectrum"}),
        (PASSKEY, lambda job: with_model(job, target_length=128), {"spectrum"}),
        (PASSKEY, lambda job: replace(job, batch=2, starts=2, documents=2), set()),
    ],
)  # fmt: skip
def test_an_address_changes_where_the_number_can_and_nowhere_else(job, tmp_path, base, change, moved):
    job = replace(job, **base)
    assert changed_keys(job, change(job), tmp_path) == (moved, set(job.methods) - moved)


def test_a_pinned_target_is_one_fit_for_all_lengths(job, tmp_path):
    job = replace(job, methods={"spectrum": "spectrum"})
    with SweepStore.open(tmp_path) as store:
        each, pinned = (SweepRun(x, store) for x in (job, with_model(job, target_length=128)))
        assert [len({run.fit_key(cell) for cell in run.cells}) for run in (each, pinned)] == [2, 1]


def test_a_run_that_goes_on_tells_of_each_cell_once(job, tmp_path):
    """The same object may run again, as after a failure."""
    told = []
    with SweepStore.open(tmp_path) as store:
        sweep = SweepRun(replace(job, methods={"none": "none"}), store)
        sweep.run()
        for path in (tmp_path / "cells").iterdir():
            path.unlink()
        sweep.run(watch=told.append)
    assert sorted((event.what, event.cell.number) for event in told) == [("done", 1), ("done", 2)]


def test_names_and_places_are_not_in_an_address(job, files, tmp_path):
    moved = files / "elsewhere"
    moved.mkdir(exist_ok=True)
    for path in (files / "m2").iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    other = replace(job, models=(replace(job.models[0], name="another", source=str(moved)),))
    with SweepStore.open(tmp_path) as store:
        before, after = (SweepRun(each, store) for each in (job, other))
        assert [before.key(c) for c in before.cells] == [after.key(c) for c in after.cells]


class _Asked(Exception):
    pass


class NoSeed(Task):
    @property
    def seed(self):
        raise _Asked

    @seed.setter
    def seed(self, _):
        pass


class NoLength(Task):
    @property
    def lengths(self):
        raise _Asked

    @lengths.setter
    def lengths(self, _):
        pass


NAMES = [*METHODS, "constant:a:2", "constant:a:best", "rule:hard-clip:4", "winsorize:5", "decimamba:1"]


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("passkey:")])
def test_what_a_fit_depends_on_is_known(name):
    """A fit that draws asks for the seed and others do not; so for those that are for one length."""
    model, rng = tiny.tiny_model("mamba2"), np.random.default_rng(0)
    texts = module_texts(rng)
    method = find_method(name)
    for kind, expected in ((NoSeed, draws(method)), (NoLength, isinstance(method, FOR_ONE_LENGTH))):
        task = kind(model, texts, T, (64,), 2 * T, 0, 1)
        try:
            method.fit(task)
            asked = False
        except _Asked:
            asked = True
        assert asked == expected, (name, kind)


def module_texts(rng):
    from mambascope.analysis.texts import Texts
    from mambascope.spectra.tokens import Document

    sets = [tuple(Document(f"{s}{k}", rng.integers(0, 50, 400)) for k in range(2)) for s in "cv"]
    return Texts(*sets, ())


def test_a_cell_that_fails_is_told_and_tried_again_and_the_rest_goes_on(job, run_in, tmp_path, monkeypatch):
    tried = []

    def break_some(job, cell, *others):
        if cell.method in {"none", "constant:a:2"} and cell.length == 64:
            tried.append(cell.method)
            if cell.method == "none" or tried.count(cell.method) == 1:
                raise MambascopeError("there is no such thing")
        return find_cell(job, cell, *others)

    monkeypatch.setattr(module, "find_cell", break_some)
    found, events = run_in(job)
    assert sorted(tried) == ["constant:a:2"] * 2 + ["none"] * 2
    assert [what for what, _ in events].count("again") == 2
    assert [(s.cell.method, s.cell.length, s.failure.error) for s in found.failed()] == [
        ("none", 64, "there is no such thing")
    ]
    assert repr(found) == "Sweep(10 cells, 9 done, 1 failed)"
    of = row(found, method="none", length=64)
    assert (of["state"], of["tail_bits"], of["error"]) == ("failed", None, "there is no such thing")
    (record,) = (tmp_path / "s/failed").iterdir()
    assert json.loads(record.read_text())["result"]["tries"] == 2
    told = SweepFailedError(found.failed())
    assert told.exit_code == 3
    assert "cell 6 (perplexity of m2 on books, 64 tokens, none): there is no such thing" in str(told)
    monkeypatch.undo()
    found, events = run_in(job)
    assert [event for event in events if event[0] != "kept"] == [("done", 6)]
    assert not list((tmp_path / "s/failed").iterdir())


def test_a_fit_that_fails_costs_its_own_cells(job, run_in, monkeypatch):
    def break_seed_1(job, cell, facts, *others):
        if cell.seed == 1:
            raise MemoryError("too large")
        return module_fit(job, cell, facts, *others)

    module_fit = module.fit_method
    monkeypatch.setattr(module, "fit_method", break_seed_1)
    found, _ = run_in(job)
    assert [(s.cell.seed, s.failure.exit_code) for s in found.failed()] == [(1, 5), (1, 5)]
    assert found.failed()[0].failure.error.startswith("the fit of state-passing:noise: too large")
    assert row(found, method="state-passing:noise", length=64, seed=0)["state"] == "done"


def test_a_model_under_two_names_is_run_once(job, run_in):
    twice = replace(job, models=(job.models[0], replace(job.models[0], name="same")), methods={"none": "none"})
    found, events = run_in(twice)
    assert sorted(events) == [("done", number) for number in (1, 2, 3, 4)]
    assert row(found, model="m2", length=64)["key"] == row(found, model="same", length=64)["key"]
    assert len({r["key"] for r in found.rows()}) == 2


def test_a_text_that_is_too_short_fails_with_counts(job, run_in):
    long = replace(job, models=(replace(job.models[0], lengths=(64, 512)),), methods={"none": "none"})
    found, _ = run_in(long)
    assert row(found, length=64)["documents"] == 3
    assert "0 of 3 documents reach 512 tokens (the longest has 300)" in row(found, length=512)["error"]
    two, _ = run_in(replace(long, models=(replace(job.models[0], lengths=(128,)),)))
    assert row(two, length=128)["documents"] == 2  # of the third there are 80 bytes


def test_a_text_that_is_both_fitted_on_and_scored_is_refused(job, run_in):
    leaking = replace(job.corpora[0], calibration=job.corpora[0].test[:1])
    with pytest.raises(RefusedInputError, match="has the same content as"):
        run_in(replace(job, corpora=(leaking,)))


def test_one_cell_at_a_time_gives_the_same_bytes(job, run_in, tmp_path):
    run_in(job, "whole")
    for number in (4, 5, 1, 2, 3, 10, 9, 8, 7, 6, 6):
        with SweepStore.open(tmp_path / "single") as store:
            state = SweepRun(job, store).run_cell(number)
        assert (state.cell.number, state.word) == (number, "done")
    assert bytes_of(tmp_path / "single") == bytes_of(tmp_path / "whole")
    assert not (tmp_path / "whole/work").exists()


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_damaged_result_is_made_anew(job, run_in, tmp_path):
    run_in(job)
    before = bytes_of(tmp_path / "s")
    cells, fits = (sorted((tmp_path / "s" / kind).iterdir()) for kind in ("cells", "fits"))
    cells[0].write_bytes(cells[0].read_bytes()[:-40])
    stored = json.loads(cells[1].read_text())
    stored["result"]["passages"] = 99
    cells[1].write_text(json.dumps(stored))
    fits[0].write_text("[]")
    _, events = run_in(job)
    assert [what for what, _ in events].count("done") == 2
    (tmp_path / "s/cells" / cells[0].name).unlink()
    run_in(job)
    after = bytes_of(tmp_path / "s")
    assert {name: data for name, data in after.items() if "fits/" not in name} == {
        name: data for name, data in before.items() if "fits/" not in name
    }


def test_a_worker_that_finds_other_bytes_says_so(job, files, tmp_path):
    with SweepStore.open(tmp_path) as store:
        run = SweepRun(job, store)
        facts = run.facts.cell(run.cells[0])
    with pytest.raises(RefusedInputError, match="another checkpoint"):
        find_cell(job, run.cells[0], facts | {"model": "0" * 64}, None, lambda _: None)
    with pytest.raises(RefusedInputError, match="texts: a worker finds other files"):
        find_cell(job, run.cells[0], facts | {"texts": []}, None, lambda _: None)


def test_keys_are_asked_for(job, run_in):
    asked = replace(
        job, tasks=("passkey",), methods={"none": "none"}, examples=2, depths=(0.0, 1.0), seeds=(0, 1),
        models=(replace(job.models[0], lengths=(256,)),),
    )  # fmt: skip
    found, _ = run_in(asked)
    assert [(r["seed"], r["examples"], r["solved"]) for r in found.rows()] == [(0, 4, 0), (1, 4, 0)]
    assert found.rows()[0]["key"] != found.rows()[1]["key"]
    assert found.rows()[0]["share_low"] == 0
    assert 0 < found.rows()[0]["share_high"] < 1
    assert found.summary()[0]["share_mean"] == 0
    short, _ = run_in(replace(asked, models=(replace(job.models[0], lengths=(32,)),)))
    assert "a length of 32 tokens cannot hold the passkey prompt" in short.failed()[0].failure.error


def test_bundled_texts_are_named_so_that_another_machine_finds_them(files):
    bundled = text_files("test")[0]
    assert portable(bundled) == f"bundled:texts/books/test/{bundled.name}"
    assert located(portable(bundled)) == bundled
    assert located(portable(files / "test0.txt")) == (files / "test0.txt").resolve()


def test_a_failure_is_plain_json():
    assert Failure("A", "b", 3).to_dict() == {"kind": "A", "error": "b", "exit_code": 3}
