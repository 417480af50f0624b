"""Test ``mambascope.analysis.sweep_store``: whole files, one worker a key, nothing left of what was killed."""

import os
import signal

import numpy as np
import pytest

from mambascope.analysis.engine_each import Failure
from mambascope.analysis.methods import Fitted
from mambascope.analysis.runs import FolderBusyError
from mambascope.analysis.sweep_keys import key_of
from mambascope.analysis.sweep_store import LOCK, SweepStore
from mambascope.spectra.scales import scaling

FACTS = {"what": "perplexity", "length": 16}
KEY = key_of(FACTS)


class Holder:
    """Another process that claims a key, says so, and holds it until it is told to end."""

    def __init__(self, folder, key):
        told, tell = os.pipe()
        end, self._end = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            signal.alarm(60)  # should the test fail before it tells
            try:
                with SweepStore.open(folder) as store, store.claimed(key, lambda: os.write(tell, b"waits\n")):
                    os.write(tell, b"holds\n")
                    os.read(end, 1)
            finally:
                os._exit(0)
        os.close(tell)
        os.close(end)
        self._told = os.fdopen(told)

    def says(self):
        return self._told.readline()

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def finish(self):
        os.write(self._end, b"x")  # what is closed here may be open in a sibling
        self.wait()

    def wait(self):
        os.waitpid(self.pid, 0)
        os.close(self._end)
        self._told.close()


@pytest.fixture
def store(tmp_path):
    with SweepStore.open(tmp_path) as opened:
        yield opened


def test_results_come_back_as_they_were(store):
    assert store.cell(KEY) is None
    store.put_cell(FACTS, {"bits": [0.1, 1e-17, 2.0], "name": "\u00e9"})
    assert store.cell(KEY) == {"bits": [0.1, 1e-17, 2.0], "name": "\u00e9"}
    assert key_of(FACTS | {"length": 17}) != KEY


def test_a_result_takes_the_place_of_its_failure(store):
    store.put_failure(FACTS, Failure("A", "b", 4), 1)
    assert store.failure(KEY) == Failure("A", "b", 4)
    store.put_cell(FACTS, {})
    assert store.failure(KEY) is None


def test_what_is_done_has_no_failure_even_where_a_killed_writer_left_one(store):
    store.put_failure(FACTS, Failure("A", "b", 4), 1)
    (left,) = (path for path in store.folder.rglob("*.json") if "failed" in path.parts)
    stale = left.read_bytes()
    store.put_cell(FACTS, {})
    left.write_bytes(stale)  # killed after the result was written and before this was removed
    assert store.failure(KEY) is None


def test_a_fit_comes_back_with_its_arrays(store):
    arrays = {"b": np.arange(6.0).reshape(2, 3).T, "a": np.array([1, 2], np.int64)}
    fitted = Fitted(
        "m", scaling("a", np.array([1.5, 2.0])), "how", 3.5, "no", ((16, scaling("a", 2.0)),), arrays=arrays
    )
    store.work(KEY).mkdir(parents=True)
    (store.work(KEY) / "half").touch()
    store.put_fit(FACTS, fitted)
    found = store.fit(KEY)
    assert found.to_dict() == fitted.to_dict()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
    assert not store.work(KEY).parent.exists()
    path = store.folder / f"fits/{KEY}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert store.fit(KEY) is None


def test_what_a_killed_writer_has_left_is_removed_where_nobody_writes(tmp_path):
    half = f".{KEY}.json.0123456789abcdef.mambascope-tmp.json"
    with SweepStore.open(tmp_path) as store:
        store.put_cell(FACTS, {})
        (tmp_path / "cells" / half).touch()
        (tmp_path / "failed" / f"{KEY}.json").write_text("{}")  # killed between a result and the end of its failure
        (tmp_path / "cells/mine.txt").touch()
    with SweepStore.open(tmp_path):
        assert sorted(path.name for path in (tmp_path / "cells").iterdir()) == [f"{KEY}.json", "mine.txt"]
        assert not list((tmp_path / "failed").iterdir())


def test_fresh_drops_results_and_nothing_else(tmp_path):
    with SweepStore.open(tmp_path) as store:
        store.put_cell(FACTS, {})
        (tmp_path / "cells/mine.txt").touch()
        store.work(KEY).mkdir(parents=True)
    with SweepStore.open(tmp_path, fresh=True) as store:
        assert [path.name for path in (tmp_path / "cells").iterdir()] == ["mine.txt"]
        assert not store.work(KEY).exists()
        assert (tmp_path / LOCK).exists()


@pytest.mark.timeout(60)
def test_fresh_drops_nothing_while_others_are_at_work(tmp_path):
    SweepStore.refuse_busy(tmp_path / "nowhere")
    with SweepStore.open(tmp_path) as store:
        store.put_cell(FACTS, {})
    SweepStore.refuse_busy(tmp_path)
    holder = Holder(tmp_path, "f" * 64)
    assert holder.says() == "holds\n"
    with pytest.raises(FolderBusyError), SweepStore.open(tmp_path, fresh=True):
        pass
    with pytest.raises(FolderBusyError):
        SweepStore.refuse_busy(tmp_path)
    with SweepStore.open(tmp_path) as store:
        assert store.busy("f" * 64)
        assert not store.busy(KEY)
        assert store.cell(KEY) == {}
    holder.finish()
    with SweepStore.open(tmp_path, fresh=True) as store:
        assert store.cell(KEY) is None


@pytest.mark.timeout(60)
def test_a_key_is_held_as_often_as_it_was_claimed(tmp_path):
    with SweepStore.open(tmp_path) as store:
        assert store.claim(KEY)
        assert store.claim(KEY)
        store.release(KEY)
        other = Holder(tmp_path, KEY)
        assert other.says() == "waits\n"
        store.release(KEY)
        assert other.says() == "holds\n"
        assert not store.claim(KEY)
        other.finish()
        store.wait_for_one([KEY])


@pytest.mark.timeout(60)
def test_one_process_at_a_time_works_on_a_key_and_a_killed_one_gives_it_back(tmp_path):
    first = Holder(tmp_path, KEY)
    assert first.says() == "holds\n"
    (tmp_path / f"cells/.{KEY}.json.0123456789abcdef.mambascope-tmp.json").touch()  # it may be writing this
    second = Holder(tmp_path, KEY)
    assert second.says() == "waits\n"
    assert list((tmp_path / "cells").iterdir())
    first.kill()
    assert second.says() == "holds\n"
    other = Holder(tmp_path, "f" * 64)
    assert other.says() == "holds\n"
    for holder in (second, other):
        holder.finish()
