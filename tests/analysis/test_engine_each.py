"""Test ``mambascope.analysis.engine_each`` and ``engine_slots``: one piece fails or dies, and no other is touched."""

import os

import pytest

from mambascope.analysis.engine import run_piece
from mambascope.analysis.engine_each import Failure, attempt, run_each
from mambascope.analysis.engine_slots import environment_of, gpus_of
from mambascope.analysis.verification import slug
from mambascope.spectra.errors import NonFiniteStateError, RefusedInputError


@pytest.fixture
def open_network(monkeypatch):
    """Workers of dask talk through this machine's own loopback."""
    monkeypatch.undo()


def call(function, *arguments):
    """A piece for ``run_piece``, in a process that is not watched."""
    return function, arguments, 0


def once(path, then):
    """Die when run for the first time."""
    return call(
        exec,
        f"import os\nif not os.path.exists({str(path)!r}):\n open({str(path)!r}, 'w').close()\n os._exit(9)\n{then}",
    )


def test_an_error_is_tried_again_after_the_others_and_then_told():
    told = []
    pieces = [call(slug, 5), call(slug, "A b"), call(slug, "C")]
    found = list(run_each(run_piece, pieces, failed_once=lambda n, failure: told.append((n, failure.kind))))
    assert [number for number, _ in found] == [1, 2, 0]
    assert dict(found)[1] == "a-b"
    assert told == [(0, "AttributeError")]
    assert isinstance(found[-1][1], Failure)
    assert "(in verification.py, slug)" in found[-1][1].error
    assert found[-1][1].exit_code == 1


def test_errors_for_people_keep_their_words_and_exit_code():
    failure = Failure.of(NonFiniteStateError(3, 64))
    assert (failure.kind, failure.exit_code) == ("NonFiniteStateError", 4)
    assert failure.error.startswith("layer 3: the state")
    on_cpu = RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
    for lack in (MemoryError("no"), RuntimeError("CUDA out of memory."), on_cpu):
        assert Failure.of(lack).exit_code == 5
    assert Failure.of(RuntimeError("shapes differ")).exit_code == Failure.of(ValueError("out of memory")).exit_code == 1


@pytest.mark.filterwarnings("ignore:A worker stopped while some jobs")
def test_a_dead_worker_costs_its_own_piece_alone(tmp_path):
    """The first piece always kills its worker, the second only the first time; the others are done once each."""
    told = []
    pieces = [call(os._exit, 3), once(tmp_path / "died", ""), *(call(str.upper, f"a{k}") for k in range(6))]
    found = dict(
        run_each(
            run_piece, pieces, engine="loky", jobs=2, failed_once=lambda n, failure: told.append((n, failure.kind))
        )
    )
    assert {n: found[n] for n in range(1, 8)} == {1: None} | {n: f"A{n - 2}" for n in range(2, 8)}
    assert (found[0].kind, found[0].exit_code) == ("WorkerError", 5)
    assert "fewer --jobs" in found[0].error
    assert sorted(told) == [(0, "WorkerError"), (1, "WorkerError")]


@pytest.mark.filterwarnings("ignore")  # of the cluster's own making
def test_dask_moves_the_piece_of_a_dead_worker_and_tells_of_errors(open_network, tmp_path):
    pieces = [once(tmp_path / "died", ""), call(str.upper, 5), *(call(str.upper, f"a{k}") for k in range(4))]
    found = dict(run_each(run_piece, pieces, engine="dask", jobs=2))
    assert (tmp_path / "died").exists()
    assert found[0] is None
    assert found[1].kind == "TypeError"
    assert [found[n] for n in range(2, 6)] == ["A0", "A1", "A2", "A3"]


@pytest.mark.parametrize("engine", ["sequential", "loky"])
def test_pieces_can_follow_a_result(engine):
    pieces, found = [call(str.upper, "a")], []
    for _, result in run_each(run_piece, pieces, engine=engine, jobs=1 if engine == "sequential" else 2):
        found.append(result)
        if len(result) < 4:
            pieces.append(call(str.upper, result + "b"))
    assert found == ["A", "AB", "ABB", "ABBB"]


def test_every_slot_has_a_gpu_of_its_own():
    pieces = [("CUDA_VISIBLE_DEVICES",)] * 6
    found = [gpu for _, gpu in run_each(os.getenv, pieces, engine="loky", jobs=2, gpus=("5", "7"))]
    assert sorted(set(found)) == ["5", "7"]
    assert environment_of(0, ()).keys() == environment_of(1, ("5",)).keys() - {"CUDA_VISIBLE_DEVICES"}


def test_gpus_are_those_that_the_process_may_use():
    assert gpus_of({"CUDA_VISIBLE_DEVICES": "GPU-ab, GPU-cd"}, 2) == ("GPU-ab", "GPU-cd")
    assert gpus_of({"CUDA_VISIBLE_DEVICES": ""}, 0) == ()
    assert gpus_of({"CUDA_VISIBLE_DEVICES": "0,1,2"}, 2) == ("0", "1")  # torch sees fewer: a number too many


def test_an_engine_that_is_not_there_is_refused_before_anything_runs():
    with pytest.raises(RefusedInputError, match="expected one of"):
        list(run_each(attempt, [call(slug, "a")], engine="spark"))
    assert list(run_each(attempt, [])) == []
