"""Test ``mambascope.spectra.checkpoint``: what a few tensors of a full-size checkpoint cost.

The files have mamba-2.8b's names and shapes and 11 GB by their size, but are holes except for a few values.
"""

import json
import subprocess
import sys
import zipfile

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mambascope.spectra.config import Config
from mambascope.spectra.layouts import config_json, expected_tensors

MAMBA_2_8B = Config(
    arch="mamba",
    d_model=2560,
    n_layer=64,
    vocab_size=50280,
    d_inner=5120,
    d_state=16,
    dt_rank=160,
    tokens_in_vocab=50277,
)
READ_ALL_A_LOG = """
import sys
from pathlib import Path
from mambascope.spectra.checkpoint import Checkpoint
def peak_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
Path("/proc/self/clear_refs").write_text("5")  # a new peak begins; ru_maxrss would begin at the parent's peak
before = peak_kb()
with Checkpoint.open(Path(sys.argv[1])) as checkpoint:
    for layer in range(checkpoint.config.n_layer):
        A_log = checkpoint.A_log(layer)
        assert A_log.shape == (5120, 16) and A_log[7, 3] == layer + 1 and A_log.sum() == layer + 1
print(peak_kb() - before)
"""


def sparse_safetensors(path, config):
    header, end = {}, 0
    for name, shape in expected_tensors(config).items():
        begin, end = end, end + 4 * torch.Size(shape).numel()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
        for layer in range(config.n_layer):
            start = header[f"backbone.layers.{layer}.mixer.A_log"]["data_offsets"][0]
            file.seek(8 + len(raw) + start + 4 * (7 * 16 + 3))
            file.write(torch.tensor([layer + 1.0]).numpy().tobytes())


def sparse_bin(path, config):
    shapes = expected_tensors(config)
    with FakeTensorMode():  # no memory behind the values; torch.save leaves holes in their place
        tensors = {name: torch.empty(shape) for name, shape in shapes.items()}
    with torch.serialization.skip_data(materialize_fake_tensors=True), path.open("wb") as file:
        torch.save(tensors | {"lm_head.weight": tensors["backbone.embedding.weight"]}, file)
    with zipfile.ZipFile(path) as archive, path.open("r+b") as file:
        for number, name in enumerate(shapes):
            if name.endswith("A_log"):
                offset = archive.getinfo(f"archive/data/{number}").header_offset
                file.seek(offset + 26)
                sizes = file.read(4)
                skip = int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:], "little")
                file.seek(offset + 30 + skip + 4 * (7 * 16 + 3))
                file.write(torch.tensor([int(name.split(".")[2]) + 1.0]).numpy().tobytes())


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_all_A_log_of_a_mamba_2_8b_cost_little_memory(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps(config_json(MAMBA_2_8B, "state-spaces")))
    path = tmp_path / kind
    (sparse_bin if kind.endswith("bin") else sparse_safetensors)(path, MAMBA_2_8B)
    try:
        assert path.stat().st_size > 11e9
        assert path.stat().st_blocks * 512 < 50e6
        done = subprocess.run(
            [sys.executable, "-c", READ_ALL_A_LOG, str(tmp_path)], capture_output=True, text=True, check=False
        )
    finally:
        path.unlink()
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 80 * 1024  # KB; the file holds 11 GB, all A_log 21 MB
