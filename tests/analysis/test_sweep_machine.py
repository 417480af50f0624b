"""Test ``mambascope.analysis.sweep_machine``: the software is in every address, and a worker with other is refused."""

import json
import re
from dataclasses import replace

import pytest
import torch

from mambascope.analysis import scan_engine
from mambascope.analysis import sweep_machine as module
from mambascope.analysis.scan_engine import engine, engine_words
from mambascope.analysis.sweep_cells import SweepCorpus, SweepJob, SweepModel
from mambascope.analysis.sweep_keys import SweepFacts, key_of
from mambascope.analysis.sweep_machine import OtherWorkerError, check_software, machine, software
from mambascope.analysis.sweep_run import SweepRun
from mambascope.analysis.sweep_store import SweepStore
from mambascope.analysis.sweep_work import find_cell
from mambascope.spectra.scan.kernels import Kernel
from tests.spectra.tiny import save_tiny

HERE = ("mamba2", "cpu", "float32")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    base = tmp_path_factory.mktemp("machine")
    model = SweepModel("m2", str(save_tiny(base / "m2", "mamba2")), 16, (16,), 32, None)
    (base / "test.txt").write_text("a text of which nothing is asked but that it is there. " * 4)
    corpus = SweepCorpus("books", (), (), (str(base / "test.txt"),))
    return SweepJob((model,), (corpus,), {"none": "none"}, "books")


def other_version(name):
    true = module.version_of.__wrapped__
    return lambda asked: "0.0.1" if asked == name else true(asked)


def test_an_address_names_the_engine_and_the_versions_that_decide():
    found = software(*HERE)
    assert found["engine"] == "compiled"
    assert found["versions"]["torch"] == torch.__version__
    assert set(found["versions"]) == {"mambascope", "torch", "numpy", "numba"}
    assert {"triton", "mamba-ssm", "causal-conv1d"} < set(software("mamba", "cuda", "float32")["versions"])
    assert software("mamba", "cpu", "float64")["engine"] == "blocked"


@pytest.mark.parametrize("what", ["engine", "mambascope", "torch", "numpy", "numba"])
def test_other_software_makes_other_cells_and_is_refused_by_a_worker(job, monkeypatch, what):
    facts = SweepFacts(job).cell(job.cells()[0])
    find_cell(job, job.cells()[0], facts, None, lambda _: None)
    if what == "engine":
        monkeypatch.setenv("MAMBASCOPE_KERNELS", "off")
        here, there = "engine blocked", "engine compiled"
    else:
        here, there = f"{what} 0.0.1", f"{what} {module.version_of(what)}"
        monkeypatch.setattr(module, "version_of", other_version(what))
    assert key_of(SweepFacts(job).cell(job.cells()[0])) != key_of(facts)
    with pytest.raises(OtherWorkerError, match=re.escape(f"has {here}, the sweep was planned with {there}; start")):
        find_cell(job, job.cells()[0], facts, None, lambda _: None)  # its model is open already


def test_equal_software_is_no_reason_to_refuse():
    check_software(software(*HERE) | {"what": "perplexity"}, *HERE)


def test_each_result_says_on_what_kind_of_machine_it_was_found(job, tmp_path):
    with SweepStore.open(tmp_path) as store:
        sweep = SweepRun(job, store)
        sweep.run()
        (path,) = (tmp_path / "cells").iterdir()
        stored = json.loads(path.read_text())
        assert stored["made_on"] == machine("cpu") == store.made_on(path.stem)
        assert key_of(stored["facts"]) == path.stem
    found = stored["made_on"]
    assert found["cpu"].endswith(f"({torch.backends.cpu.get_cpu_capability()})")
    assert found["cpu"][0] not in "( "
    assert found["gpu"] is None
    assert {"python", "torch", "safetensors"} < set(found["versions"])
    assert "cpu" not in stored["facts"]


def test_a_machine_without_the_gpu_tells_the_engine_from_its_packages(monkeypatch):
    """It puts tables together, or plans for a cluster."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    there = Kernel("chunk_scan", "m", print, "2", "", "")
    for function, name in ((print, "official"), (None, "blocked")):
        monkeypatch.setattr(scan_engine, "find", lambda _, function=function: replace(there, function=function))
        assert engine("mamba2", "cuda", "float32").name == name
    monkeypatch.setattr(scan_engine, "find", lambda _: there)
    assert engine("mamba2", "cuda:1", "float64").name == "blocked"
    monkeypatch.setenv("MAMBASCOPE_KERNELS", "off")
    assert engine("mamba2", "cuda", "float32").name == "blocked"


def test_engines_are_named_once_where_they_are_the_same(monkeypatch):
    assert engine_words(["mamba", "mamba2", "mamba"], "cpu", "float32") == str(engine(*HERE))
    monkeypatch.setattr(scan_engine, "engine", lambda arch, *_: arch.upper())
    assert engine_words(["mamba2", "mamba"], "cpu", "float32") == "mamba MAMBA, mamba2 MAMBA2"
