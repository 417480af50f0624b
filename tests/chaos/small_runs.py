"""One small run of every command that keeps a run folder, for tests that break into it."""

import hashlib
import json

from mambascope.spectra.scales import scaling
from tests.spectra.tiny import save_tiny

AIM = ["--target-length", "64"]
VOLATILE = {"manifest.json", ".lock"}
"""Times and process numbers are there, and only there."""
STATES = {"calibration.safetensors", "training.safetensors"}
"""Replaced at every step, so that they differ until the end."""


def prepare(base):
    """Write a model, its texts, scales and a recipe, and return the words of every command."""
    model = save_tiny(base / "model", "mamba2")
    texts = {}
    for role in ("calibration", "validation", "test"):
        texts[role] = [base / f"{role}{k}.txt" for k in range(2)]
        for k, path in enumerate(texts[role]):
            path.write_text(f"{role} {k}: a text of which nothing is asked but that it is like no other. " * 5)
    scaling("a", 2.0).save(base / "scales.json")
    rates = {"law": "log_uniform", "low": 0.1, "high": 1.0}
    recipe = {"name": "small", "arch": "mamba2", "why": "test", "A_init": rates, "headdim": 8, "train_length": 16}
    recipe |= {"d_model": 16, "n_layer": 1, "d_state": 4, "batch": 1, "steps": 12}
    (base / "recipe.json").write_text(json.dumps(recipe))
    for role, paths in texts.items():  # the same texts as a corpus
        (base / "data/own" / role).mkdir(parents=True, exist_ok=True)
        for path in paths:
            (base / "data/own" / role / path.name).write_bytes(path.read_bytes())
    plan = f'models = ["{model}"]\nlengths = [16, 128]\nmethods = ["none", "constant:2", "heads"]\ndata = "data"\n'
    (base / "plan.toml").write_text(plan + 'corpora = ["own"]\n[fit]\nlength = "2T"\nsteps = 1\n')
    study = ["--calibration", *texts["calibration"], "--validation", *texts["validation"], "--text", *texts["test"]]
    few = ["--steps", "4", "--batch", "1", "--selection-windows", "1"]
    scored = ["--lengths", "16,128", "--batch", "1", "--methods"]
    corpus = ["--data", base / "data", "--corpora", "own", "--passkey-examples", "0", "--jobs", "1"]
    starts = ["--steps", "1", "--seeds", "1", "--batch", "1", "--layer-passes", "64", "--layer-batch", "1"]
    starts += ["--methods", "spsa", "--layer-methods", "spsa", "--layer-kinds", "a", "--jobs", "1"]
    return {
        "spectrum": ["spectrum", model, "--text", *texts["calibration"]],
        "norms": ["norms", model, "--text", *texts["test"], "--lengths", "16,64"],
        "diagnose": ["diagnose", model, "--text", *texts["calibration"], *AIM],
        "propose": ["propose", model, "--text", *texts["calibration"], *AIM],
        "forecast": ["forecast", model, "--text", *texts["calibration"], *AIM, "--windows", "4"],
        "calibrate": ["calibrate", model, *study, *AIM, *few, "--start", "ones"],
        "evaluate": ["evaluate", model, *study, *scored, "none,constant:2,spectrum,fresh-window"],
        "bake": ["bake", model, "--scales", base / "scales.json", "--check-tokens", "16"],
        "train": ["train", base / "recipe.json", "--data", *texts["calibration"]],
        "simulate": ["simulate", "--times", "4,64", "--trials", "9000", "--engine", "sequential"],
        "verify": ["verify", "eq-6", "--trials", "8192", "--engine", "sequential"],
        "report": ["report", model, *study, *AIM, "--no-theory", "--calibration-steps", "2"],
        "starts": ["starts", model, *study, "--target-length", "32", *starts, "--selection-windows", "1"],
        "compare": ["compare", model, *corpus, "--lengths", "16,128", "--methods", "none,constant:2,spectrum"],
        "sweep": ["sweep", base / "plan.toml", "--jobs", "1"],
    }


def hashes(folder):
    """Content of every file that must come out the same."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in VOLATILE]
    files = [path for path in files if not path.name.startswith("costs")]  # what clocks say
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lines(folder):
    """Whole lines of a run's journal."""
    path = folder / "journal.jsonl"
    return (
        [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")] if path.exists() else []
    )


def whole_so_far(folder, expected):
    """Hold a stopped run against a finished one: nothing in it is half, false, or left over."""
    found = hashes(folder)
    names = {name for name in found if "mambascope-tmp" not in name and name.rpartition("/")[2] not in STATES}
    on_its_way = {name for name in names if name.startswith(("work/", "failed/"))}  # of a sweep, until it is done
    on_its_way |= {name for name in names if name.rpartition("/")[2] == "journal.jsonl"}  # also of the runs in a run
    for name in names - on_its_way:
        assert found[name] == expected[name], name
    if (folder / "manifest.json").exists():
        json.loads((folder / "manifest.json").read_bytes())
