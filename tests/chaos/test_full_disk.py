"""Promise 5: a full disk or a file-size limit ends a command with exit code 5; what was there stays, and it goes on."""

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mambascope.analysis.runs import read_manifest
from tests.attacks.commands import told
from tests.chaos.small_runs import hashes, lines, prepare, whole_so_far

SHORT = ("propose", "calibrate", "simulate")
LONG = ("spectrum", "norms", "diagnose", "forecast", "evaluate", "bake", "train", "verify", "report")
LONG += ("starts", "compare", "sweep")


@pytest.fixture
def limit():
    """Set the largest file that this process can write; the signal of it is ignored, as the command line does."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size=old[0]: resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


def failed_for_lack_of_space(found, run, expected, before):
    """A command that could not write: one line, what to do, and nothing spoilt."""
    assert found.code == 5, found
    assert len(found.lines) == 1, found
    assert "could not be written" in found.lines[0], found
    assert "the run resumes with the same command once there is space" in found.lines[0], found
    assert not list(run.rglob("*mambascope-tmp*"))
    assert lines(run)[: len(before)] == before
    journal = run / "journal.jsonl"
    assert not journal.exists() or journal.read_bytes() == b"".join(lines(run))  # no torn line
    whole_so_far(run, expected)


@pytest.mark.parametrize("name", [*SHORT, *(pytest.param(name, marks=pytest.mark.soak) for name in LONG)])
@pytest.mark.timeout(900)
def test_a_file_size_limit_at_every_file(tmp_path, limit, name):
    """The limit grows from nothing past the size of every file, so that each is once the one that cannot be written."""
    words, run = prepare(tmp_path)[name], tmp_path / "run"
    assert told(*words, "-o", tmp_path / "calm").code == 0
    expected = hashes(tmp_path / "calm")
    sizes = sorted({path.stat().st_size for path in (tmp_path / "calm").rglob("*") if path.is_file()} - {0})
    tried = 0
    for size in sizes:
        before = lines(run)
        limit(size - 1)
        try:
            found = told(*words, "-o", run)
        finally:
            limit()
        if found.code == 0:  # the manifest of this session is shorter than the other's
            break
        failed_for_lack_of_space(found, run, expected, before)
        if (run / "manifest.json").exists():
            assert read_manifest(run).status in {"failed", "running"}
        tried += 1
    assert tried >= len(sizes) // 2 > 0
    assert told(*words, "-o", run).code == 0
    assert hashes(run) == expected
    assert read_manifest(run).status == "finished"
    print(f"{name}: {tried} file-size limits, 0 lost")


IN_A_SMALL_DISK = """
import json, subprocess, sys
from pathlib import Path
from tests.attacks.commands import told
from tests.chaos.small_runs import prepare

base, disk, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], check=True)
words = prepare(base)[name]
for kilobytes in map(int, sys.argv[4:]):
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", "tmpfs", disk], check=True)
    found = told(*words, "-o", disk / "run")
    left = {str(p.relative_to(disk)): p.read_bytes().hex() for p in sorted(disk.rglob("*")) if p.is_file()}
    print(json.dumps({"code": found.code, "lines": found.lines, "err": found.err[-2000:], "left": left}), flush=True)
"""
SMALL = ["unshare", "--user", "--map-root-user", "--mount"]


def can_mount():
    """Whether this machine lets an ordinary user mount a file system in memory, in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*SMALL, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("name", ["calibrate", *(pytest.param(n, marks=pytest.mark.soak) for n in ("evaluate",))])
@pytest.mark.timeout(900)
def test_a_disk_that_is_really_full(tmp_path, name):
    """A file system of a few kilobytes that grows, until everything has its place; the first holds nothing at all."""
    if not can_mount():
        pytest.skip("no file system of its own can be mounted here")
    base, disk = tmp_path / "base", tmp_path / "disk"
    base.mkdir()
    disk.mkdir()
    kilobytes = [4, 12, 20, 28, 48, 96, 200, 65536]
    words = [*SMALL, sys.executable, "-c", IN_A_SMALL_DISK, base, disk, name, *kilobytes]
    root = Path(__file__).parents[2]
    done = subprocess.run([str(word) for word in words], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sessions = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["code"] for each in sessions[-1:]] == [0], sessions[-1]["err"]
    full = [each for each in sessions if each["code"]]
    assert len(full) >= 3
    for before, each in zip([{"left": {}}, *full], full, strict=False):
        assert each["code"] == 5, each["err"]
        assert len(each["lines"]) == 1, each["err"]
        assert "No space left" in each["lines"][0]
        assert not [name for name in each["left"] if "mambascope-tmp" in name]
        old, new = (bytes.fromhex(run["left"].get("run/journal.jsonl", "")) for run in (before, each))
        assert new.startswith(old)  # nothing that was finished is lost
        assert not new or new.endswith(b"\n")
        if manifest := each["left"].get("run/manifest.json"):
            json.loads(bytes.fromhex(manifest))
    calm = told(*prepare(base)[name], "-o", tmp_path / "calm")  # the same files at the same places: the same run
    assert calm.code == 0, calm
    for path, content in sessions[-1]["left"].items():
        if Path(path).name not in {"manifest.json", ".lock"}:
            assert bytes.fromhex(content) == (tmp_path / "calm" / Path(path).relative_to("run")).read_bytes(), path
    print(f"{name}: {len(full)} sessions on a full disk, 0 lost")
