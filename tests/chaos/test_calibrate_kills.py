"""Calibrations killed again and again: the journal, the state and the scales come out byte for byte the same."""

import importlib.util
from pathlib import Path

import pytest

from mambascope.spectra.zoo import text_files

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

pytestmark = pytest.mark.timeout(7200)  # of the long forms


@pytest.mark.soak
@pytest.mark.parametrize(
    ("method", "arch", "kills"), [("spsa", "mamba2", 50), ("backprop", "mamba", 50), ("spsa-released", "mamba2", 20)]
)
def test_a_killed_calibration_ends_up_the_same(tmp_path, kill_and_resume, method, arch, kills):
    tiny.save_tiny(tmp_path / "model", arch)
    words = ["calibrate", tmp_path / "model", "--method", method, "--target-length", "256", "--steps", "40"]
    words += ["--batch", "2", "--selection-windows", "4"]
    for role, split in (("calibration", "calibration"), ("validation", "validation"), ("text", "test")):
        words.append(f"--{role}")
        for k, path in enumerate(text_files(split)[:2]):
            copy = tmp_path / f"{role}{k}.txt"
            copy.write_bytes(path.read_bytes()[:1500])
            words.append(copy)
    kill_and_resume(words, kills, files=5)
