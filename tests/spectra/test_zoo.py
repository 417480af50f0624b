"""Test ``mambascope.spectra.zoo``: what is bundled is what the MANIFEST says, and shows what the paper is about."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.evaluate.perplexity import fresh_window_bits, rows_by_length, token_bits
from mambascope.analysis.passkey.answers import forced_solved
from mambascope.analysis.passkey.task import PasskeyTask
from mambascope.analysis.recipe import read_recipe
from mambascope.spectra.checkpoint import bundled_models, open_checkpoint
from mambascope.spectra.layouts import expected_tensors
from mambascope.spectra.loading import load, read_card
from mambascope.spectra.tokens import encode_bytes
from mambascope.spectra.zoo import CORPORA, FOLDER, text_files

MANIFEST = json.loads((FOLDER / "MANIFEST.json").read_text())
NAMES = ["mamba-tiny", "mamba2-recall", "mamba2-tiny", "mamba2-tiny-usual"]
SHARED = Path(__file__).parents[3] / "shared" / "data"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_models_are_those_of_the_manifest():
    assert sorted(MANIFEST["models"]) == bundled_models() == NAMES
    for name, entry in MANIFEST["models"].items():
        weights = FOLDER / name / "model.safetensors"
        assert sha256(weights) == entry["sha256"]
        assert weights.stat().st_size <= 4_000_000
        recipe, card = read_recipe(name), read_card(FOLDER / name)
        assert expected_tensors(recipe.config()) == expected_tensors(open_checkpoint(name).config)
        assert (sum(s.steps for s in recipe.stages()), recipe.train_length) == (entry["steps"], card.train_length)
        assert entry["tokens_seen"] == recipe.tokens_seen()
        assert recipe.why


def test_the_control_differs_from_its_model_in_the_rates_alone():
    usual, tiny = read_recipe("mamba2-tiny-usual").to_dict(), read_recipe("mamba2-tiny").to_dict()
    assert {k for k in tiny if tiny[k] != usual[k]} == {"name", "A_init", "why"}


def test_texts_are_those_of_the_manifest_and_disjoint():
    parts = [(split, corpus) for corpus in CORPORA for split in ("calibration", "validation", "test")]
    found = {str(p.relative_to(FOLDER)): p for part in parts for p in text_files(*part)}
    assert sorted(found) == sorted(entry["file"] for entry in MANIFEST["texts"])
    assert sum(path.stat().st_size for path in found.values()) <= 3_500_000
    for entry in MANIFEST["texts"]:
        assert sha256(found[entry["file"]]) == entry["sha256"]
        found[entry["file"]].read_bytes().decode("utf-8")
        assert "public domain" in entry["licence"]
    documents = [entry["document_sha256"] for entry in MANIFEST["texts"]]
    assert len(set(documents)) == len(documents)  # no two parts share a document
    assert not set(documents) & {entry["sha256"] for entry in MANIFEST["training_texts"]}
    assert all(len(text_files("test", corpus)) >= 8 for corpus in CORPORA)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared training texts")
def test_the_training_texts_are_those_of_the_manifest():
    for entry in MANIFEST["training_texts"]:
        assert sha256(SHARED / "books" / "train" / entry["file"]) == entry["sha256"]


@pytest.mark.parametrize(
    ("name", "breaks"), [("mamba2-tiny", True), ("mamba-tiny", True), ("mamba2-tiny-usual", False)]
)
def test_beyond_the_training_length(name, breaks):
    """Two validation books, 8,192 bytes of each: 32 times the training length."""
    model = load(name)
    ids = np.stack([np.frombuffer(path.read_bytes(), np.uint8)[:8192] for path in text_files("validation")[:2]])
    bits, control = token_bits(model, ids), fresh_window_bits(model, ids, 256)
    (row,) = rows_by_length("none", bits, [8192], control)
    assert (row.harm > 0.5) is breaks
    assert breaks or abs(row.harm) < 0.02
    assert control[:, 256:].mean() < 2.2


def test_the_recall_model_finds_the_keys_that_the_manifest_counts():
    """Ten of the hundred test keys of each cell inside the training length, and one cell beyond, where it fails."""
    model, entry = load("mamba2-recall"), MANIFEST["models"]["mamba2-recall"]["passkey_solved_of_100"]
    task = PasskeyTask.of_texts([path.read_bytes() for path in text_files("test")], encode_bytes)
    assert all(min(entry["by_length"][str(n)]) >= 95 for n in (256, 512))
    for length, depth, low, high in [(512, 0.0, 8, 10), (512, 0.5, 9, 10), (256, 1.0, 9, 10), (2048, 0.0, 0, 1)]:
        found = forced_solved(model, task.examples(task.context_for(length), depth, 10)).sum()
        assert low <= found <= high
        assert abs(found * 10 - entry["by_length"][str(length)][entry["depths"].index(depth)]) <= 20


@pytest.mark.soak
@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared training texts")
@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_takes_the_first_steps_again(name, tmp_path):
    from mambascope.analysis.train import train
    from mambascope.spectra.model import Model

    recipe = read_recipe(name)
    paths = sorted((SHARED / "books" / "train").glob("*.txt"))
    corpus = [np.frombuffer(path.read_bytes(), np.uint8) for path in paths]
    steps = train(Model(recipe.config()), recipe, corpus, tmp_path)
    step, bits = MANIFEST["models"][name]["training_bits_per_byte"][0]
    assert np.mean([next(steps).bits for _ in range(step)]) == pytest.approx(
        bits, abs=2e-3
    )  # other CPUs round elsewhere
