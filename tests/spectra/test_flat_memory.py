"""Memory does not grow with the length of the text: the peak over the loaded model, measured in a fresh process."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys, numpy as np
from mambascope.spectra import load, state_norms
from mambascope.spectra.norms import trajectory_lengths
from mambascope.spectra.zoo import text_files
import torch
torch.set_num_threads(1)

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))  # kB

length = int(sys.argv[2])
book = b"".join(path.read_bytes() for path in text_files("test"))
tokens = np.frombuffer(book[:length], np.uint8)[None]
model = load(sys.argv[1])
state_norms(model, tokens[:, :4096], [4096])  # whatever is compiled or allocated once
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew here
before = status("VmRSS")
state_norms(model, tokens, trajectory_lengths(length))
print(status("VmHWM") - before)
"""


def growth_mb(model, length):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, model, str(length)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own account of a process's memory")
@pytest.mark.parametrize("model", ["mamba-tiny", "mamba2-tiny"])
@pytest.mark.parametrize("longer", [65_536, pytest.param(262_144, marks=pytest.mark.soak)])
def test_norms_of_a_longer_text_take_no_more_memory(model, longer):
    short, long = growth_mb(model, 16_384), growth_mb(model, longer)
    print(f"{model}: {short:.1f} MB at 16,384 tokens, {long:.1f} MB at {longer:,}")
    assert long <= short + 5
