"""The main job killed again and again: the report and every table and figure come out byte for byte the same."""

import hashlib
import importlib.util
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
    rng, killed = random.Random(0), 0
    for _ in range(kills):
        process = subprocess.Popen(words(tmp_path, tmp_path / "killed"), env=environment, stderr=subprocess.DEVNULL)
        time.sleep(takes * (0.3 + 0.65 * rng.random()))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert killed >= kills // 2
    environment["PYTHONHASHSEED"] = "2"
    subprocess.run(words(tmp_path, tmp_path / "killed"), check=True, env=environment, stderr=subprocess.DEVNULL)
    found, expected = hashes(tmp_path / "killed"), hashes(tmp_path / "whole")
    assert len(expected) > 30
    journals = {name for name in expected if name == "journal.jsonl"}
    assert {n: h for n, h in found.items() if n not in journals} == {
        n: h for n, h in expected.items() if n not in journals
    }
