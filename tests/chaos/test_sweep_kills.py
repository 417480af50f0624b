"""A sweep of 24 cells on one worker and two, of loky and of dask, killed or not: the same bytes in every file."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mambascope.figures.cli import main
from mambascope.spectra.zoo import text_files
from tests.chaos.small_runs import hashes

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

CODE = "from mambascope.figures.cli import main; raise SystemExit(main())"
PLAN = """\
models = ["mamba", "mamba2"]
lengths = ["8T", "32T"]
methods = ["none", "fresh-window", "constant:a:2", "constant:dt:0.5", "heads"]
data = "data"
seeds = [0, 1]

[fit]
length = "2T"
steps = 1
"""


def done(folder):
    return len(list(folder.glob("cells/[0-9a-f]*.json")))  # not those that are being written


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("sweeps")
    for arch in ("mamba", "mamba2"):
        tiny.save_tiny(base / arch, arch)
    for split in ("calibration", "validation", "test"):
        (base / "data/books" / split).mkdir(parents=True)
        for k, path in enumerate(text_files(split)[:2]):
            (base / f"data/books/{split}/{k}.txt").write_bytes(path.read_bytes()[:600])
    (base / "plan.toml").write_text(PLAN)
    return base


@pytest.fixture(scope="module")
def words(base):
    return lambda folder, *more: ["sweep", str(base / "plan.toml"), "-o", str(base / folder), *map(str, more)]


@pytest.fixture(scope="module")
def expected(base, words):
    """What one worker leaves, in this process."""
    assert main(words("whole", "--jobs", "1")) == 0
    assert done(base / "whole") == 24
    found = hashes(base / "whole")
    assert len(found) == 24 + 4 + 8  # cells, fits, tables and what says how they were made
    return found


def start(words, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | options
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def children(parent):
    """Numbers of a process's loky workers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line, state = (folder / "cmdline").read_bytes(), (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"popen_loky_posix" in line and state[0] != "Z" and int(state[1]) == parent:
            found.append(int(folder.name))
    return found


def wait_for(folder, cells, process=None, seconds=120):
    deadline = time.monotonic() + seconds
    while done(folder) < cells and time.monotonic() < deadline and (process is None or process.poll() is None):
        time.sleep(0.002)
    return done(folder)


def killed_on_the_way(base, words, name, how, code):
    """Run with two workers, kill on the way and return the folder; again where the kill came too late."""
    for attempt in range(3):
        folder = base / f"{name}-{attempt}"
        process = start(words(folder.name, "--jobs", "2"))
        try:
            assert wait_for(folder, 1, process) >= 1
            how(folder, process)
        finally:
            process.kill()
            process.wait()
        if process.returncode == code:
            return folder
    raise AssertionError("three runs were over before they were killed")


proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@proc
def test_two_workers_one_killed_then_the_parent_then_resumed(base, words, expected):
    """First one of the workers, then the whole; what is left goes on in one process, without workers."""

    def how(folder, process):
        workers = children(process.pid)
        assert len(workers) == 2 or process.poll() is not None
        for worker in workers[:1]:
            os.kill(worker, signal.SIGKILL)
        wait_for(folder, 6, process)

    folder = killed_on_the_way(base, words, "killed", how, -signal.SIGKILL)
    assert done(folder) >= 6
    assert not (folder / "tables/sweep.csv").exists()
    assert main(words(folder.name, "--jobs", "1")) == 0
    assert hashes(folder) == expected


@proc
@pytest.mark.soak
def test_a_killed_worker_is_replaced_and_the_run_ends_as_if_nothing_were(base, words, expected):
    def how(folder, process):
        for worker in children(process.pid)[-1:]:
            os.kill(worker, signal.SIGKILL)
        process.wait(timeout=240)

    folder = killed_on_the_way(base, words, "worker", how, 0)
    assert hashes(folder) == expected


def address(cluster):
    return f"dask://{cluster.scheduler_address.removeprefix('tcp://')}"


@pytest.fixture
def cluster_of(monkeypatch):
    """Start a dask cluster of so many workers."""
    monkeypatch.undo()  # they talk through this machine's own loopback
    from distributed import LocalCluster

    with ExitStack() as stack:
        yield lambda workers: stack.enter_context(
            LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=50)
        )


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")  # of the cluster's own making
def test_a_dask_cluster_of_one_whose_client_is_killed_and_comes_back(base, words, expected, cluster_of):
    """The cluster stays; what it was sent by the killed client it drops. One with other software is refused."""
    from distributed import Client

    cluster = cluster_of(1)
    engine = ("--engine", address(cluster))
    for attempt in range(3):
        folder = base / f"client-{attempt}"
        process = start(words(folder.name, *engine))
        try:
            assert wait_for(folder, 2, process) >= 2
        finally:
            process.kill()
            process.wait()
        if process.returncode == -signal.SIGKILL:
            break
    assert 2 <= done(folder) < 24
    assert not (folder / "tables/sweep.csv").exists()
    with Client(cluster, set_as_default=False) as client:
        client.run(eval, "__import__('os').environ.update(MAMBASCOPE_KERNELS='off')")
        before = done(folder)
        assert main(words(folder.name, *engine)) == 3
        assert done(folder) == before
        (told, *_) = (json.loads(path.read_text())["result"] for path in (folder / "failed").iterdir())
        assert told["kind"] == "OtherWorkerError"
        assert "has engine blocked, the sweep was planned with engine compiled" in told["error"]
        client.run(eval, "__import__('os').environ.pop('MAMBASCOPE_KERNELS')")
    assert main(words(folder.name, *engine)) == 0
    assert hashes(folder) == expected


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_of_two_gives_the_same_bytes_also_when_a_worker_is_killed(base, words, expected, cluster_of):
    from distributed import Client

    killed = []

    def kill_one(folder, cluster):
        with Client(cluster, set_as_default=False) as client:
            workers = sorted(client.run(os.getpid).values())
        assert len(workers) == 2
        if wait_for(folder, 2) < 24:
            with suppress(ProcessLookupError):  # over in the meantime
                os.kill(workers[0], signal.SIGKILL)
                killed.append(done(folder))

    cluster = cluster_of(2)
    for folder in ("dask-0", "dask-1"):
        killer = threading.Thread(target=kill_one, args=(base / folder, cluster))
        killer.start()
        assert main(words(folder, "--engine", address(cluster))) == 0
        killer.join()
        assert hashes(base / folder) == expected
        if killed:
            break
    assert killed


@pytest.mark.soak
def test_the_whole_is_started_while_an_array_still_runs(base, words, expected):
    """As a reader may who does not wait for the last of the jobs; each piece of work is done by one process."""
    folder = base / "early"
    processes = [start(words("early", "--cell", number)) for number in (24, 23)]
    whole = start(words("early", "--jobs", "2"))
    assert [process.wait(timeout=240) for process in (*processes, whole)] == [0] * 3
    assert not list((folder / "failed").iterdir())
    assert hashes(folder) == expected
    assert json.loads((folder / "manifest.json").read_text())["status"] == "finished"


@pytest.mark.soak
def test_an_array_of_jobs_in_one_folder(base, words, expected):
    """They begin at once in a folder that is not there, with the same cell and the same fit before it."""
    processes = [start(words("array", "--cell", 5)) for _ in range(2)]
    assert [process.wait(timeout=240) for process in processes] == [0] * 2
    assert done(base / "array") == 1
    assert main(words("array", "--jobs", "1")) == 0
    assert hashes(base / "array") == expected


@pytest.mark.soak
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_again_and_again(base, words, expected, jobs):
    """At any instant: while it starts, among fits and cells, and while tables are written."""
    rng, folder, kills = random.Random(jobs), base / f"again-{jobs}", 0
    for k in range(30):
        process = start(words(folder.name, "--jobs", jobs), PYTHONHASHSEED=str(k))
        wait_for(folder, min(24, done(folder) + rng.randrange(4)), process, seconds=20)
        time.sleep(rng.random() * 0.3)
        if jobs == 2 and (workers := children(process.pid)) and rng.random() < 0.5:
            os.kill(rng.choice(workers), signal.SIGKILL)
            time.sleep(rng.random() * 0.3)
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills >= 15
    assert main(words(folder.name, "--jobs", jobs)) == 0
    assert hashes(folder) == expected
