"""Promise 2: a broken checkpoint costs one typed error, by the file's own bytes and by the command that reads it."""

import io
import json
import random
import shutil
import zipfile
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file

from mambascope.spectra.checkpoint import Checkpoint, save_checkpoint
from mambascope.spectra.errors import CheckpointError
from tests.attacks.commands import refused, told
from tests.spectra.tiny import save_tiny, tiny_model

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
KINDS = {
    "safetensors": "model.safetensors",
    "bin": "pytorch_model.bin",
    "config": "config.json",
    "index": "model.safetensors.index.json",
    "shard": SHARDS[1],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same small model as safetensors, as .bin and in two shards."""
    base = tmp_path_factory.mktemp("whole")
    model = tiny_model("mamba2", d_model=8, d_inner=16, n_layer=1, d_state=4, ngroups=1, vocab_size=16)
    tensors = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    for layout in ("transformers", "state-spaces"):
        save_checkpoint(base / layout, model.config, tensors, layout)
    shutil.copytree(base / "transformers", base / "shards")
    stored = load_file(base / "shards/model.safetensors")
    (base / "shards/model.safetensors").unlink()
    weight_map = {name: SHARDS[k % 2] for k, name in enumerate(sorted(stored))}
    for shard in SHARDS:
        save_file({name: stored[name] for name in stored if weight_map[name] == shard}, base / "shards" / shard)
    (base / "shards/model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with Checkpoint.open(base / "shards") as opened:
        assert same(opened.state_dict(), tensors)
    return base, tensors


def same(got, want):
    return set(got) == set(want) and all(torch.equal(got[name], want[name]) for name in want)


def folder_of(base, kind):
    return base / {"bin": "state-spaces", "index": "shards", "shard": "shards"}.get(kind, "transformers")


def frame_of(raw, kind):
    """Positions of all bytes but the numbers themselves, for which no format has a sum."""
    if kind in {"safetensors", "shard"}:
        return range(8 + int.from_bytes(raw[:8], "little"))
    numbers = set()
    if kind == "bin":
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for info in (each for each in archive.infolist() if "/data/" in each.filename):
                lengths = raw[info.header_offset + 26 : info.header_offset + 30]
                begin = info.header_offset + 30 + sum(int.from_bytes(lengths[k : k + 2], "little") for k in (0, 2))
                numbers |= set(range(begin, begin + info.file_size))
    return [k for k in range(len(raw)) if k not in numbers]


def outcome(folder, tensors):
    """``refused``, or ``harmless`` where the very tensors come back; anything else is a failure."""
    try:
        with Checkpoint.open(folder) as opened:
            got = opened.state_dict()
    except CheckpointError as error:
        message = str(error)
    else:
        assert same(got, tensors)
        return "harmless"
    assert str(folder) in message
    assert len(message) < 2000
    return "refused"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("flips", [200, pytest.param(10_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", list(KINDS))
def test_flipped_bytes_are_refused_or_harmless(whole, tmp_path, kind, flips):
    base, tensors = whole
    folder = shutil.copytree(folder_of(base, kind), tmp_path / "model")
    path = folder / KINDS[kind]
    raw, rng, found = path.read_bytes(), random.Random(17), Counter()
    frame = frame_of(raw, kind)
    for _ in range(flips):
        damaged = bytearray(raw)
        position = rng.choice(frame)
        damaged[position] = rng.choice([value for value in range(256) if value != raw[position]])
        path.write_bytes(damaged)
        found[outcome(folder, tensors)] += 1
    print(f"{kind}: {flips} flips, {dict(found)}, 0 read wrongly, 0 other errors")
    assert found.total() == flips
    assert found["refused"] > {"config": 0.5, "bin": 0.2}.get(kind, 0.9) * flips


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_cut_at_every_64th_is_one_line_and_exit_code_3(whole, tmp_path, kind):
    base, _ = whole
    folder = shutil.copytree(folder_of(base, kind), tmp_path / "model")
    path = folder / KINDS[kind]
    raw = path.read_bytes()
    for k in range(64):
        path.write_bytes(raw[: len(raw) * k // 64])
        refused(["spectrum", folder], path.name)
    path.write_bytes(raw)
    assert told("spectrum", folder).code == 0


def broken(folder, how):
    """Break a folder in one way; return words that the refusal must hold."""
    weights = folder / "model.safetensors"
    config = json.loads((folder / "config.json").read_text())
    stored = load_file(weights) if weights.exists() else {}
    if how == "no weights":
        weights.unlink()
        return ["model.safetensors"]
    if how == "no config":
        (folder / "config.json").unlink()
        return ["config.json"]
    if how == "a tensor is missing":
        save_file({k: v for k, v in stored.items() if not k.endswith("0.mixer.D")}, weights)
        return ["backbone.layers.0.mixer.D", "missing"]
    if how == "a tensor too many":
        save_file(stored | {"backbone.layers.9.mixer.D": torch.ones(2)}, weights)
        return ["backbone.layers.9.mixer.D", "unexpected"]
    if how == "another shape":
        save_file(stored | {"backbone.norm_f.weight": torch.ones(4, 2)}, weights)
        return ["backbone.norm_f.weight", "expected shape [8], got [4, 2]"]
    if how == "whole numbers":
        save_file(stored | {"backbone.norm_f.weight": torch.ones(8, dtype=torch.int64)}, weights)
        return ["backbone.norm_f.weight", "got torch.int64"]
    if how == "the other layout":
        ssm = {"layer": "Mamba2", "d_state": 4, "headdim": 8}
        stated = {"d_model": 8, "n_layer": 1, "vocab_size": 16, "ssm_cfg": ssm, "rms_norm": True}
        (folder / "config.json").write_text(json.dumps(stated))
        return ["transformers layout", "config.json"]
    if how == "the other architecture":
        stated = config | {"model_type": "mamba", "intermediate_size": 16, "time_step_rank": 1}
        (folder / "config.json").write_text(json.dumps(stated))
        return ["look like mamba2"]
    if how == "more layers than the weights have":
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
        return ["backbone.layers.1.", "missing", "more"]
    if how == "more layers than there can be":
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**9}))
        return ["num_hidden_layers"]
    (folder / SHARDS[0]).unlink()
    return [SHARDS[0], "no such file"]


WAYS = ["no weights", "no config", "a tensor is missing", "a tensor too many", "another shape", "whole numbers"]
WAYS += ["the other layout", "the other architecture", "more layers than the weights have"]
WAYS += ["more layers than there can be", "a missing shard"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("command", ["spectrum", "norms", "evaluate", "bake"])
def test_what_is_wrong_is_named_by_every_command(whole, tmp_path, how, command):
    folder = shutil.copytree(whole[0] / ("shards" if "shard" in how else "transformers"), tmp_path / "model")
    words = broken(folder, how)
    (tmp_path / "scales.json").write_text('{"format": 1, "factors": []}')
    text = ["--text", tmp_path / "none.txt", "--lengths", "8"]
    rest = {"norms": text, "evaluate": [*text, "--methods", "none"], "spectrum": []}
    rest["bake"] = ["--scales", tmp_path / "scales.json", "-o", tmp_path / "baked"]
    refused([command, folder, *rest[command]], folder, *words)
    assert not (tmp_path / "baked/config.json").exists()


@pytest.mark.parametrize("flips", [60, pytest.param(1000, marks=pytest.mark.soak)])
def test_what_lies_beside_the_weights_is_read_as_carefully(tmp_path, flips):
    """The card and the tokenizer: a flipped byte is refused in one line, or changes what is said and nothing else."""
    folder, text = save_tiny(tmp_path / "model", "mamba2"), tmp_path / "text.txt"
    text.write_text("A text of no great length.")
    rng, found = random.Random(5), Counter()
    for name in ("mambascope.json", "tokenizer.json"):
        raw = (folder / name).read_bytes()
        for _ in range(flips):
            damaged = bytearray(raw)
            damaged[rng.randrange(len(raw))] = rng.randrange(256)
            (folder / name).write_bytes(damaged)
            seen = told("norms", folder, "--text", text, "--lengths", "8")
            found[seen.code] += 1
            assert seen.code in {0, 3}, (damaged, seen)
            assert seen.code == 0 or len(seen.lines) == 1
        (folder / name).write_bytes(raw)
    print(f"{2 * flips} flips beside the weights: {found[3]} refused, {found[0]} harmless, 0 other errors")
    assert found[3] > flips
