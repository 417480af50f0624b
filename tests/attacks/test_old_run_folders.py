"""Promise 19: run folders and scales of every earlier format are read and gone on with; unknown fields are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mambascope.analysis.runs import read_manifest
from mambascope.spectra.scales import Scales
from tests.attacks.commands import refused, told
from tests.attacks.stored_runs import COMMANDS

STORED = Path(__file__).parent / "stored"
FORMATS = ("format-1",)


@pytest.fixture(params=FORMATS)
def stored(request, tmp_path, monkeypatch):
    """A copy of what a format wrote, and the working directory."""
    folder = shutil.copytree(STORED / request.param, tmp_path / "stored")
    monkeypatch.chdir(folder)
    return folder


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def compared(found):
    """Tables and scales: what says nothing of versions and times."""
    return {name: data for name, data in found.items() if name.endswith((".csv", "scales.json", ".safetensors"))}


def says_no_less(new, old):
    """The same factors, of which a later version may say more: format 1 began without the texts of a proposal."""
    new, old = json.loads(new), json.loads(old)
    more = new["provenance"].keys() - old["provenance"].keys()
    return more <= {"texts_sha256"} and old == new | {
        "provenance": {key: value for key, value in new["provenance"].items() if key not in more}
    }


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "interrupted"])
def test_a_finished_run_is_read_and_nothing_is_done_again(stored, name):
    before = files(stored / name)
    assert compared(before), name
    assert read_manifest(stored / name).status == "finished"
    found = told(*COMMANDS[name], "-o", name)
    assert found.code == 0, found
    after = files(stored / name)
    assert after.get("journal.jsonl") == before.get("journal.jsonl")
    now = compared(after)
    for file, data in compared(before).items():
        assert now[file] == data or (file == "scales.json" and says_no_less(now[file], data)), file
    assert read_manifest(stored / name).resumed == 1
    refused([*COMMANDS[name], "-o", name, "--dtype", "float64"] if name != "simulated" else
            [*COMMANDS[name], "-o", name, "--seed", "5"], "holds a different run")  # fmt: skip


def test_a_stopped_run_is_gone_on_with(stored):
    before = (stored / "interrupted/journal.jsonl").read_bytes()
    assert read_manifest(stored / "interrupted").status == "interrupted"
    found = told(*COMMANDS["interrupted"], "-o", "interrupted")
    assert found.code == 0, found
    after = (stored / "interrupted/journal.jsonl").read_bytes()
    assert after.startswith(before)
    assert sum(b'"kind":"step"' in line for line in after.splitlines()) == 5  # the start and four
    assert Scales.load(stored / "interrupted/scales.json").factors


def test_its_sources_can_be_cited(stored):
    for name in COMMANDS:
        assert "@" in told("cite", name).out, name


@pytest.mark.parametrize("name", ["scales.json", "calibrated/scales.json", "proposed/scales.json"])
def test_files_of_scales_are_read(stored, name):
    found = told("evaluate", "model", "--text", "test.jsonl", "--lengths", "8", "--methods", "scales", "--scales", name)
    assert found.code == 0, found
    if name == "scales.json":
        first, second = Scales.load(name).factors
        assert (first.kind, second.kind, second.onset_tokens) == ("a", "dt", 8)
        assert torch.equal(first.values, torch.tensor([1.5], dtype=torch.float64))


READ_BY = {
    "calibrated/manifest.json": [*COMMANDS["calibrated"], "-o", "calibrated"],
    "evaluated/manifest.json": ["cite", "evaluated"],
    "scales.json": [
        "evaluate",
        "model",
        "--text",
        "test.jsonl",
        "--lengths",
        "8",
        "--methods",
        "scales",
        "--scales",
        "scales.json",
    ],
    "calibrated/scales.json": ["bake", "model", "--scales", "calibrated/scales.json", "-o", "baked", "--no-check"],
    "model/mambascope.json": ["spectrum", "model"],
}


@pytest.mark.parametrize("name", list(READ_BY))
@pytest.mark.parametrize(
    ("change", "message"), [({"surprise": 1}, "surprise"), ({"format": 2}, "format"), ({"format": "1"}, "format")]
)
def test_an_unknown_field_and_an_unknown_format_are_refused(stored, name, change, message):
    path = stored / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    before = files(stored)
    refused(READ_BY[name], name, message)
    assert {k: v for k, v in files(stored).items() if not k.startswith("baked/") and ".lock" not in k} == before


def test_a_journal_line_of_another_form_is_refused(stored):
    import hashlib

    line = b'{"key":"0","kind":"step","surprise":1,"value":null}'
    with (stored / "calibrated/journal.jsonl").open("ab") as journal:
        journal.write(hashlib.sha256(line).hexdigest().encode() + b" " + line + b"\n")
    refused([*COMMANDS["calibrated"], "-o", "calibrated"], "journal.jsonl, line", "--fresh")


def test_the_stored_folders_are_small():
    for name in FORMATS:
        found = files(STORED / name)
        assert set(COMMANDS) <= {Path(path).parts[0] for path in found}
        assert sum(map(len, found.values())) < 100_000
