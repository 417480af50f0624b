"""Memory does not grow with the length of the text: the peaks of ``norms`` and ``evaluate`` over the loaded model."""

import json
import subprocess
import sys

import pytest

from mambascope.spectra.zoo import text_files

SCRIPT = """
import contextlib, io, json, sys
from mambascope.figures.cli import main
from mambascope.figures.sources import Source

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))  # kB

load, loaded = Source.load, []

def load_and_reset(self, args):
    model = load(self, args)
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew here
    loaded.append(status("VmRSS"))
    return model

Source.load = load_and_reset
with contextlib.redirect_stdout(io.StringIO()):
    words = [sys.argv[4], sys.argv[1], "--text", sys.argv[2], "--lengths", sys.argv[3], "--json", "--threads", "1"]
    assert main(words + ["--methods", "none"] * (sys.argv[4] == "evaluate")) == 0
print(json.dumps(status("VmHWM") - loaded[0]))
"""


def growth_mb(model, text, length, command):
    words = [sys.executable, "-c", SCRIPT, model, str(text), str(length), command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own account of a process's memory")
@pytest.mark.parametrize("model", ["mamba-tiny", "mamba2-tiny"])
@pytest.mark.parametrize(
    ("command", "shorter", "longer"),
    [
        ("norms", 8192, 32_768),
        pytest.param("norms", 65_536, 2**20, marks=pytest.mark.soak),
        pytest.param("evaluate", 65_536, 2**20, marks=pytest.mark.soak),
    ],
)
@pytest.mark.timeout(1800)
def test_a_longer_text_takes_no_more_memory(tmp_path, model, command, shorter, longer):
    text = tmp_path / "long.txt"
    text.write_bytes(b"".join(path.read_bytes() for path in text_files("test"))[:longer])
    short, long = (growth_mb(model, text, length, command) for length in (shorter, longer))
    print(f"{command} {model}: {short:.1f} MB at {shorter:,} tokens, {long:.1f} MB at {longer:,}")
    assert long <= short + 5
