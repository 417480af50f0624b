"""Comparisons killed again and again: tables, figures, scales and the calibrations below come out the same."""

import importlib.util
from pathlib import Path

import pytest

from mambascope.spectra.zoo import text_files

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

pytestmark = pytest.mark.timeout(7200)  # of the long forms


@pytest.mark.soak
@pytest.mark.parametrize(("jobs", "kills"), [(1, 30), (2, 30)])
def test_a_killed_comparison_ends_up_the_same(tmp_path, kill_and_resume, jobs, kills):
    """The run that is not killed uses one worker."""
    tiny.save_tiny(tmp_path / "model", "mamba2")
    for split in ("calibration", "validation", "test"):
        folder = tmp_path / "data" / "books" / split
        folder.mkdir(parents=True)
        for k, path in enumerate(text_files(split)[:2]):
            (folder / f"{k}.txt").write_bytes(path.read_bytes()[:600])
    words = ["compare", tmp_path / "model", "--data", tmp_path / "data", "--corpora", "books", "--lengths", "16,512"]
    words += ["--methods", "constant:a:2,constant:a:3,heads,mamba-modulation", "--calibrate-at", "64", "--steps", "15"]
    words += ["--passkey-examples", "0", "--jobs"]
    kill_and_resume([*words, str(jobs)], kills, files=20, whole_words=[*words, "1"], in_order=jobs == 1)
