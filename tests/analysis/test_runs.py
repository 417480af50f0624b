"""Test ``mambascope.analysis.runs``: who may run in a folder, what is recorded, what is kept and what is deleted."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mambascope.analysis.atomic import StorageError, write_json, write_text
from mambascope.analysis.journal import JournalError
from mambascope.analysis.runs import FolderBusyError, InputFile, RunFolder, RunFolderError, read_manifest
from mambascope.spectra.errors import RefusedInputError

BARE = """
import importlib.util, sys, types
for name in ("mambascope.spectra", "mambascope.analysis"):  # without their __init__, which may import torch
    places = importlib.util.find_spec(name).submodule_search_locations
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = list(places)
"""
SPEC = {"verb": "evaluate", "lengths": [256, 512], "scales": {"kind": "dt"}}


def start(folder, **changes):
    return RunFolder.open(
        folder, **{"command": SPEC, "seed": 3, "argv": ["/home/me/bin/mambascope", "evaluate"]} | changes
    )


def finish(folder, **changes):
    with start(folder, **changes) as run:
        write_json(run.output("figures/rows.json"), run.cell("a", lambda: [0.1]))
    return run


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def edit(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def test_what_is_recorded(tmp_path):
    text = tmp_path / "text.txt"
    text.write_bytes(b"abc")
    with start(tmp_path / "run", inputs=[InputFile.of("text", text)], dtype="float64", threads=2) as run:
        running = read_manifest(run.folder)
        assert (running.status, running.outputs, run.resuming) == ("running", {}, False)
        write_text(run.output("figures/a.txt"), "result")
        run.output("never-written.txt")
    found = read_manifest(tmp_path / "run")
    assert found == run.manifest
    assert (found.status, found.seed, found.device, found.dtype, found.threads) == ("finished", 3, "cpu", "float64", 2)
    assert (found.command, found.argv, found.pid) == (SPEC, ["mambascope", "evaluate"], os.getpid())
    assert found.inputs == [InputFile("text", "text.txt", hashlib.sha256(b"abc").hexdigest(), 3)]
    assert found.outputs == {"figures/a.txt": hashlib.sha256(b"result").hexdigest()}
    assert {"python", "numpy", "msgspec"} <= found.versions.keys()
    assert found.started_utc <= found.finished_utc
    assert 0 < found.seconds < 60
    assert str(tmp_path) not in (tmp_path / "run" / "manifest.json").read_text()


def test_recording_imports_nothing_heavy(tmp_path):
    code = BARE + (
        "import sys\nfrom mambascope.analysis.runs import RunFolder\n"
        "with RunFolder.open(sys.argv[1], command={}, seed=0): pass\n"
        "sys.exit(bool({'torch', 'numpy', 'numba', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=True, timeout=60)


def test_the_same_command_resumes(tmp_path):
    seen = []

    def fail():
        with start(tmp_path / "run") as run:
            seen.extend([run, run.cell("a", lambda: (1, {2: 0.1})), run.made_by()])
            run.cell("b", lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        fail()
    run, value, made_by = seen
    assert value == [1, {"2": 0.1}]  # as the journal reads, from the first time on
    assert (run.manifest.status, run.manifest.error) == ("failed", "ZeroDivisionError: division by zero")
    with start(tmp_path / "run", threads=7) as run:
        assert run.resuming
        assert run.cell("a", lambda: pytest.fail("computed again")) == [1, {"2": 0.1}]
        assert run.cell("none", lambda: None) is run.cell("none", lambda: pytest.fail("computed again")) is None
        assert run.made_by() == made_by
    assert (run.manifest.status, run.manifest.resumed, run.manifest.error) == ("finished", 1, None)


def test_a_resumed_run_tells_other_versions(tmp_path):
    finish(tmp_path / "run")
    edit(tmp_path / "run", versions={"numpy": "1.0"}, mambascope="0.0.1")
    changes = finish(tmp_path / "run").manifest.changes
    assert any(change.startswith("numpy: 1.0 -> ") for change in changes)
    assert any(change.startswith("mambascope: 0.0.1 -> ") for change in changes)


def test_a_resumed_run_tells_another_engine(tmp_path):
    finish(tmp_path / "run", engine="compiled: fused loops")
    edit(tmp_path / "run", status="interrupted")
    with start(tmp_path / "run", engine="blocked: off") as run:
        assert run.made_by()["engine"] == "blocked: off"
    assert run.manifest.changes == ["engine: compiled: fused loops -> blocked: off"]
    edit(tmp_path / "run", engine="")  # of a version that did not record it
    assert finish(tmp_path / "run", engine="compiled: fused loops").manifest.changes == run.manifest.changes


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 4}, "seed is 3 there, 4 now"),
        ({"device": "cuda"}, 'device is "cpu" there, "cuda" now'),
        ({"command": SPEC | {"lengths": [256, 1024]}}, r"command\.lengths\.1 is 512 there, 1024 now"),
        ({"command": SPEC | {"more": None}}, "command.more is absent there, null now"),
        ({"command": SPEC | {"scales": {"kind": 1}}}, 'kind is "dt" there, 1 now'),
        ({"command": SPEC | dict.fromkeys("abcdefg", 1)}, "and more"),
        ({"inputs": [InputFile("text", "t", "0" * 64, 1)]}, r"inputs\.0\.sha256 is absent there"),
    ],
)
def test_another_run_is_refused(tmp_path, changes, told):
    finish(tmp_path / "run")
    before = files(tmp_path / "run")
    with pytest.raises(RefusedInputError, match=f"holds a different run .*{told}.* another folder with -o.*--fresh"):
        finish(tmp_path / "run", **changes)
    assert files(tmp_path / "run") == before


def test_fresh_deletes_only_its_own(tmp_path):
    folder = tmp_path / "run"
    finish(folder)
    strangers = {"notes.txt": b"mine", "figures/plot.png": b"mine too"}
    for name, data in strangers.items():
        (folder / name).write_bytes(data)
    with start(folder, fresh=True, seed=9) as run:
        assert not run.resuming
        assert files(folder).keys() == {".lock", "journal.jsonl", "manifest.json"} | strangers.keys()
        assert ("cell", "a") not in run.journal
        for name in strangers:
            with pytest.raises(RunFolderError, match="not of this run"):
                run.output(name)
    assert (run.manifest.seed, run.manifest.outputs) == (9, {})
    assert files(folder).items() >= strangers.items()


def test_fresh_mends_a_damaged_journal(tmp_path):
    finish(tmp_path / "run")
    journal = tmp_path / "run" / "journal.jsonl"
    journal.write_bytes(b"x" + journal.read_bytes() * 2)
    with pytest.raises(JournalError, match=r"line 1.*--fresh"):
        finish(tmp_path / "run")
    assert finish(tmp_path / "run", fresh=True).cell("a", list) == [0.1]


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("name", ["notes.txt", "journal.jsonl", ".lock"])
def test_a_strangers_folder_is_refused_untouched(tmp_path, fresh, name):
    (tmp_path / name).write_text("mine")
    (tmp_path / "more").write_text("mine")
    before = files(tmp_path)
    with pytest.raises(RunFolderError, match="nothing was touched"):
        finish(tmp_path, fresh=fresh)
    assert files(tmp_path) == before


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"name": "a web app"}', '{"format": 1}', "\xff", "[" * 9999, '{"mambascope": "9", "format": 2}'],
)
def test_a_strange_manifest_is_refused_untouched(tmp_path, fresh, text):
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RunFolderError, match=r"manifest\.json: .*-o"):
        finish(tmp_path, fresh=fresh)
    assert (tmp_path / "manifest.json").read_bytes() == text.encode("latin-1")


@pytest.mark.parametrize(
    "changes", [{"more": 1}, {"seed": "3"}, {"status": "odd"}, {"format": 2}, {"format": 1.5}, {"inputs": [{"x": 1}]}]
)
def test_manifests_are_read_strictly(tmp_path, changes):
    finish(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(RunFolderError, match=r"manifest\.json: "):
        read_manifest(tmp_path)


def test_missing_manifest_and_file_in_the_way(tmp_path):
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_manifest(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFolderError, match="is a file"):
        finish(tmp_path / "file")
    with pytest.raises(StorageError):
        finish(tmp_path / "file" / "run")


@pytest.mark.parametrize(
    "name", ["../x", "/x", "", ".", "a/../../x", "manifest.json", ".lock", "journal.jsonl", "out/x"]
)
def test_outputs_stay_inside(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    victim = tmp_path / "elsewhere" / "x"
    victim.write_text("mine")
    with start(tmp_path / "run") as run:
        (run.folder / "out").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(RunFolderError):
            run.output(name)
    edit(tmp_path / "run", outputs={name: None, "../elsewhere/x": None})
    with pytest.raises(RunFolderError):
        finish(tmp_path / "run", fresh=True)
    assert victim.read_text() == "mine"


def test_ctrl_c_is_recorded_and_raised(tmp_path):
    def interrupted():
        with start(tmp_path / "run") as run:
            run.cell("a", lambda: 1)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_manifest(tmp_path / "run").status == "interrupted"
    with start(tmp_path / "run") as run:
        assert run.cell("a", lambda: 2) == 1
    assert read_manifest(tmp_path / "run").status == "finished"


def test_what_a_killed_writer_left_is_removed(tmp_path):
    finish(tmp_path / "run")
    left = tmp_path / "run" / "figures" / ".rows.json.0123456789abcdef.mambascope-tmp.json"
    left.write_text("half")
    finish(tmp_path / "run")
    assert not left.exists()


def test_second_run_is_refused_and_first_unharmed(tmp_path):
    with start(tmp_path / "run") as run:
        for changes in ({}, {"fresh": True}, {"seed": 4}):
            began = time.monotonic()
            with pytest.raises(FolderBusyError, match=f"process {os.getpid()} on .*-o") as caught:
                finish(tmp_path / "run", **changes)
            assert time.monotonic() - began < 1
            assert (caught.value.exit_code, caught.value.pid) == (75, os.getpid())
        assert run.cell("a", lambda: 1) == 1
    assert finish(tmp_path / "run").cell("a", list) == 1


def test_an_errand_of_the_body_is_not_mistaken_for_a_busy_folder(tmp_path):
    with pytest.raises(BlockingIOError), start(tmp_path / "run"):
        raise BlockingIOError


def test_an_orphaned_child_does_not_hold_the_folder(tmp_path):
    code = BARE + (
        "import os, sys, time\nfrom mambascope.analysis.runs import RunFolder\n"
        "with RunFolder.open(sys.argv[1], command={}, seed=0) as run:\n"
        "    child = os.fork()\n"
        "    if not child: print(os.getpid(), flush=True)\n"  # from the child: it has given up its copy of the lock
        "    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    try:
        with RunFolder.open(tmp_path, command={}, seed=0) as run:
            assert run.resuming
    finally:
        os.kill(child, signal.SIGKILL)
