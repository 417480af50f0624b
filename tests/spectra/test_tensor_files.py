"""Test ``mambascope.spectra.tensor_files`` (and ``torch_bin``, ``tensor_source`` behind it)."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from mambascope.spectra.errors import CheckpointError, UnsafeCheckpointError
from mambascope.spectra.tensor_files import TensorEntry, open_bin, open_safetensors

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8)


def some_tensors():
    g = torch.Generator().manual_seed(0)
    tensors = {str(d): (10 * torch.randn(3, 5, generator=g)).abs().to(d) for d in DTYPES}
    return tensors | {"empty": torch.empty(0, 4), "scalar": torch.tensor(2.5)}


def test_safetensors_gives_back_every_type_and_shape(tmp_path):
    path = tmp_path / "m.safetensors"
    tensors = some_tensors()
    save_file(tensors, path, metadata={"format": "pt"})
    with open_safetensors(path) as file:
        assert set(file.entries) == set(tensors)
        for name, tensor in tensors.items():
            assert file.entries[name] == TensorEntry(tensor.dtype, tuple(tensor.shape))
            got = file.read(name)
            assert got.dtype == tensor.dtype
            assert torch.equal(got, tensor)


def test_bin_gives_back_tied_and_transposed_tensors(tmp_path):
    path = tmp_path / "m.bin"
    a = torch.randn(4, 6)
    parameter = torch.nn.Parameter(torch.randn(3).double())
    torch.save({"a": a, "tied": a, "t": a.T, "half": a.half(), "p": parameter, "empty": torch.empty(0)}, path)
    with open_bin(path) as file:
        assert file.entries["t"].shape == (6, 4)
        assert torch.equal(file.read("tied"), a)
        assert torch.equal(file.read("t"), a.T)
        assert file.read("t").is_contiguous()
        assert torch.equal(file.read("half"), a.half())
        assert torch.equal(file.read("p"), parameter.detach())
        file.read("a").zero_()
        assert torch.equal(file.read("a"), a)  # what is handed out is a copy


def test_a_module_state_dict_with_metadata_is_plain(tmp_path):
    module = torch.nn.Linear(3, 2)
    torch.save(module.state_dict(), tmp_path / "m.bin")
    with open_bin(tmp_path / "m.bin") as file:
        assert torch.equal(file.read("weight"), module.weight.detach())


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_closed_and_unknown_names_are_refused(tmp_path, suffix):
    path = tmp_path / f"m.{suffix}"
    if suffix == "bin":
        torch.save({"a": torch.ones(2)}, path)
        file = open_bin(path)
    else:
        save_file({"a": torch.ones(2)}, path)
        file = open_safetensors(path)
    with pytest.raises(CheckpointError, match="no such tensor"):
        file.read("b")
    file.close()
    file.close()
    with pytest.raises(CheckpointError, match="open it again"):
        file.read("a")


def test_reading_after_the_file_was_cut_is_an_error(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.ones(2**18)}, path)
    with open_safetensors(path) as file:
        os.truncate(path, 5000)
        with pytest.raises(CheckpointError, match="the file was cut"):
            file.read("a")


@pytest.mark.parametrize("opener", [open_bin, open_safetensors])
def test_a_missing_file_is_named(tmp_path, opener):
    with pytest.raises(CheckpointError, match=r"nothing\.here"):
        opener(tmp_path / "nothing.here")


def test_old_torch_is_refused(tmp_path, monkeypatch):
    torch.save({"a": torch.ones(2)}, tmp_path / "m.bin")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(UnsafeCheckpointError, match=r"torch >= 2\.10"):
        open_bin(tmp_path / "m.bin")


@pytest.mark.parametrize(
    "value", [torch.ones(2), [torch.ones(2)], {"a": {"b": torch.ones(2)}}, {"a": 1}, {1: torch.ones(1)}]
)
def test_a_bin_that_is_no_flat_dict_of_tensors_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "m.bin")
    with pytest.raises(UnsafeCheckpointError, match="plain tensors"):
        open_bin(tmp_path / "m.bin")


READ_ONE = """
import sys
from pathlib import Path
from mambascope.spectra.tensor_files import open_safetensors
def peak_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
Path("/proc/self/clear_refs").write_text("5")  # a new peak begins; ru_maxrss would begin at the parent's peak
before = peak_kb()
assert open_safetensors(Path(sys.argv[1])).read("small").sum() == 0
print(peak_kb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_one_tensor_of_a_huge_file_costs_no_memory(tmp_path):
    path = tmp_path / "m.safetensors"
    header = json.dumps({
        "big": {"dtype": "F32", "shape": [2**31], "data_offsets": [0, 2**33]},
        "small": {"dtype": "F32", "shape": [4], "data_offsets": [2**33, 2**33 + 16]},
    }).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + 2**33 + 16)
    done = subprocess.run([sys.executable, "-c", READ_ONE, str(path)], capture_output=True, text=True, check=True)
    path.unlink()
    assert int(done.stdout) < 8 * 1024  # KB
