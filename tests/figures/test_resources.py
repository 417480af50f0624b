"""Test ``mambascope.figures.resources``: every command that runs a model tells what it takes, and refuses in time."""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mambascope.figures.arguments import memory
from mambascope.figures.cli import main
from mambascope.figures.sources import Source
from mambascope.spectra.zoo import text_files

_spec = importlib.util.spec_from_file_location("shapes", Path(__file__).parents[1] / "spectra/shapes.py")
shapes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(shapes)

COMMANDS = {
    "spectrum": ["spectrum", "mamba2-tiny", "--text", text_files("test")[0]],
    "norms": ["norms", "mamba2-tiny", "--lengths", "1k"],
    "diagnose": ["diagnose", "mamba2-tiny", "--target-length", "1k"],
    "propose": ["propose", "mamba2-tiny", "--target-length", "1k"],
    "calibrate": ["calibrate", "mamba2-tiny", "--method", "backprop", "--start", "ones", "--target-length", "512"],
    "evaluate": ["evaluate", "mamba2-tiny", "--lengths", "512", "--methods", "none,spectrum,decimamba,fresh-window"],
    "passkey": ["evaluate", "mamba2-recall", "--task", "passkey", "--lengths", "512", "--methods", "none,passkey:full"],
    "compare": ["compare", "mamba2-tiny", "mamba2-recall", "--methods", "all", "--lengths", "4T", "--jobs", "2"],
    "forecast": ["forecast", "mamba2-tiny", "--target-length", "1k", "--check", "--open-loop"],
    "starts": ["starts", "mamba2-tiny", "--target-length", "512", "--seeds", "1"],
    "report": ["report", "mamba2-tiny", "mamba2-tiny-usual", "--target-length", "1k"],
}


def run(capsys, *words):
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_dry_run_tells_time_and_memory_and_writes_nothing(capsys, tmp_path, name):
    words = [*COMMANDS[name], "-o", tmp_path / "run", "--dry-run"]
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert "nothing was run or written" in out
    assert "about" in out
    assert "tokens" in out
    assert "memory: about" in out
    assert not (tmp_path / "run").exists()
    code, out, err = run(capsys, *words, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["dry_run"] is True
    assert all(model["tokens"] > 500 and model["seconds"] > 0 for model in found["models"])
    assert found["memory"]["peak_bytes"] > found["memory"]["parts"]["weights"] > 1e6
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_what_cannot_fit_is_refused_in_one_line_before_a_weight_is_read(capsys, tmp_path, monkeypatch, name):
    def load(*_):
        raise AssertionError("weights were read")

    monkeypatch.setattr(Source, "load", load)
    code, out, err = run(capsys, *COMMANDS[name], "-o", tmp_path / "run", "--max-memory", "50M")
    told = [line for line in err.splitlines() if line.startswith("mambascope: ")]
    assert code == 5, err
    assert not out
    assert len(told) == 1
    assert "needs about" in told[0]
    assert "left of 50 MB (--max-memory)" in told[0]
    assert "--dtype bfloat16" in told[0]
    assert not (tmp_path / "run").exists()


def test_a_prompt_that_must_be_seen_whole_is_what_a_refusal_names(capsys):
    words = ["evaluate", "mamba2-tiny", "--lengths", "16k", "--methods", "none,decimamba", "--max-memory", "600M"]
    code, _, err = run(capsys, *words)
    assert code == 5
    assert "a prompt of 16,384 tokens" in err
    assert "leave out decimamba" in err


def test_a_run_says_what_it_takes_and_keeps_stdout_for_its_result(capsys):
    code, out, err = run(capsys, "norms", "mamba2-tiny", "--lengths", "512", "--json", "--max-memory", "8G")
    assert code == 0
    assert len(json.loads(out)["rows"]) == 4
    assert "norms mamba2-tiny: about 1 s for 4,096 tokens" in err
    assert "memory: about" in err
    assert "left of 8.0 GB" in err


def test_the_static_spectrum_runs_no_model_and_says_nothing(capsys):
    code, _, err = run(capsys, "spectrum", "mamba2-tiny")
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("text", "size"), [("4G", 4e9), ("512M", 5.12e8), ("1.5g", 1.5e9), ("2Gi", 2**31), ("16 GB", 1.6e10), ("1T", 1e12)]
)
def test_amounts_of_memory(text, size):
    assert memory(text) == size


@pytest.mark.parametrize("text", ["", "4", "G", "-1G", "0G", "1e9", "four gigabytes", "1.2345G"])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(argparse.ArgumentTypeError, match="write 4G or 512M"):
        memory(text)


PEAK = """
import contextlib, io, json, sys
from mambascope.analysis.resource_limits import held_bytes
from mambascope.figures import resources as told
from mambascope.figures.cli import main

begun, needs = [], []

def check(need, limit):
    open("/proc/self/clear_refs", "w").write("5")  # a new peak begins
    begun.append(held_bytes())
    needs.append(need.peak_bytes)

told.check_need = check
with contextlib.redirect_stdout(io.StringIO()):
    assert main(sys.argv[1:]) == 0
# of the peak, less the pages of files: the mapped weights, from before the first block to the end
print(json.dumps([needs[0], held_bytes("VmHWM") - held_bytes("RssFile") - begun[0]]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from /proc")
@pytest.mark.parametrize(
    ("width", "ssm_cfg", "words"),
    [
        (384, {"layer": "Mamba2"}, ["norms", "--lengths", "4k", "--threads", "1"]),
        (256, {}, ["norms", "--lengths", "4k", "--threads", "2"]),  # small enough for two threads to share the layers
        (384, {}, ["evaluate", "--lengths", "1k", "--methods", "none,longmamba:bound", "--threads", "1"]),
    ],
    ids=["norms-mamba2", "norms-mamba-in-threads", "evaluate-mamba"],
)
def test_the_peak_of_a_run_is_about_what_was_told(tmp_path, width, ssm_cfg, words):
    """With the vocabulary of the published models, whose logits and embedding outweigh a layer."""
    folder = shapes.write_shape("small", tmp_path / "m", d_model=width, n_layer=6, ssm_cfg=ssm_cfg)
    rng = np.random.default_rng(0)
    for name in ("text", "calibration", "validation"):
        np.save(tmp_path / f"{name}.npy", rng.integers(0, 50_000, 4096))
    command, *rest = words
    texts = ["--text", tmp_path / "text.npy", "--train-length", "128", "--device", "cpu"]
    if command == "evaluate":
        texts += ["--calibration", tmp_path / "calibration.npy", "--validation", tmp_path / "validation.npy"]
    line = [sys.executable, "-c", PEAK, command, folder, *rest, *texts]
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    predicted, found = json.loads(done.stdout)
    print(f"{command}: {predicted / 1e6:.0f} MB told, {found / 1e6:.0f} MB measured")
    assert 0.75 < predicted / found < 1.6


def test_a_dry_run_of_the_static_spectrum_says_that_no_model_is_run(capsys):
    code, out, _ = run(capsys, "spectrum", "mamba2-tiny", "--dry-run")
    assert (code, "runs no model" in out) == (0, True)
    code, out, _ = run(capsys, "spectrum", "mamba2-tiny", "--dry-run", "--json")
    assert (code, json.loads(out)["dry_run"]) == (0, True)


def test_a_scan_in_plain_torch_is_told_with_its_reason(capsys):
    words = ["norms", "mamba2-tiny", "--lengths", "64"]
    code, _, err = run(capsys, *words, "--dtype", "float64")
    assert code == 0
    assert "scans run in plain torch; the compiled scan is for float32 states, not float64" in err
    assert "plain torch" not in run(capsys, *words)[2]
