"""Promise 6: of two runs in one folder the second ends at once with exit code 75; nobody ever reads half a file."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mambascope.analysis.atomic import write_json
from mambascope.analysis.runs import RunFolder, read_manifest
from tests.attacks.commands import refused, told
from tests.chaos.forked import USABLE, start
from tests.chaos.small_runs import hashes, lines, prepare

CODE = "from mambascope.figures.cli import main; raise SystemExit(main())"
HOLDING = (
    "spectrum",
    "norms",
    "propose",
    "evaluate",
    "calibrate",
    "bake",
    "train",
    "simulate",
    "starts",
    "compare",
    "sweep",
)


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The loops of a model are loaded, which once in a process takes longer than all that is timed here."""
    assert told(*prepare(tmp_path_factory.mktemp("loaded"))["spectrum"]).code == 0


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("name", HOLDING)
def test_every_command_leaves_a_busy_folder_alone(tmp_path, name):
    words, run = prepare(tmp_path)[name], tmp_path / "run"
    with RunFolder.open(run, command={"verb": "other"}, seed=0) as other:
        other.cell("one", lambda: 1)
        before = files(run)
        for more in ([], ["--fresh"]):
            began = time.process_time()
            refused([*words, "-o", run, *more], f"process {os.getpid()}", "-o", code=75)
            assert time.process_time() - began < 1
        assert files(run) == before
    assert read_manifest(run).command == {"verb": "other"}


@pytest.mark.skipif(not USABLE, reason="needs fork, and no CUDA context that it would break")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("starts", [4, pytest.param(100, marks=pytest.mark.soak)])
def test_the_first_run_is_unharmed(tmp_path, starts):
    """So many others try the same folder while a calibration runs in it; it ends as if alone."""
    words = prepare(tmp_path)["calibrate"]
    words[words.index("--steps") + 1] = str(15 * starts)
    assert told(*words, "-o", tmp_path / "calm").code == 0
    run, turned_away = tmp_path / "run", 0
    first = start([*words, "-o", run], tmp_path / "told")
    try:
        while len(lines(run)) < 3:
            time.sleep(0.001)
        while turned_away < starts:
            found = told(*words, "-o", run, *["--fresh"][: turned_away % 2])
            if found.code != 75:
                break
            turned_away += 1
    finally:
        _, status = os.waitpid(first, 0)
    assert os.waitstatus_to_exitcode(status) == 0, (tmp_path / "told").read_text()
    assert turned_away == starts
    assert told(*words, "-o", run).code == 0  # as the last try may have begun anew when the first was done
    assert hashes(run) == hashes(tmp_path / "calm")
    print(f"{turned_away} starts turned away, the first run unharmed")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_of_fifty_processes_that_start_at_once_one_runs(tmp_path):
    words = prepare(tmp_path)["simulate"]
    words[words.index("--trials") + 1] = "400000"
    whole = [sys.executable, "-c", CODE, *map(str, words), "-o", str(tmp_path / "run")]
    quiet = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    started = [subprocess.Popen(whole, **quiet) for _ in range(50)]
    told_by = [process.communicate(timeout=600)[1] for process in started]
    codes = [process.returncode for process in started]
    assert set(codes) <= {0, 75}, told_by
    assert codes.count(0) >= 1
    assert all("is running in this folder" in said for code, said in zip(codes, told_by, strict=True) if code == 75)
    assert read_manifest(tmp_path / "run").status == "finished"
    assert told(*words, "-o", tmp_path / "calm").code == 0
    assert hashes(tmp_path / "run") == hashes(tmp_path / "calm")
    print(f"50 starts at once: {codes.count(75)} turned away, {50 - codes.count(75)} ran or found it done")


def test_readers_never_see_half_a_file(tmp_path):
    """A reader reads without pause while the file is replaced by documents of very different sizes."""
    path, done, seen = tmp_path / "result.json", threading.Event(), set()
    documents = [{"rows": list(range(count)), "count": count} for count in (1, 20_000, 300, 5)]
    write_json(path, documents[0])

    def write():
        for k in range(60):
            write_json(path, documents[k % 4])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set():
        found = json.loads(path.read_bytes())
        assert len(found["rows"]) == found["count"]
        seen.add(found["count"])
        reads += 1
    writer.join()
    assert len(seen) > 1
    assert reads > 20
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_dead_run_holds_no_folder(tmp_path):
    """Negative control: it is the living process that holds the folder, not what it has written."""
    words, run = prepare(tmp_path)["propose"], tmp_path / "run"
    code = (
        "import sys, time\nfrom mambascope.analysis.runs import RunFolder\n"
        "with RunFolder.open(sys.argv[1], command={}, seed=0):\n    print('holds', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, run], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "holds\n"
        refused([*words, "-o", run], f"process {other.pid}", code=75)
        other.send_signal(signal.SIGKILL)
    assert read_manifest(run).status == "running"
    assert told(*words, "-o", run, "--fresh").code == 0
