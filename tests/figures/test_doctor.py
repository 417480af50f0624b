"""Test ``mambascope doctor``: what it says of this machine, and of one with a GPU and no kernels."""

import json
import shlex
import shutil
import sys
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
def no_driver(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor, "_NODE", str(tmp_path / "nvidiactl"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv(kernels.SWITCH, raising=False)
    return tmp_path / "nvidiactl"


def test_the_last_line_without_a_gpu_is_what_the_table_says(no_driver, monkeypatch):
    found = doctor.examine()
    assert {row["engine"] for row in found["engines"]} == {"compiled", "blocked"}
    (line,) = found["advice"]
    assert line.startswith("no GPU: compiled CPU loops and plain torch run everything")

    def without_numba(*_, **__):
        return choice.Engine("blocked", "numba cannot be imported", "pip install --force-reinstall numba")

    monkeypatch.setattr("mambascope.spectra.scan.choose", without_numba)
    _, install, line = doctor.examine()["advice"]
    assert install == f"{shlex.quote(sys.executable)} -m pip install --force-reinstall numba"
    assert line.startswith("no GPU: plain torch runs everything")


def test_switched_off_is_said_without_a_gpu_too(no_driver, monkeypatch):
    monkeypatch.setenv(kernels.SWITCH, "off")
    found = doctor.examine()
    assert {row["engine"] for row in found["engines"]} == {"blocked"}
    assert found["advice"] == ["MAMBASCOPE_KERNELS=off: plain torch runs everything, on every device"]


def test_a_driver_without_a_torch_for_it_gets_the_install_line(no_driver, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(sys, "executable", "/with space/bin/python")
    no_driver.touch()
    reason, install, end = doctor.examine()["advice"]
    assert f"{no_driver}), but torch {torch.__version__} was built without CUDA" in reason
    first, _, second = install.partition(" && ")
    assert shlex.split(first) == ["/with space/bin/python", "-m", "pip", "uninstall", "--yes", "torch"]
    assert shlex.split(second) == ["/with space/bin/python", "-m", "pip", "install", "torch"]
    assert end.startswith("torch sees no GPU")
    no_driver.unlink()
    monkeypatch.setattr(shutil, "which", {"nvidia-smi": "/usr/bin/nvidia-smi"}.get)
    assert "/usr/bin/nvidia-smi" in doctor.examine()["advice"][0]
    monkeypatch.setattr(torch.version, "cuda", "13.0")  # built for CUDA: nothing to install
    reason, end = doctor.examine()["advice"]
    assert "sees no GPU: check nvidia-smi" in reason


@pytest.fixture
def kernels_there():
    """Names of kernels that can be imported."""
    return set()


@pytest.fixture
def gpu_without_kernels(monkeypatch, kernels_there):
    about = types.SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30, major=9, minor=0)

    def find(name):
        there = name in kernels_there
        return kernels.Kernel(
            name,
            kernels._MODULES[name],
            find if there else None,
            "2.3.2" if there else "",
            "" if there else "No module of that name",
            kernels._INSTALL[kernels._PACKAGES[name]],
        )

    monkeypatch.delenv(kernels.SWITCH, raising=False)
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
    assert f"{sys.executable} -m pip install --no-build-isolation mamba-ssm" in plain["install"]
    assert "gradients" in rows["mamba2", "float32", True]["why"]
    assert plain["install"] in found["advice"]
    for install in [e["install"] for e in found["engines"]] + found["advice"][1:]:  # none for another environment
        assert install is None or install.count("pip install") == install.count(f"{sys.executable} -m pip install")
    assert not any("blocks under" in line for line in found["advice"])


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    device = torch.device("cuda:0")


def test_a_gpu_with_kernels_is_told_which_blocks_they_do_not_run(gpu_without_kernels, kernels_there):
    kernels_there |= set(kernels.NAMES)
    (line,) = doctor.examine()["advice"]
    shortest = int(line.split("blocks under ")[1].split()[0])
    for length, name in ((shortest - 1, "blocked"), (shortest, "official")):
        x, B = torch.empty(1, length, 24, 64).as_subclass(OnGpu), torch.empty(1, length, 1, 128)
        assert choice.engine_of("mamba2", x, B, [x, B]).name == name


def test_a_wrong_switch_is_refused(gpu_without_kernels, monkeypatch, capsys):
    monkeypatch.setenv(kernels.SWITCH, "yes")
    assert main(["doctor"]) == 3
    assert "expected auto (default) or off" in capsys.readouterr().err
