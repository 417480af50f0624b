"""Test ``mambascope.analysis.engine`` and ``trials``: the same bytes from one worker, two, loky and dask."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.calibration.objective import window_bits
from mambascope.analysis.engine import check_engine, default_jobs, run_as_done, run_in_order
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.trials import Job, planned_updates, run_block, run_jobs
from mambascope.simulate import montecarlo
from mambascope.simulate.laws import uniform
from mambascope.simulate.montecarlo import Paths
from mambascope.simulate.recurrence import Recurrence
from mambascope.simulate.step_transforms import Gamma
from mambascope.simulate.threefry import key_words
from mambascope.spectra.errors import MambascopeError, NonFiniteStateError, RefusedInputError

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)


def jobs():
    plain = Paths(Recurrence("diagonal", 4, uniform(0, 0.9), mixing=3), (5, 40))
    gamma = Paths(Recurrence("scalar_identity", 3, uniform(0, 0.9), steps=Gamma(0.5, 1.0)), (30,))
    return [Job("plain", plain, 900, key_words(1, "plain")), Job("gamma", gamma, 500, key_words(1, "gamma"))]


def digest(found):
    return {name: hashlib.sha256(values.tobytes()).hexdigest() for name, values in found.items()}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(montecarlo, "BLOCK_UPDATES", 40 * 4 * 100)


@pytest.fixture(scope="module")
def expected():
    return digest({job.name: job.experiment.run(job.key, 0, job.trials) for job in jobs()})


@pytest.fixture
def open_network(monkeypatch):
    """Workers of dask talk through this machine's own loopback."""
    import socket

    monkeypatch.undo()
    yield
    assert socket.socket.connect is not None


def test_blocks_one_after_another(small_blocks, expected):
    ticks = []
    assert digest(run_jobs(jobs(), tick=ticks.append)) == expected
    assert sum(ticks) == planned_updates(jobs())
    assert len(ticks) > 5


@pytest.mark.parametrize("workers", [1, 2])
def test_loky_gives_the_same_bytes(small_blocks, expected, workers):
    assert digest(run_jobs(jobs(), engine="loky", workers=workers)) == expected


@pytest.mark.filterwarnings("ignore")  # of the cluster's own making
def test_dask_gives_the_same_bytes(open_network, monkeypatch, expected):
    monkeypatch.setattr(montecarlo, "BLOCK_UPDATES", 40 * 4 * 100)
    assert digest(run_jobs(jobs(), engine="dask", workers=2)) == expected


def test_a_run_folder_keeps_blocks_and_computes_only_what_is_missing(tmp_path, small_blocks, expected, monkeypatch):
    with RunFolder.open(tmp_path / "run", command={}, seed=1) as run:
        assert digest(run_jobs(jobs(), run=run)) == expected
    kept = sorted((tmp_path / "run/data/trials").rglob("*.safetensors"))
    assert len(kept) > 8
    kept[3].unlink()
    calls = []
    monkeypatch.setattr("mambascope.analysis.trials.run_block", lambda *piece: calls.append(piece) or run_block(*piece))
    with RunFolder.open(tmp_path / "run", command={}, seed=1) as run:
        assert digest(run_jobs(jobs(), run=run)) == expected
    assert len(calls) == 1  # the one whose file was lost


def test_results_come_in_the_order_of_the_pieces():
    pieces = [(jobs()[0].experiment, key_words(0), first, 2) for first in (6, 0, 4)]
    found = list(run_in_order(run_block, pieces, engine="loky", jobs=2))
    whole = jobs()[0].experiment.run(key_words(0), 0, 8)
    for (_, _, first, count), values in zip(pieces, found, strict=True):
        np.testing.assert_array_equal(values, whole[first : first + count])


def test_results_can_come_as_they_are_done_each_with_its_number():
    whole = jobs()[0].experiment.run(key_words(0), 0, 8)
    pieces = [(jobs()[0].experiment, key_words(0), first, 2) for first in (6, 0, 4)]
    for engine in ("sequential", "loky"):
        found = dict(run_as_done(run_block, pieces, engine=engine, jobs=2))
        assert sorted(found) == [0, 1, 2]
        for number, (_, _, first, count) in enumerate(pieces):
            np.testing.assert_array_equal(found[number], whole[first : first + count])


def test_an_error_of_a_worker_arrives_with_its_words_and_exit_code():
    """One that pickle makes again as it is, and one whose class takes other arguments than the message."""
    with pytest.raises(RefusedInputError, match="expected one of"):
        list(run_as_done(check_engine, [("spark", 1)] * 2, engine="loky", jobs=2))
    model = tiny.tiny_model("mamba2")
    model.backbone.embedding.weight[0] = float("nan")
    piece = (model, np.zeros((1, 40), np.uint8), None, 16)
    with pytest.raises(MambascopeError, match="layer 0: the state or the output became NaN") as broken:
        list(run_as_done(window_bits, [piece] * 2, engine="loky", jobs=2))
    assert broken.value.exit_code == NonFiniteStateError.exit_code


@pytest.mark.parametrize(
    ("engine", "workers", "message"),
    [("spark", 2, "expected one of"), ("loky", 0, "at least 1"), ("ray", 2, "ray is not installed")],
)
def test_engines_that_cannot_be_had_are_refused(engine, workers, message):
    with pytest.raises(RefusedInputError, match=message):
        list(run_in_order(run_block, [()], engine=engine, jobs=workers))


def test_default_is_one_worker_a_core():
    assert default_jobs() >= 1
