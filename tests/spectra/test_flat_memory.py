"""Memory does not grow with the length of the text: the peaks of ``norms`` and ``evaluate`` over the loaded model."""

import json
import statistics
import subprocess
import sys

import pytest

from mambascope.spectra.zoo import text_files

SCRIPT = """
import contextlib, io, json, sys
from mambascope.figures.cli import main
from mambascope.figures.sources import Source
from mambascope.spectra.model import Model

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))  # kB

load, loaded = Source.load, []
stream, on_the_way, command = Model.stream, [], sys.argv[4]

def load_and_reset(self, args):
    model = load(self, args)
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew here
    loaded.append(status("VmRSS"))
    return model

def watched(self, *arguments, **named):
    for block in stream(self, *arguments, **named):
        yield block
        if block.stop >= int(sys.argv[5]) and not on_the_way:
            on_the_way.append(status("VmHWM"))

Source.load, Model.stream = load_and_reset, watched
with contextlib.redirect_stdout(io.StringIO()):
    words = [command, sys.argv[1], "--text", sys.argv[2], "--lengths", sys.argv[3], "--json", "--threads", "1"]
    assert main(words + ["--methods", "none"] * (command == "evaluate")) == 0
print(json.dumps([(each - loaded[0]) / 1024 for each in (*on_the_way, status("VmHWM"))]))
"""


def growth_mb(tmp_path, model, tokens, command, shorter):
    """Return what a run has grown by once ``shorter`` tokens have passed, and at the end."""
    text = tmp_path / "long.txt"
    text.write_bytes(b"".join(path.read_bytes() for path in text_files("test"))[:tokens])
    words = [sys.executable, "-c", SCRIPT, model, str(text), str(tokens), command, str(shorter)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own account of a process's memory")
@pytest.mark.parametrize("model", ["mamba-tiny", "mamba2-tiny"])
def test_a_longer_text_takes_no_more_memory(tmp_path, model):
    short, long = (growth_mb(tmp_path, model, tokens, "norms", tokens)[-1] for tokens in (8192, 32_768))
    print(f"norms {model}: {short:.1f} MB at 8,192 tokens, {long:.1f} MB at 32,768")
    assert long <= short + 5


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own account of a process's memory")
@pytest.mark.parametrize("model", ["mamba-tiny", "mamba2-tiny"])
@pytest.mark.parametrize("command", ["norms", "evaluate"])
def test_a_million_tokens_take_no_more_memory(tmp_path, model, command):
    """Within a run, the median of three: heaps fragment as they like, processes differ by more than the length does."""
    runs = [growth_mb(tmp_path, model, 2**20, command, 65_536) for _ in range(3)]
    print(f"{command} {model}:", ", ".join(f"{early:.1f} then {late:.1f} MB" for early, late in runs))
    assert statistics.median(late - early for early, late in runs) <= 5
