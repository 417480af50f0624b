"""Test ``mambascope.spectra.checkpoint`` (and ``save_checkpoint``, ``checkpoint_checks`` behind it)."""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from mambascope.spectra import checkpoint as checkpoint_module
from mambascope.spectra.checkpoint import Checkpoint, bundled_models, open_checkpoint, save_checkpoint
from mambascope.spectra.config import Config
from mambascope.spectra.errors import CheckpointError, UnknownModelError
from mambascope.spectra.layouts import config_json, expected_tensors, layout_name

SMALL1 = Config(arch="mamba", d_model=16, n_layer=2, vocab_size=24, d_inner=32, d_state=4, dt_rank=3)
SMALL2 = Config(arch="mamba2", d_model=16, n_layer=2, vocab_size=24, d_inner=32, d_state=4, headdim=8, ngroups=2)
UNTIED = dataclasses.replace(SMALL2, tie_embeddings=False, conv_bias=False, proj_bias=True)
CONFIGS = [SMALL1, SMALL2, UNTIED]
LAYOUTS = ["state-spaces", "transformers"]
TOKENIZER = json.dumps({
    "version": "1.0",
    "added_tokens": [
        {"id": 0, "content": "<end>", "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    ],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    "model": {"type": "BPE", "vocab": {"<end>": 0, "a": 1, "b": 2, "c": 3}, "merges": []},
}).encode()


def tensors_of(config, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {name: 0.3 * torch.randn(*shape, generator=g) for name, shape in expected_tensors(config).items()}


def same(got, want):
    return set(got) == set(want) and all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip(tmp_path, config, layout):
    tensors = tensors_of(config)
    save_checkpoint(tmp_path / "a", config, tensors, layout, tokenizer_json=TOKENIZER, eos_id=0)
    with Checkpoint.open(tmp_path / "a") as got:
        assert dataclasses.replace(got.config, tokens_in_vocab=0) == config
        assert got.layout == layout
        assert [path.name for path in got.files] == [
            "config.json",
            "model.safetensors" if layout == "transformers" else "pytorch_model.bin",
        ]
        assert same(got.state_dict(), tensors)
        assert all(t.dtype == torch.float64 for t in got.state_dict(torch.float64).values())
        assert torch.equal(got.A_log(1), tensors["backbone.layers.1.mixer.A_log"])
        assert torch.equal(
            got.read("lm_head.weight"),
            tensors["backbone.embedding.weight" if config.tie_embeddings else "lm_head.weight"],
        )
    assert not [path for path in (tmp_path / "a").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_arguments_give_equal_bytes_and_equal_sha256(tmp_path, layout):
    for name in "ab":
        save_checkpoint(tmp_path / name, SMALL2, tensors_of(SMALL2), layout)
    save_checkpoint(tmp_path / "b", SMALL2, tensors_of(SMALL2), layout)  # the same layout again is replaced
    save_checkpoint(tmp_path / "c", SMALL2, tensors_of(SMALL2, seed=1), layout)
    digests = [Checkpoint.open(tmp_path / name).sha256() for name in "abc"]
    assert digests[0] == digests[1] != digests[2]
    whole = hashlib.sha256()
    for path in Checkpoint.open(tmp_path / "a").files:
        whole.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    assert digests[0] == whole.hexdigest()


def test_safetensors_are_what_the_library_reads(tmp_path):
    tensors = tensors_of(SMALL1) | {"backbone.norm_f.weight": torch.ones(16).bfloat16()}
    save_checkpoint(tmp_path, SMALL1, tensors, "transformers")
    got = load_file(tmp_path / "model.safetensors")
    assert same(got, {layout_name(name, "transformers"): t for name, t in tensors.items()})
    assert "lm_head.weight" not in got


def test_state_spaces_bin_is_what_mamba_ssm_reads(tmp_path):
    tensors = tensors_of(SMALL2)
    save_checkpoint(tmp_path, SMALL2, tensors, "state-spaces")
    got = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    assert same(got, tensors | {"lm_head.weight": tensors["backbone.embedding.weight"]})
    known = {"d_model", "n_layer", "vocab_size", "ssm_cfg", "rms_norm", "residual_in_fp32", "fused_add_norm"}
    raw = json.loads((tmp_path / "config.json").read_text())
    assert set(raw) == known | {"pad_vocab_size_multiple", "tie_embeddings"}  # MambaConfig takes no other keys


@pytest.mark.parametrize("config", CONFIGS)
def test_transformers_loads_what_is_saved_and_ours_loads_its(tmp_path, config):
    transformers = pytest.importorskip("transformers")
    tensors = tensors_of(config)
    save_checkpoint(tmp_path / "a", config, tensors, "transformers", tokenizer_json=TOKENIZER, eos_id=0)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "a", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.eos_token_id == model.config.pad_token_id == 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    assert tokenizer("abc<end>")["input_ids"] == [1, 2, 3, 0]
    assert tokenizer.eos_token_id == 0

    taken = Checkpoint.from_object(model)
    assert taken.layout == "transformers"
    assert taken.folder is None
    assert same(taken.state_dict(), tensors)
    assert taken.read("backbone.norm_f.weight").data_ptr() == model.backbone.norm_f.weight.data_ptr()

    model.save_pretrained(tmp_path / "b")
    again = Checkpoint.open(tmp_path / "b")
    assert dataclasses.replace(again.config, tokens_in_vocab=0) == config
    assert same(again.state_dict(), tensors)
    assert taken.sha256() == Checkpoint.from_object(model).sha256()


def test_transformers_shards_are_read(tmp_path):
    transformers = pytest.importorskip("transformers")
    save_checkpoint(tmp_path / "a", SMALL1, tensors_of(SMALL1), "transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    model.save_pretrained(tmp_path / "b", max_shard_size="8KB")
    got = Checkpoint.open(tmp_path / "b")
    assert len(got.files) > 3
    assert same(got.state_dict(), tensors_of(SMALL1))


@dataclasses.dataclass
class SsmConfig:
    """The fields of mamba_ssm's MambaConfig."""

    d_model: int = 16
    d_intermediate: int = 0
    n_layer: int = 2
    vocab_size: int = 21
    ssm_cfg: dict = dataclasses.field(default_factory=lambda: {"layer": "Mamba1", "d_state": 4, "dt_rank": 3})
    attn_layer_idx: list = dataclasses.field(default_factory=list)
    attn_cfg: dict = dataclasses.field(default_factory=dict)
    rms_norm: bool = True
    residual_in_fp32: bool = True
    fused_add_norm: bool = True
    pad_vocab_size_multiple: int = 8
    tie_embeddings: bool = True


class SsmModel:
    def __init__(self, tensors):
        self.config = SsmConfig()
        self.tensors = tensors | {"lm_head.weight": tensors["backbone.embedding.weight"]}

    def state_dict(self):
        return self.tensors


def test_a_mamba_ssm_object_is_taken_by_its_looks():
    got = Checkpoint.from_object(SsmModel(tensors_of(SMALL1)))
    assert got.layout == "state-spaces"
    assert got.config == dataclasses.replace(SMALL1, tokens_in_vocab=21)
    assert same(got.state_dict(), tensors_of(SMALL1))


@pytest.mark.parametrize("thing", [torch.nn.Linear(2, 2), None, "mamba"])
def test_other_objects_are_refused(thing):
    with pytest.raises(CheckpointError, match="expected a Mamba"):
        Checkpoint.from_object(thing)


def test_safetensors_come_before_bin_and_a_tied_head_may_be_stored(tmp_path):
    tensors = tensors_of(SMALL2)
    save_checkpoint(tmp_path, SMALL2, tensors_of(SMALL2, seed=1), "state-spaces")
    save_file(
        tensors | {"lm_head.weight": tensors["backbone.embedding.weight"].clone()}, tmp_path / "model.safetensors"
    )
    got = Checkpoint.open(tmp_path)
    assert got.files[1].name == "model.safetensors"
    assert same(got.state_dict(), tensors)
    save_file(tensors | {"lm_head.weight": tensors["backbone.embedding.weight"] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head\.weight: expected the embedding"):
        Checkpoint.open(tmp_path).state_dict()


def write(folder, config, tensors, layout="state-spaces"):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json(config, layout)))
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("backbone.layers.1.mixer.D"), r"layers\.1\.mixer\.D \[4\]: missing"),
        (lambda t: t.update({"extra": torch.ones(1)}), "'extra' in model.safetensors: unexpected"),
        (lambda t: t.update({"backbone.norm_f.weight": torch.ones(15)}), r"expected shape \[16\], got \[15\]"),
        (lambda t: t.update({"backbone.norm_f.weight": torch.ones(16, dtype=torch.int32)}), "got torch.int32"),
        (lambda t: t.update({"lm_head.weight": torch.ones(16, 16)}), r"expected shape \[24, 16\]"),
        (lambda t: [t.pop(name) for name in list(t) if "layers.1" in name], "and 6 more"),
    ],
)
def test_weights_that_differ_from_the_config_are_refused_in_one_message(tmp_path, change, words):
    tensors = tensors_of(SMALL2)
    change(tensors)
    write(tmp_path, SMALL2, tensors)
    with pytest.raises(CheckpointError, match=words):
        Checkpoint.open(tmp_path)


def test_the_other_dialect_and_the_other_architecture_are_recognised(tmp_path):
    tensors = tensors_of(SMALL2)
    write(tmp_path / "a", SMALL2, {layout_name(n, "transformers"): t for n, t in tensors.items()})
    with pytest.raises(CheckpointError, match="weights are in the transformers layout"):
        Checkpoint.open(tmp_path / "a")
    write(tmp_path / "b", SMALL1, tensors)
    with pytest.raises(CheckpointError, match="weights look like mamba2"):
        Checkpoint.open(tmp_path / "b")
    write(tmp_path / "c", SMALL2, {n.removeprefix("backbone."): t for n, t in tensors.items()})
    with pytest.raises(CheckpointError, match=r"lack 'backbone\.'"):
        Checkpoint.open(tmp_path / "c")
    # transformers itself accepts the singular spelling, so old -hf files must open
    write(tmp_path / "d", SMALL2, tensors, "transformers")
    assert same(Checkpoint.open(tmp_path / "d").state_dict(), tensors)


@pytest.mark.parametrize("name", list(expected_tensors(SMALL2)))
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_named_with_layer_and_index(tmp_path, name, bad):
    tensors = tensors_of(SMALL2)
    tensors[name].view(-1)[-1] = bad
    index = [size - 1 for size in tensors[name].shape]
    write(tmp_path, SMALL2, tensors)
    with pytest.raises(CheckpointError, match=re.escape(f"{name}, index {index}: expected a finite number")) as caught:
        Checkpoint.open(tmp_path).state_dict()
    if layer := re.search(r"layers\.(\d)", name):
        assert f"layer {layer[1]}, " in str(caught.value)


@pytest.mark.parametrize(
    ("config", "index", "place"), [(SMALL1, (5, 2), "channel 5, state 2"), (SMALL2, (3,), "head 3")]
)
def test_A_log_that_overflows_exp_is_named(tmp_path, config, index, place):
    tensors = tensors_of(config)
    tensors["backbone.layers.1.mixer.A_log"][index] = 89.0
    write(tmp_path, config, tensors)
    got = Checkpoint.open(tmp_path)
    got.A_log(0)
    with pytest.raises(CheckpointError, match=f"layer 1, {place}: A_log.*got 89"):
        got.A_log(1)
    with pytest.raises(CheckpointError, match="layer: expected 0 to 1, got 2"):
        got.A_log(2)


def test_an_unknown_tensor_gets_the_nearest_names(tmp_path):
    write(tmp_path, SMALL1, tensors_of(SMALL1))
    with pytest.raises(CheckpointError, match=r"nearest: .*layers\.1\.mixer\.A_log"):
        Checkpoint.open(tmp_path).read("backbone.layers.1.mixer.Alog")


def test_saving_refuses_what_would_mix_or_not_fit(tmp_path):
    tensors = tensors_of(SMALL2)
    save_checkpoint(tmp_path, SMALL2, tensors, "transformers", extra_config={"note": "kept"})
    assert json.loads((tmp_path / "config.json").read_text())["note"] == "kept"
    for layout, given, extra, words in [
        ("state-spaces", tensors, None, "take a new folder"),
        ("state-spaces", tensors, {"note": 1}, "extra_config"),
        ("transformers", tensors, {"hidden_size": 1}, "extra_config"),
        ("transformers", tensors | {"other": torch.ones(1)}, None, "other"),
        ("transformers", tensors | {"backbone.norm_f.weight": torch.ones(3)}, None, r"got \[3\]"),
        ("transformers", tensors | {"lm_head.weight": torch.ones(24, 16)}, None, "tied"),
        ("transformers", dict(list(tensors.items())[1:]), None, "got none"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            save_checkpoint(tmp_path, SMALL2, given, layout, extra_config=extra)
    assert same(Checkpoint.open(tmp_path).state_dict(), tensors)


def test_a_full_disk_leaves_the_old_checkpoint_and_no_half_file(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, SMALL2, tensors_of(SMALL2), "transformers")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, SMALL2, tensors_of(SMALL2, seed=1), "transformers")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_bundled_names_and_nearest_names(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "_ZOO", tmp_path)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mamba2-tiny", SMALL2, tensors_of(SMALL2))
    write(tmp_path / "mamba-tiny", SMALL1, tensors_of(SMALL1))
    assert bundled_models() == ["mamba-tiny", "mamba2-tiny"]
    assert open_checkpoint("mamba2-tiny").config.arch == "mamba2"
    assert open_checkpoint(tmp_path / "mamba-tiny").config.arch == "mamba"
    with pytest.raises(UnknownModelError, match="nearest bundled name: mamba2-tiny"):
        open_checkpoint("mamba2-tine")
    with pytest.raises(UnknownModelError, match="expected a folder that exists"):
        open_checkpoint(tmp_path / "absent" / "folder")
    (tmp_path / "bare").mkdir()
    with pytest.raises(CheckpointError, match=r"bare.config\.json: file: expected a readable file"):
        open_checkpoint("bare")


def test_a_hub_id_offline_or_without_the_package_says_what_to_do(tmp_path):
    pytest.importorskip("huggingface_hub")
    script = (
        "import sys; from mambascope.spectra.checkpoint import open_checkpoint\n"
        "from mambascope.spectra.errors import UnknownModelError\n"
        "if sys.argv[1] == 'absent': sys.modules['huggingface_hub'] = None\n"
        "try: open_checkpoint('state-spaces/mamba-130m')\n"
        "except UnknownModelError as error: print(error)"
    )
    for how, words in [("absent", 'pip install "mambascope[hub]"'), ("offline", "and the hub gave")]:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", script, how], env=environment, capture_output=True, text=True, check=True
        )
        assert words in done.stdout, done.stderr


def test_a_hub_snapshot_is_opened(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    save_checkpoint(tmp_path, SMALL2, tensors_of(SMALL2), "state-spaces")
    asked = []
    monkeypatch.setattr(hub, "snapshot_download", lambda name, allow_patterns: asked.append(allow_patterns) or tmp_path)
    assert open_checkpoint("state-spaces/mamba2-130m").config.arch == "mamba2"
    assert ["pytorch_model*.bin" in patterns for patterns in asked] == [
        False,
        True,
    ]  # .bin only where there is no other
