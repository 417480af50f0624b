"""Promise 1: no file that mambascope reads can run code. Every file, every payload, by the command that reads it."""

import ast
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mambascope.analysis.engine_each import Failure
from mambascope.analysis.sweep_store import SweepStore
from mambascope.spectra.checkpoint import Checkpoint, save_checkpoint
from mambascope.spectra.scales import scaling
from tests.attacks.commands import told
from tests.spectra.tiny import save_tiny

ROOT = Path(__file__).parents[2]
STARTS = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pickle.find_class"}
"""What the interpreter reports when a process is started or a pickle names a function."""
_seen: list[str] | None = None
_opened: set[str] = set()


def _hook(event, arguments):
    if _seen is not None and event == "open":
        _opened.add(str(arguments[0]))
    if _seen is not None and (event in STARTS or (event in {"open", "os.mkdir"} and "canary" in str(arguments[0]))):
        _seen.append(f"{event} {arguments}")


sys.addaudithook(_hook)  # it cannot be taken away again, so it looks only while a test asks it to


class Runs:
    def __init__(self, call, argument):
        self.call, self.argument = call, argument

    def __reduce__(self):
        return self.call, (self.argument,)


def payloads(canary, protocols):
    """Bytes that make the canary if anything in them is run."""
    command, code = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    calls = {"os.system": (os.system, command), "exec": (exec, code), "eval": (eval, code), "mkdir": (os.mkdir, canary)}
    for name, call in calls.items():
        for protocol in protocols:
            yield f"pickle of {name}, protocol {protocol}", pickle.dumps(Runs(*call), protocol)
    hostile = Runs(os.system, command)
    for name, write in {
        "torch.save": lambda file: torch.save({"a": hostile}, file),
        "old torch.save": lambda file: torch.save({"a": hostile}, file, _use_new_zipfile_serialization=False),
        "npy": lambda file: np.save(file, np.array([hostile], dtype=object), allow_pickle=True),
        "npz": lambda file: np.savez(file, a=np.array([hostile], dtype=object)),
    }.items():
        file = io.BytesIO()
        write(file)
        yield name, file.getvalue()
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': __import__('os').system({command!r})}}\n".encode()
    yield "npy whose header is code", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    yield "Python", f"import os\nos.system({command!r})\n".encode()
    yield "shell", f"#!/bin/sh\n{command}\n".encode()
    yield "YAML", f"!!python/object/apply:os.system [{command!r}]\n".encode()
    reduced = {
        "py/reduce": [{"py/function": "os.system"}, {"py/tuple": [command]}],
        "__reduce__": ["os.system", command],
    }
    yield "JSON", json.dumps(reduced).encode()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Every kind of file that is read, each in order."""
    base = tmp_path_factory.mktemp("whole")
    model = save_tiny(base / "model", "mamba2")
    with Checkpoint.open(model) as opened:
        save_checkpoint(base / "bin", opened.config, opened.state_dict(), "state-spaces")
        names = list(opened.stored)
    shutil.copytree(model, base / "shards")
    (base / "shards/model.safetensors").rename(base / "shards/model-1.safetensors")
    names = [name.replace("embedding.", "embeddings.") for name in names]
    index = {"weight_map": dict.fromkeys(names, "model-1.safetensors")}
    (base / "shards/model.safetensors.index.json").write_text(json.dumps(index))
    for role in ("text", "calibration", "validation"):
        (base / f"{role}.txt").write_text(f"A {role} in which nothing much happens, and then again nothing. " * 4)
    (base / "text.json").write_text(json.dumps("A text that is one string. " * 4))
    np.save(base / "ids.npy", np.arange(100) % 200)
    (base / "ids.jsonl").write_text("[1, 2, 3, 4, 5, 6, 7, 8]\n")
    np.save(base / "steps.npy", np.full(9, 0.1))
    scaling("a", 2.0).save(base / "scales.json")
    recipe = {
        "name": "small",
        "arch": "mamba2",
        "why": "test",
        "A_init": {"law": "log_uniform", "low": 0.1, "high": 1.0},
    }
    recipe |= {"d_model": 16, "n_layer": 1, "d_state": 4, "headdim": 8, "train_length": 16, "batch": 1, "steps": 2}
    (base / "recipe.json").write_text(json.dumps(recipe))
    for role in ("calibration", "validation", "test"):
        (base / "data/own" / role).mkdir(parents=True)
        (base / f"data/own/{role}/text.txt").write_text(f"A {role} in which nothing much happens either. " * 4)
    plan = 'models = ["model"]\nlengths = [16]\nmethods = ["none", "full-finetuning"]\ncorpora = ["own"]\n'
    (base / "plan.toml").write_text(plan + 'data = "data"\n[fit]\nlength = 32\nsteps = 1\n')
    for words in {tuple(words) for words in READ_BY.values() if "-o" in words and "--list" not in words}:
        assert told(*located(base, words)).code == 0, words
    tuned = next(path for path in (base / "swept/cells").iterdir() if '"full-finetuning"' in path.read_text())
    with SweepStore.open(base / "swept") as store:  # as if it had failed once: its fit is read when it is tried again
        store.put_failure(json.loads(tuned.read_text())["facts"], Failure("OSError", "no reason", 5), 1)
    tuned.unlink()
    return base


NORMS = ["--lengths", "8"]
EVALUATE = ["evaluate", "model/", "--text", "text.txt", "--lengths", "8", "--methods", "none", "-o", "evaluation/"]
CALIBRATE = ["calibrate", "model/", "--target-length", "32", "--steps", "1", "--batch", "1", "--selection-windows", "1"]
CALIBRATE += ["--start", "ones", "--text", "text.txt", "--calibration", "calibration.txt"]
CALIBRATE += ["--validation", "validation.txt", "-o", "calibrated/"]
TRAIN = ["train", "recipe.json", "--data", "text.txt", "-o", "trained/"]
SWEEP = ["sweep", "plan.toml", "--jobs", "1", "-o", "swept/"]
READ_BY = {
    "model/config.json": ["spectrum", "model/"],
    "model/model.safetensors": ["spectrum", "model/"],
    "model/mambascope.json": ["spectrum", "model/"],
    "model/tokenizer.json": ["norms", "model/", "--text", "text.txt", *NORMS],
    "bin/pytorch_model.bin": ["spectrum", "bin/"],
    "shards/model.safetensors.index.json": ["spectrum", "shards/"],
    "shards/model-1.safetensors": ["spectrum", "shards/"],
    "text.txt": ["norms", "model/", "--text", "text.txt", *NORMS],
    "text.json": ["norms", "model/", "--text", "text.json", *NORMS],
    "ids.npy": ["norms", "model/", "--text", "ids.npy", *NORMS],
    "ids.jsonl": ["norms", "model/", "--text", "ids.jsonl", *NORMS],
    "steps.npy": ["simulate", "--steps", "trace:steps.npy", "--trials", "8", "--times", "4"],
    "scales.json": [
        "evaluate",
        "model/",
        "--text",
        "text.txt",
        "--scales",
        "scales.json",
        *NORMS,
        "--methods",
        "scales",
    ],
    "recipe.json": ["train", "recipe.json", "--data", "text.txt", "-o", "trained/"],
    "evaluation/manifest.json": EVALUATE,
    "evaluation/journal.jsonl": EVALUATE,
    "evaluation/data/sums/none/0.safetensors": EVALUATE,
    "calibrated/calibration.safetensors": CALIBRATE,
    "trained/training.safetensors": TRAIN,
    "plan.toml": SWEEP,
    "swept/cells/*.json": SWEEP,
    "swept/fits/*.json": SWEEP,
    "swept/fits/*.safetensors": SWEEP,
    "swept/failed/*.json": ["sweep", "plan.toml", "--list", "-o", "swept/"],
}
"""Each file, and the command that reads it."""


def located(base, words):
    """Put the folder before every word that is a file below it."""
    return [
        f"trace:{base}/steps.npy" if word.startswith("trace:") else base / word if "/" in word or "." in word else word
        for word in words
    ]


FEW = ("pickle of os.system, protocol 2", "torch.save", "npy", "npy whose header is code", "JSON")


@pytest.mark.parametrize("chosen", [FEW, pytest.param((), marks=pytest.mark.soak)], ids=["few", "all"])
@pytest.mark.timeout(1800)
def test_no_payload_in_any_file_is_run(whole, tmp_path, chosen):
    global _seen
    canary, tried = tmp_path / "canary", 0
    kept = shutil.copytree(whole, tmp_path / "kept")
    for place, words in READ_BY.items():
        for name, data in payloads(canary, range(6)):
            if chosen and name not in chosen:
                continue
            (attacked,) = whole.glob(place)  # where it was made: a run that was moved is another one, and goes unread
            attacked.write_bytes(data)
            _opened.clear()
            try:
                _seen = []
                found = told(*located(whole, words))
                happened = _seen
            finally:
                _seen = None
                shutil.rmtree(whole)
                shutil.copytree(kept, whole)
            assert found.code in {0, 3}, (place, name, found)  # 0: a text may say what it likes
            assert not happened, (place, name, happened)
            assert not canary.exists(), (place, name)
            assert attacked.suffix == ".safetensors" or str(attacked) in _opened, (place, found)  # it was looked at
            assert "a different run" not in found.err, (place, found)
            tried += 1
    print(f"{tried} hostile files, 0 executed")
    assert tried == len(READ_BY) * (len(chosen) or 33)


def test_the_payloads_would_run_where_they_are_trusted(tmp_path):
    """Negative control: the same bytes make the canary in a reader that trusts them."""
    global _seen
    canary = tmp_path / "canary"
    for name, data in payloads(canary, (0, 5)):
        if name.startswith("pickle"):
            try:
                _seen = []
                pickle.loads(data)
                happened = _seen
            finally:
                _seen = None
            assert happened, name
            assert canary.exists(), name
            canary.rmdir() if canary.is_dir() else canary.unlink()


def test_code_that_lies_beside_a_model_is_not_looked_at(whole, tmp_path):
    """Files that transformers would run for ``auto_map``, and modules with the names of those that are imported."""
    base, canary = shutil.copytree(whole, tmp_path / "there"), tmp_path / "canary"
    for folder in (base, base / "model"):
        for name in (
            "configuration_mamba2",
            "modeling_mamba2",
            "tokenization",
            "torch",
            "numpy",
            "analysis",
            "figures",
        ):
            (folder / f"{name}.py").write_text(f"open({str(canary)!r}, 'w')\n")
    config = json.loads((base / "model/config.json").read_text()) | {"trust_remote_code": True}
    (base / "model/config.json").write_text(json.dumps(config))
    assert told("spectrum", base / "model").code == 0
    beside = {"auto_map": {"AutoModelForCausalLM": "modeling_mamba2.Mamba2ForCausalLM"}}
    (base / "model/tokenizer_config.json").write_text(json.dumps(beside | {"tokenizer_class": "Evil"}))
    assert told("norms", base / "model", "--text", base / "text.txt", *NORMS).code == 0
    (base / "model/config.json").write_text(json.dumps(config | beside))
    assert told("spectrum", base / "model").code == 3
    program = Path(sys.executable).with_name("mambascope")
    done = subprocess.run([program, "models", "--json"], cwd=base, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not canary.exists()


DANGEROUS = {
    "eval",
    "exec",
    "compile",
    "os.system",
    "pickle.load",
    "pickle.loads",
    "torch.load",
    "numpy.load",
    "np.load",
}
DANGEROUS |= {"joblib.load", "marshal.loads", "marshal.load", "shelve.open", "yaml.load", "subprocess.run"}
DANGEROUS |= {"subprocess.Popen", "os.popen", "runpy.run_path"}
ALLOWED = {
    ("spectra/torch_bin.py", "torch.load", "weights_only=True"),
    ("spectra/tokens.py", "np.load", "allow_pickle=False"),
    ("figures/laws.py", "np.load", "allow_pickle=False"),
    ("analysis/engine.py", "pickle.loads", "pickle.dumps(problem)"),  # an error of ours, made again from itself
}


def test_no_other_call_could_run_a_file():
    """Every call by which Python or a library could run what a file says; the few there are say how they do not."""
    found = set()
    for path in sorted(p for top in ("spectra", "simulate", "analysis", "figures") for p in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in DANGEROUS:
                words = [*map(ast.unparse, node.args), *(f"{k.arg}={ast.unparse(k.value)}" for k in node.keywords)]
                place = path.relative_to(ROOT).as_posix()
                allowed = next((a for a in ALLOWED if a[:2] == (place, name) and a[2] in words), None)
                found.add(allowed or (place, name, ", ".join(words)))
    assert found == ALLOWED
