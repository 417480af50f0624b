"""Workers end with the process that started them, however it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CODE = "from mambascope.figures.cli import main; raise SystemExit(main())"


def workers_of(parent):
    """Numbers of the living loky workers of a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"popen_loky_posix" in line and state[0] != "Z" and int(state[1]) == parent:
            found.append(int(folder.name))
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_run(tmp_path, how):
    words = [
        "verify",
        "theorem-4.2",
        "corollary-4.4",
        "--trials",
        "4000000",
        "--jobs",
        "2",
        "-o",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 90
        data = tmp_path / "run/data"
        while time.monotonic() < deadline and not list(data.rglob("*.safetensors")):  # workers work
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        workers = workers_of(process.pid)
        assert workers
        process.send_signal(how)
        process.wait(timeout=30)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and any(map(is_alive, workers)):
            time.sleep(0.1)
        assert not any(map(is_alive, workers))
    finally:
        process.kill()
    _, err = process.communicate()
    expected = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[how]
    assert process.returncode == expected
    status = json.loads((tmp_path / "run/manifest.json").read_text())["status"]
    assert status == ("running" if how == signal.SIGKILL else "interrupted")
    if how != signal.SIGKILL:
        assert "the same command goes on from here" in err
        assert "Traceback" not in err
    assert os.getpid() != process.pid
