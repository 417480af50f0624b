"""The main job killed again and again: the report and every table and figure come out byte for byte the same."""

import importlib.util
from pathlib import Path

import pytest

from mambascope.spectra.zoo import text_files

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

pytestmark = pytest.mark.timeout(7200)  # of the long forms


@pytest.mark.soak
def test_a_killed_report_ends_up_the_same(tmp_path, kill_and_resume):
    """With a forecast, the table of rules and a calibration of a few steps: this random model leaves its range."""
    tiny.save_tiny(tmp_path / "model", "mamba2")
    words = ["report", tmp_path / "model", "--no-theory", "--target-length", "256", "--calibration-steps", "3"]
    for role, split in (("text", "test"), ("calibration", "calibration"), ("validation", "validation")):
        words.append(f"--{role}")
        for k, path in enumerate(text_files(split)[:2]):
            copy = tmp_path / f"{role}{k}.txt"
            copy.write_bytes(path.read_bytes()[:1500])
            words.append(copy)
    kill_and_resume(words, 40, files=66)
    cells = (tmp_path / "killed/journal.jsonl").read_text()
    assert cells.index("/forecast") < cells.index("/diagnosis") < cells.index("/bits-none")
    assert all(part in cells for part in ("/rule-scores/validation/soft-clip", "/calibration/3", "/bits-calibrated"))
    page = (tmp_path / "killed/report.html").read_text()
    assert all(
        title in page
        for title in ("Could it have been known?", "Which rule, and what it gives up", "The proposal refined on text")
    )
