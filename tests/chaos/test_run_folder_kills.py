"""Test ``mambascope.analysis.runs`` under kill -9, a full disk, and many starts at once."""

import os
import random
import subprocess
import sys
import time
from collections import Counter

import pytest

from mambascope.analysis.runs import RunFolder, read_manifest
from tests.chaos.small_runs import hashes

CELLS, FILES = 40, 12

BARE = """
import importlib.util, sys, types
for name in ("mambascope.spectra", "mambascope.analysis"):  # without their __init__, which may import torch
    places = importlib.util.find_spec(name).submodule_search_locations
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = list(places)
"""

WORKER = f"""
import random, sys, time
from pathlib import Path
from mambascope.analysis.atomic import write_json
from mambascope.analysis.runs import RunFolder

folder, log, session = sys.argv[1:]

def tell(word):
    with open(log, "a") as file:
        file.write(f"{{session}} {{word}}\\n")

def compute(index):
    tell(index)
    time.sleep(0.004)
    rng = random.Random(index)
    return {{"index": index, "values": [rng.gauss(0, 1) for _ in range(50)]}}

with RunFolder.open(folder, command={{"verb": "chaos"}}, seed=0) as run:
    rows = [run.cell(f"cell {{index}}", lambda index=index: compute(index)) for index in range({CELLS})]
    for number in range({FILES}):
        tell("files")
        rows.append(sum(row["values"][number] for row in rows[:{CELLS}]))
        write_json(run.output(f"tables/{{number}}.json"), {{"made_by": run.made_by(), "rows": rows}})
"""

STARTER = """
import sys, time
from pathlib import Path
from mambascope.analysis.runs import FolderBusyError, RunFolder

began = time.monotonic()
try:
    with RunFolder.open(sys.argv[1], command={}, seed=0):
        print("won", flush=True)
        while not Path(sys.argv[2]).exists():
            time.sleep(0.01)
except FolderBusyError as error:
    print("busy", time.monotonic() - began, flush=True)
    sys.exit(error.exit_code)
"""

LIMITED = """
import resource, sys
from mambascope.analysis.atomic import ignore_file_size_signal, write_json
from mambascope.analysis.runs import RunFolder
from mambascope.spectra.errors import MambascopeError

ignore_file_size_signal()
try:
    with RunFolder.open(sys.argv[1], command={}, seed=0) as run:
        write_json(run.output("first.json"), run.cell("first", lambda: 1))
        if sys.argv[2] != "none":
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
        cells = [run.cell(str(index), lambda: "x" * 1000) for index in range(20)] if sys.argv[2] != "file" else []
        write_json(run.output("second.json"), ["y" * 20_000, cells])
except MambascopeError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def spawn(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", BARE + code, *map(str, arguments)], **options)


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def kill_after(process, log, count, delay):
    """Kill the process once its log has grown by so many lines and a little time has passed."""
    goal = len(lines(log)) + count
    deadline = time.monotonic() + 20
    while len(lines(log)) < goal and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    return process.wait(timeout=20) != 0


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 15))])
def test_killed_and_resumed_gives_the_same_files(tmp_path, seed):
    assert spawn(WORKER, tmp_path / "calm", tmp_path / "calm.log", 0).wait(timeout=60) == 0
    rng = random.Random(seed)
    folder, log = tmp_path / "run", tmp_path / "run.log"
    # Instants: 3 while starting, 8 among the cells (at most 32 of the 40), 4 among the result files.
    plan = [(0, rng.uniform(0, 0.25)) for _ in range(3)] + [(rng.randint(1, 4), rng.uniform(0, 0.01)) for _ in range(8)]
    kills = sum(kill_after(spawn(WORKER, folder, log, session), log, *instant) for session, instant in enumerate(plan))
    for session in range(len(plan), len(plan) + 4):
        todo = CELLS - len(lines(folder / "journal.jsonl"))
        kills += kill_after(spawn(WORKER, folder, log, session), log, todo + rng.randint(1, 6), rng.uniform(0, 0.005))
    assert kills >= 12
    assert spawn(WORKER, folder, log, len(plan) + 4).wait(timeout=60) == 0

    assert hashes(folder) == hashes(tmp_path / "calm")
    assert len(hashes(folder)) == FILES + 1  # the journal too
    assert read_manifest(folder).status == "finished"
    assert read_manifest(folder).outputs.keys() == read_manifest(tmp_path / "calm").outputs.keys()
    assert not list(folder.rglob("*mambascope-tmp*"))
    # A session loses nothing but the one cell that it was in when it was killed.
    started = [line.split() for line in lines(log) if not line.endswith("files")]
    last = dict(started)
    for cell, times in Counter(cell for _, cell in started).items():
        assert times - 1 <= sum(lost == cell for lost in last.values())
    assert {int(cell) for _, cell in started} == set(range(CELLS))


@pytest.mark.parametrize("starts", [20, pytest.param(50, marks=pytest.mark.soak)])
def test_many_starts_at_once_have_one_winner(tmp_path, starts):
    release = tmp_path / "release"
    starters = [spawn(STARTER, tmp_path / "run", release, stdout=subprocess.PIPE, text=True) for _ in range(starts)]
    deadline = time.monotonic() + 60
    while sum(starter.poll() is not None for starter in starters) < starts - 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    release.touch()
    told = [starter.communicate(timeout=30)[0].split() for starter in starters]
    assert Counter(starter.returncode for starter in starters) == {0: 1, 75: starts - 1}
    assert sorted(words[0] for words in told) == ["busy"] * (starts - 1) + ["won"]
    assert max(float(words[1]) for words in told if words[0] == "busy") < 1
    assert read_manifest(tmp_path / "run").status == "finished"
    assert read_manifest(tmp_path / "run").resumed == 0


@pytest.mark.parametrize("where", ["cell", "file"])
def test_full_disk_then_resume(tmp_path, where):
    folder = tmp_path / "run"
    full = spawn(LIMITED, folder, where, stderr=subprocess.PIPE, text=True)
    assert (full.communicate(timeout=60)[1].count("resumes with the same command"), full.returncode) == (1, 5)
    assert (folder / "first.json").read_text() == "1\n"
    expected = {".lock", "first.json", "journal.jsonl", "manifest.json"}
    assert set(os.listdir(folder)) == expected
    assert read_manifest(folder).status == "failed"
    assert (folder / "journal.jsonl").read_bytes().endswith(b"\n")
    kept = len(lines(folder / "journal.jsonl"))
    assert kept == (1 if where == "file" else 8)  # 8192 bytes hold the first, short line and 7 more
    assert spawn(LIMITED, folder, "none").wait(timeout=60) == 0
    assert set(os.listdir(folder)) == expected | {"second.json"}
    assert spawn(LIMITED, tmp_path / "calm", "none").wait(timeout=60) == 0
    assert hashes(folder) == hashes(tmp_path / "calm")


def test_torn_last_line_costs_one_cell(tmp_path):
    with RunFolder.open(tmp_path, command={}, seed=0) as run:
        for index in range(3):
            run.cell(str(index), lambda index=index: index)
    whole = (tmp_path / "journal.jsonl").read_bytes()
    (tmp_path / "journal.jsonl").write_bytes(whole[:-5])
    again = []
    with RunFolder.open(tmp_path, command={}, seed=0) as run:
        for index in range(3):
            run.cell(str(index), lambda index=index: again.append(index) or index)
    assert again == [2]
    assert (tmp_path / "journal.jsonl").read_bytes() == whole
