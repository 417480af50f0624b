"""Promises 14, 18 and 20: a result says how it was made, is made again from that, and the first one comes soon."""

import csv
import hashlib
import json
import resource
import subprocess
import sys

import pytest

from mambascope.analysis.runs import read_manifest
from tests.attacks.commands import told
from tests.chaos.small_runs import prepare

SHORT = ("propose", "evaluate", "calibrate", "simulate")
LONG = ("spectrum", "norms", "diagnose", "forecast", "bake", "train", "verify", "report")
LONG += ("starts", "compare", "sweep")

OWN = ("manifest.json", "journal.jsonl", ".lock", ".sweep-lock")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def whole_folder(run):
    """Hold the outputs that a folder tells against its files, and those of the runs in it, and return all of these."""
    below = {path.parent for path in run.rglob("manifest.json")} - {run}
    inside = [whole_folder(folder) for folder in below if not below & set(folder.parents)]
    files = {path for path in run.rglob("*") if path.is_file() and not below & set(path.parents)}
    files -= {run / own for own in OWN}
    found = read_manifest(run)
    assert found.status == "finished", run
    kept = {path for path in files if path.parent in {run / "cells", run / "fits"} and says_itself(path)}  # of a sweep
    assert found.outputs == {path.relative_to(run).as_posix(): sha256(path) for path in files - kept}, run
    return files.union(*inside)


def says_itself(path):
    """Whether what a sweep has kept tells what it depends on, and on what machine it was made."""
    document = json.loads(path.read_text())
    return {"model", "texts" if path.parent.name == "cells" else "calibration", "versions"} <= set(
        document["facts"]
    ) and ({"python", "numpy", "torch"} <= set(document["made_on"]["versions"]))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*SHORT, *(pytest.param(name, marks=pytest.mark.soak) for name in LONG)])
def test_a_run_says_how_every_file_of_it_was_made(tmp_path, name):
    """The folder tells command, seed, versions, device, dtype, and each file that was read or made, by content."""
    words = prepare(tmp_path)[name]
    assert told(*words, "-o", tmp_path / "run").code == 0
    found = read_manifest(tmp_path / "run")
    assert found.status == "finished"
    assert found.command["verb"] == name
    assert {"python", "numpy", "torch"} <= set(found.versions)
    assert found.device == "cpu"
    assert found.dtype in {"float32", "float64"}
    made = whole_folder(tmp_path / "run")
    given = {str(word) for word in words}
    read = {path for path in tmp_path.rglob("*") if str(path) in given and path.is_file()}
    if str(tmp_path / "model") in given:
        read |= {tmp_path / "model/config.json", tmp_path / "model/model.safetensors"}
    if name == "calibrate":  # which compares its test texts with the others, and reads nothing of them
        read -= set(words[words.index("--text") + 1 : words.index("--target-length")])
    if name not in {"train", "sweep"}:  # the recipe is in the command, in full; every cell tells its own inputs
        assert {sha256(path) for path in read} <= {each.sha256 for each in found.inputs}
    told_again = [json.loads(path.read_text()) for path in made if path.suffix == ".json"]
    for document in (each for each in told_again if isinstance(each, dict) and isinstance(each.get("made_by"), dict)):
        assert document["made_by"]["command"].items() >= found.command.items()  # tables of a sweep hold its plan too
        assert document["made_by"]["versions"] == found.versions


def table(folder):
    """Rows of an evaluation, digit by digit as they stand in its table."""
    with (folder / "tables/perplexity.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_stored_scales_give_the_table_that_was_reported(tmp_path):
    """Every digit of every row: the proposal in a run, and its file of scales given to another one."""
    words = prepare(tmp_path)
    assert told(*words["evaluate"], "-o", tmp_path / "first").code == 0
    proposed = ["propose", *words["evaluate"][1:2], "--text", *words["diagnose"][3:5], "--target-length", "128"]
    assert told(*proposed, "-o", tmp_path / "proposed").code == 0
    scales = tmp_path / "proposed/scales.json"
    again = [*words["evaluate"][:-1], "scales", "--scales", scales]
    assert told(*again, "-o", tmp_path / "again").code == 0
    first = [row for row in table(tmp_path / "first") if row["method"] == "spectrum"]
    second = [row for row in table(tmp_path / "again") if row["method"] == "scales"]
    assert len(first) == len(second) == 2
    for one, other in zip(first, second, strict=True):
        for key in ("length", "bits_per_token", "tail_bits_per_token", "tokens", "ci_low", "ci_high"):
            assert one[key] == other[key], key


@pytest.mark.soak
def test_stored_scales_of_a_comparison_give_the_table_that_was_reported(tmp_path):
    """Every digit of every row: each method's file of scales, given to another comparison as a method."""
    words = prepare(tmp_path)["compare"]
    assert told(*words, "-o", tmp_path / "first").code == 0
    at = words.index("--methods") + 1
    stored = {
        name: tmp_path / f"first/scales/model/{name.replace(':', '-')}.json" for name in ("constant:a:2", "spectrum")
    }
    methods = ",".join(["none", *(f"scales:{path}" for path in stored.values())])
    assert told(*words[:at], methods, *words[at + 1 :], "-o", tmp_path / "again").code == 0
    first, again = (
        json.loads((tmp_path / run / "tables/compare.json").read_text())["rows"] for run in ("first", "again")
    )
    measured = ("corpus", "length", "bits", "tail_bits", "last_bits", "harm", "harm_low", "harm_high", "inside")
    for name, path in stored.items():
        one = [[row[key] for key in measured] for row in first if row["method"] == name]
        assert one == [[row[key] for key in measured] for row in again if row["method"] == f"scales:{path}"]
        assert len(one) == 2


def test_the_first_figure_comes_within_20_seconds(tmp_path):
    """Seconds of all cores together, which a busy machine does not stretch."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "from mambascope.figures.cli import main; raise SystemExit(main())"
    words = [sys.executable, "-c", code, "spectrum", "mamba2-tiny", "-o", str(tmp_path / "run")]
    subprocess.run(words, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"first figure: {took_s:.1f} s")
    assert list((tmp_path / "run/figures").glob("*.png"))
    assert took_s < 20
