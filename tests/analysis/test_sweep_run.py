"""Test ``mambascope.analysis.sweep_run``: what another process is at is left to it, and what is given up stays so."""

import os
import shutil

import pytest

from mambascope.analysis import sweep_run as module
from mambascope.analysis.sweep_cells import SweepCorpus, SweepJob, SweepModel
from mambascope.analysis.sweep_run import SweepRun
from mambascope.analysis.sweep_store import SweepStore
from mambascope.spectra.errors import RefusedInputError
from tests.analysis.test_sweep_store import Holder
from tests.spectra.tiny import save_tiny

NOISE = "state-passing:noise"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Four cells; two of them rest on one fit."""
    base = tmp_path_factory.mktemp("claims")
    model = SweepModel("m2", str(save_tiny(base / "m2", "mamba2")), 16, (16, 32), 32, None)
    texts = []
    for split in ("calibration", "validation", "test"):
        texts.append((str(base / f"{split}.txt"),))
        (base / f"{split}.txt").write_text(f"{split}: a text of which nothing is asked but that it is there. " * 4)
    corpus = SweepCorpus("books", *texts)
    return SweepJob((model,), (corpus,), {"none": "none", NOISE: NOISE}, "books", steps=1)


@pytest.fixture(scope="module")
def whole(job, tmp_path_factory):
    """A finished store."""
    folder = tmp_path_factory.mktemp("whole")
    with SweepStore.open(folder) as store:
        assert not SweepRun(job, store).run().failed()
    return folder


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def run_beside(holder, job, folder, finish, **where):
    """Run the whole while another process holds a key, and let that one finish once it is waited for."""
    events = []

    def watch(event):
        events.append((event.what, event.cell.number, event.is_fit))
        if event.what == "waits":
            finish()
            holder.finish()

    with SweepStore.open(folder) as store:
        found = SweepRun(job, store).run(watch=watch, **where)
    assert not found.failed()
    return events


@pytest.mark.timeout(120)
@pytest.mark.parametrize("done_there", [True, False])
def test_a_cell_that_another_process_is_at_comes_last(job, whole, tmp_path, done_there):
    with SweepStore.open(tmp_path) as store:
        key = SweepRun(job, store).key(job.cells()[0])
    holder = Holder(tmp_path, key)
    assert holder.says() == "holds\n"
    path = f"cells/{key}.json"
    finish = (lambda: shutil.copy(whole / path, tmp_path / path)) if done_there else lambda: None
    events = run_beside(holder, job, tmp_path, finish)
    others = {("done", 2, True), ("done", 2, False), ("done", 3, False), ("done", 4, False)}
    assert set(events[:-2]) == others
    assert events[-2:] == [("waits", 1, False), ("kept" if done_there else "done", 1, False)]
    assert bytes_of(tmp_path) == bytes_of(whole)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("where", [{}, pytest.param({"engine": "loky", "jobs": 2}, marks=pytest.mark.soak)])
def test_a_fit_that_another_process_is_at_is_waited_for_with_its_cells(job, whole, tmp_path, where):
    with SweepStore.open(tmp_path) as store:
        key = SweepRun(job, store).fit_key(job.cells()[1])
    holder = Holder(tmp_path, key)
    assert holder.says() == "holds\n"

    def finish():
        for path in (whole / "fits").iterdir():
            shutil.copy(path, tmp_path / "fits")

    events = run_beside(holder, job, tmp_path, finish, **where)
    assert sorted(events[:2]) == [("done", 1, False), ("done", 3, False)]
    assert events[2] == ("waits", 2, True)
    assert sorted(events[3:]) == [("done", 2, False), ("done", 4, False)]
    assert bytes_of(tmp_path) == bytes_of(whole)


@pytest.mark.timeout(120)
def test_what_another_process_took_or_did_after_the_start_is_not_done_twice(job, whole, tmp_path):
    """The plan of a round is old by the time its last part is sent."""
    events, holders = [], []
    with SweepStore.open(tmp_path) as store:
        sweep = SweepRun(job, store)
        keys = [sweep.key(cell) for cell in sweep.cells]

        def watch(event):
            events.append((event.what, event.cell.number, event.is_fit))
            if not holders:  # after the first part, which is the fit
                holders.append(Holder(tmp_path, keys[0]))
                assert holders[0].says() == "holds\n"
                shutil.copy(whole / f"cells/{keys[2]}.json", tmp_path / "cells")
            if event.what == "waits":
                holders[0].finish()

        assert not sweep.run(watch=watch).failed()
    assert ("kept", 3, False) in events
    assert events[-2:] == [("waits", 1, False), ("done", 1, False)]
    assert sorted(number for what, number, is_fit in events if what == "done" and not is_fit) == [1, 2, 4]
    assert bytes_of(tmp_path) == bytes_of(whole)


def test_a_run_holds_what_it_works_on_and_nothing_after(job, tmp_path, monkeypatch):
    seen = []

    def look(job, cell, *others):
        busy, tell = os.pipe()
        if not os.fork():  # a lock does not keep out its own process
            try:
                with SweepStore.open(tmp_path) as store:
                    sweep = SweepRun(job, store)
                    os.write(tell, bytes(store.busy(sweep.key(each)) for each in sweep.cells))
            finally:
                os._exit(0)
        os.close(tell)
        seen.append((cell.number, os.read(busy, 9)))
        os.close(busy)
        os.wait()
        raise RefusedInputError("seen")

    monkeypatch.setattr(module, "find_cell", look)
    with SweepStore.open(tmp_path) as store:
        SweepRun(job, store).run()
        assert sorted(seen) == [(n, bytes(k == n for k in range(1, 5))) for n in range(1, 5)]
        assert not any(store._held.values())


def test_a_fit_that_is_given_up_is_not_tried_for_each_cell_of_an_array(job, tmp_path, monkeypatch):
    tried, work = [], module.fit_method

    def fail(*_):
        tried.append(1)
        raise MemoryError("too large")

    monkeypatch.setattr(module, "fit_method", fail)
    with SweepStore.open(tmp_path) as store:
        for number in (2, 4, 2):
            state = SweepRun(job, store).run_cell(number)
            assert len(tried) == 2
            assert (state.failure.exit_code, state.word) == (5, "failed")
            assert state.failure.error.startswith(f"the fit of {NOISE}: too large")
        assert len(SweepRun(job, store).run().failed()) == 2  # which asks again
        assert len(tried) == 4
        monkeypatch.setattr(module, "fit_method", work)
        assert SweepRun(job, store).run_cell(2).word == "failed"
        assert not SweepRun(job, store).run().failed()
        assert not list((tmp_path / "failed").iterdir())


def test_a_fit_that_has_failed_once_is_tried_again(job, tmp_path, monkeypatch):
    """As by a process that was killed before its second try."""
    work = module.fit_method
    monkeypatch.setattr(module, "fit_method", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with SweepStore.open(tmp_path) as store:
        sweep = SweepRun(job, store)
        facts = sweep.facts.fit(job.cells()[1])
        store.put_failure(facts, module.Failure("E", "once", 1), 1)
        with pytest.raises(KeyboardInterrupt):
            sweep.run_cell(2)
        assert not any(store._held.values())
        monkeypatch.setattr(module, "fit_method", work)
        assert sweep.run_cell(2).word == "done"


def test_what_is_refused_is_not_tried_again(job, tmp_path, monkeypatch):
    tried, events = [], []

    def refuse(job, cell, *_):
        tried.append(cell.number)
        raise RefusedInputError("no \udce9 there")

    monkeypatch.setattr(module, "find_cell", refuse)
    with SweepStore.open(tmp_path) as store:
        found = SweepRun(job, store).run(watch=lambda event: events.append(event.what))
    assert sorted(tried) == [1, 2, 3, 4]
    assert "again" not in events
    assert [state.failure.error for state in found.failed()] == ["no \\udce9 there"] * 4
