"""Test ``mambascope doctor``: what it says of this machine, and of one with a GPU and no kernels."""

import json
import types

import pytest
import torch

from mambascope.figures.cli import main
from mambascope.figures.commands import doctor
from mambascope.spectra.scan import choice, kernels


def test_json_names_versions_devices_and_an_engine_for_each(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["torch"] == torch.__version__
    assert found["packages"]["numpy"].startswith("2.")
    assert found["devices"][0]["device"] == "cpu"
    engines = {(e["device"], e["arch"], e["states"], e["gradient"]): e for e in found["engines"]}
    assert len(engines) == 6 * len(found["devices"])
    assert engines["cpu", "mamba", "float32", True]["engine"] == "compiled"
    assert engines["cpu", "mamba", "float64", False]["engine"] == "blocked"
    assert "not float64" in engines["cpu", "mamba", "float64", False]["why"]
    assert engines["cpu", "mamba2", "float32", True]["engine"] == "compiled"
    assert [k["module"] for k in found["kernels"]] == list(kernels._MODULES.values())
    for kernel in found["kernels"]:
        assert kernel["found"] != bool(kernel["why_not"])


def test_text_gives_equal_answers_on_one_line(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "float32, float32 with gradients" in out
    # each kind in float32 and in float64
    assert len([line for line in out.splitlines() if line.strip().startswith("cpu ")]) == 4


@pytest.fixture
def gpu_without_kernels(monkeypatch):
    about = types.SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30, major=9, minor=0)

    def find(name):
        return kernels.Kernel(
            name, kernels._MODULES[name], None, "", "No module of that name", kernels._INSTALL["mamba-ssm"]
        )

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: about)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(kernels, "find", find)
    monkeypatch.setattr(choice, "find", find)
    choice._choose_on_gpu.cache_clear()
    yield
    choice._choose_on_gpu.cache_clear()


def test_a_gpu_without_kernels_gets_the_reason_and_the_install_line(gpu_without_kernels):
    found = doctor.examine()
    assert found["devices"][1] == {"device": "cuda:0", "name": "NVIDIA H100", "memory_gib": 80.0, "capability": "9.0"}
    rows = {(e["arch"], e["states"], e["gradient"]): e for e in found["engines"] if e["device"] == "cuda:0"}
    plain = rows["mamba", "float32", False]
    assert plain["engine"] == "blocked"
    assert "selective_scan_cuda cannot be imported (No module of that name)" in plain["why"]
    assert "pip install --no-build-isolation mamba-ssm" in plain["install"]
    assert "gradients" in rows["mamba2", "float32", True]["why"]
    assert any("pip install --no-build-isolation mamba-ssm" in line for line in found["advice"])


def test_a_wrong_switch_is_refused(gpu_without_kernels, monkeypatch, capsys):
    monkeypatch.setenv(kernels.SWITCH, "yes")
    assert main(["doctor"]) == 3
    assert "expected auto (default) or off" in capsys.readouterr().err
