"""The main job killed again and again: the report and every table and figure come out byte for byte the same."""

import hashlib
import importlib.util
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mambascope.spectra.zoo import text_files

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

VOLATILE = {"manifest.json", ".lock"}  # times and process numbers are there, and only there


def hashes(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in VOLATILE]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def journal_of(folder):
    path = folder / "journal.jsonl"
    return path.read_bytes().splitlines(keepends=True)[:-1] if path.exists() else []  # the last one may be torn


def words(tmp_path, output):
    texts = {}
    for role, split in (("text", "test"), ("calibration", "calibration"), ("validation", "validation")):
        texts[role] = []
        for k, path in enumerate(text_files(split)[:2]):
            copy = tmp_path / f"{role}{k}.txt"
            copy.write_bytes(path.read_bytes()[:1500])
            texts[role].append(str(copy))
    options = [word for role, files in texts.items() for word in (f"--{role}", *files)]
    code = "from mambascope.figures.cli import main; raise SystemExit(main())"
    return [sys.executable, "-c", code, "report", str(tmp_path / "model"), "-o", str(output), *options]


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.soak)])
def test_a_killed_report_ends_up_the_same(tmp_path, kills):
    tiny.save_tiny(tmp_path / "model", "mamba2")
    environment = os.environ | {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    subprocess.run(words(tmp_path, tmp_path / "whole"), check=True, env=environment, stderr=subprocess.DEVNULL)
    takes = time.monotonic() - start
    rng, killed, cells = random.Random(0), 0, []
    complete = len(journal_of(tmp_path / "whole"))
    for k in range(kills):
        # every other kill comes once some more cells are finished, the rest at any time
        wanted = len(cells[-1]) + 1 + rng.randrange(3) if k % 2 and cells else 1 if k == 0 else complete + 1
        latest = time.monotonic() + takes * (0.3 + 0.65 * rng.random()) + (60 if wanted <= complete else 0)
        process = subprocess.Popen(words(tmp_path, tmp_path / "killed"), env=environment, stderr=subprocess.DEVNULL)
        while process.poll() is None and time.monotonic() < latest:
            if len(journal_of(tmp_path / "killed")) >= wanted:
                break
            time.sleep(0.001)
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        cells.append(journal_of(tmp_path / "killed"))
    assert killed >= kills // 2
    assert all(b[: len(a)] == a for a, b in itertools.pairwise(cells))  # nothing that was finished is done again
    assert 0 < len(cells[0]) < complete
    environment["PYTHONHASHSEED"] = "2"
    subprocess.run(words(tmp_path, tmp_path / "killed"), check=True, env=environment, stderr=subprocess.DEVNULL)
    found, expected = hashes(tmp_path / "killed"), hashes(tmp_path / "whole")
    assert len(expected) > 30
    assert found == expected  # the journal among them
