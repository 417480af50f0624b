"""Test ``mambascope norms --protocol table1`` from a checkpoint in the state-spaces layout to the printed row."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mambascope.figures.cli import main
from mambascope.spectra.loading import load
from mambascope.spectra.tokens import byte_level_tokenizer, tokenizer_encoder

_spec = importlib.util.spec_from_file_location("shapes", Path(__file__).parents[1] / "spectra/shapes.py")
shapes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(shapes)

SHARED = Path(__file__).parents[3] / "shared"
WORDS = "Whan that Aprille with his shoures sote the droghte of Marche hath perced to the rote, "


def merging_tokenizer():
    """Return the bytes of a tokenizer that is not one of bytes alone."""
    document = json.loads(byte_level_tokenizer())
    document["model"]["vocab"]["th"] = 300
    document["model"]["merges"] = [["t", "h"]]
    return json.dumps(document).encode()


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "canterbury.json"
    path.write_text(json.dumps(WORDS * 40))
    return path


def printed(capsys, *words):
    code = main([str(word) for word in words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def in_the_hub_cache(tmp_path, monkeypatch):
    """Lay a small checkpoint where the hub keeps state-spaces/mamba2-1.3b, and the tokenizer where it keeps that."""
    hub = pytest.importorskip("huggingface_hub")
    snapshot = tmp_path / "models--state-spaces--mamba2-1.3b" / "snapshots" / "abc"
    shapes.write_shape("small", snapshot, vocab_size=400)
    asked = []

    def fetch(repository, name):
        asked.append((repository, name))
        (tmp_path / name).write_bytes(merging_tokenizer())
        return str(tmp_path / name)

    def cached(repository, name):
        return str(tmp_path / name) if (tmp_path / name).exists() else None

    monkeypatch.setattr(hub, "snapshot_download", lambda name, allow_patterns: snapshot)
    monkeypatch.setattr(hub, "hf_hub_download", fetch)
    monkeypatch.setattr(hub, "try_to_load_from_cache", cached)
    return asked


def test_a_hub_id_and_a_text_are_enough(tmp_path, monkeypatch, capsys, text):
    pytest.importorskip("tokenizers")
    asked = in_the_hub_cache(tmp_path, monkeypatch)
    words = ["norms", "state-spaces/mamba2-1.3b", "--protocol", "table1", "--text", text, "-o", tmp_path / "run"]
    code, out, err = printed(capsys, *words, "--json")
    assert code == 0, err
    assert asked == [("EleutherAI/gpt-neox-20b", "tokenizer.json")]
    (first, second) = json.loads(out)["rows"]
    assert (first["length_tokens"], second["length_tokens"]) == (1024, 2048)
    assert (first["paper_max"], second["paper_min"], first["same_tokens"]) == (158.7656, 0.0014, False)

    # the definition, from the final states of a run of its own
    ids = tokenizer_encoder(merging_tokenizer(), "t")((WORDS * 40).encode(), "t")
    model = load(tmp_path / "models--state-spaces--mamba2-1.3b/snapshots/abc")
    (*_, block) = model.stream(ids[None, :2048], block_length=700)
    pairs = [
        (float(n.max()), float(n.min()))
        for layer in block.state.layers
        for n in (layer.ssm.norm(dim=-1), layer.conv.norm(dim=1))
    ]
    widest = max(pairs, key=lambda pair: pair[0] - pair[1])
    assert (second["max"], second["min"]) == pytest.approx(widest, rel=1e-4)
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert "tokenizer" in json.dumps(manifest["inputs"])

    code, out, _ = printed(capsys, *words[:-2])
    assert code == 0
    assert "158.7656" in out
    assert "not comparable" in " ".join(out.split())
    assert len(asked) == 1  # the second time it is in the cache


def test_ready_made_ids_ask_the_hub_for_no_tokenizer(tmp_path, monkeypatch, capsys):
    asked = in_the_hub_cache(tmp_path, monkeypatch)
    np.save(tmp_path / "ids.npy", np.arange(1100) % 300)
    words = ["norms", "state-spaces/mamba2-1.3b", "--protocol", "table1", "--text", tmp_path / "ids.npy", "--json"]
    assert printed(capsys, *words)[0] == 0
    assert not asked


def test_a_missing_extra_is_named_with_its_line(tmp_path, monkeypatch, capsys, text):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "huggingface_hub" else find(name))
    code, _, err = printed(capsys, "norms", "state-spaces/mamba2-1.3b", "--protocol", "table1", "--text", text)
    assert code == 3
    assert 'pip install "mambascope[hub]"' in err
    snapshot = tmp_path / "models--state-spaces--mamba2-1.3b" / "snapshots" / "abc"
    shapes.write_shape("small", snapshot, vocab_size=400)
    code, _, err = printed(capsys, "norms", snapshot, "--protocol", "table1", "--text", text)
    assert code == 3
    assert 'pip install "mambascope[hub]", or give --tokenizer FILE' in err


def test_a_folder_without_tokenizer_says_how_to_get_it(tmp_path, capsys, text):
    shapes.write_shape("small", tmp_path / "mine", vocab_size=400)
    code, _, err = printed(capsys, "norms", tmp_path / "mine", "--protocol", "table1", "--text", text)
    assert code == 3
    assert f"hf download EleutherAI/gpt-neox-20b tokenizer.json --local-dir {tmp_path / 'mine'}" in err


@pytest.mark.skipif(not SHARED.exists(), reason="needs the paper's text and the tokenizer of the real checkpoints")
def test_the_papers_text_is_known_for_what_it_is(tmp_path, capsys):
    pytest.importorskip("tokenizers")
    folder = shapes.write_shape(
        "small", tmp_path / "mine", n_layer=1, d_model=16, ssm_cfg={"layer": "Mamba2", "headdim": 16}
    )
    words = ["norms", folder, "--text", SHARED / "data/table1/canterbury_tales.json", "--protocol", "table1"]
    tokenizer = ["--tokenizer", SHARED / "tokenizers/gpt-neox-20b/tokenizer.json"]
    code, out, err = printed(capsys, *words, *tokenizer, "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [row["length_tokens"] for row in rows] == [2**k for k in range(10, 17)]
    assert all(row["same_tokens"] for row in rows)
    assert "not comparable: the model has another shape" in json.loads(out)["comparison"]
    assert torch.tensor([row["max"] for row in rows]).isfinite().all()
