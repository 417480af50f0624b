"""Test ``mambascope.spectra.foreign``: spectra from the files alone, and what is refused."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mambascope.spectra.checkpoint import Checkpoint, open_checkpoint
from mambascope.spectra.errors import CheckpointError
from mambascope.spectra.foreign.checkpoint import ForeignCheckpoint, open_any
from mambascope.spectra.foreign.families import FAMILY_ARCHITECTURES, parse_foreign
from mambascope.spectra.foreign.measures import foreign_spectrum
from mambascope.spectra.foreign.refusals import ForeignModelError, NoStaticSpectrumError
from mambascope.spectra.loading import load
from mambascope.spectra.tensor_source import TensorFile

_spec = importlib.util.spec_from_file_location("written_layouts", Path(__file__).with_name("written_layouts.py"))
written = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(written)


def softplus(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("family", written.FAMILIES)
def test_the_spectrum_is_that_of_the_tensors_in_the_file(tmp_path, family, shards):
    tensors = written.write_foreign(tmp_path / "m", family, shards=shards)
    checkpoint = open_any(tmp_path / "m")
    assert isinstance(checkpoint, ForeignCheckpoint)
    found = foreign_spectrum(checkpoint)
    assert found.layers == checkpoint.layers == written.LAYERS[family]
    assert checkpoint.config.arch == FAMILY_ARCHITECTURES[family]
    assert [row["layer"] for row in found.rows()] == list(written.LAYERS[family])
    for k, layer in enumerate(written.LAYERS[family]):
        prefix = written.mixer_prefix(family, layer)
        A_log = tensors[f"{prefix}A_log"].double().numpy()
        direct = np.exp(-np.exp(A_log))
        np.testing.assert_allclose(found.eigenvalues()[k], direct, rtol=1e-12)
        row = found.rows()[k]
        assert row["modes"] == A_log.size
        assert row["q50"] == pytest.approx(np.median(direct))
        # the horizon that the bias alone gives, worked out number by number
        bias = tensors[f"{prefix}{'dt_proj.bias' if A_log.ndim == 2 else 'dt_bias'}"].double().tolist()
        least = written.CONFIGS[family].get("time_step_min", 0.0)
        dt = [max(softplus(b), least) for b in bias]
        flat = A_log.reshape(len(dt), -1)
        tau = np.array([[1 / (math.exp(a) * step) for a in row] for row, step in zip(flat, dt, strict=True)])
        np.testing.assert_allclose(found.bias_horizons_tokens()[k], tau.reshape(A_log.shape), rtol=1e-6)
        assert row["bias_horizon_median_tokens"] == pytest.approx(np.median(tau), rel=1e-6)


def test_the_limits_of_the_step_size_act_in_these_tests():
    """Half of the synthetic biases give less than the 0.02 that Zamba2 and Nemotron-H may not fall below."""
    rng = torch.Generator().manual_seed(0)
    bias = written.values_of("dt_bias", (1000,), rng).double()
    assert 0.3 < float((bias.exp().log1p() < 0.02).double().mean()) < 0.7


@pytest.mark.parametrize("family", written.FAMILIES)
def test_only_the_rates_and_the_biases_are_read(tmp_path, family, monkeypatch):
    written.write_foreign(tmp_path, family, shards=2)
    read, whole = [], TensorFile.read
    monkeypatch.setattr(TensorFile, "read", lambda self, name: read.append(name) or whole(self, name))
    foreign_spectrum(open_any(tmp_path))
    assert {name.rpartition(".")[2] for name in read} <= {"A_log", "dt_bias", "bias"}
    assert all(name.endswith((".A_log", ".dt_bias", ".dt_proj.bias")) for name in read)
    assert len(read) == 2 * len(written.LAYERS[family])


def test_what_each_layer_is():
    def words(family):
        return parse_foreign(written.CONFIGS[family], Path("config.json")).words()

    assert words("falcon_mamba") == "FalconMamba: 3 layers: mamba 0-2"
    assert words("jamba") == "Jamba: 5 layers: mamba 0-1, 3-4; attention 2"
    assert words("zamba2") == "Zamba2: 5 layers: mamba 0, 2, 4; attention+mamba 1, 3"
    assert words("bamba") == "Bamba: 4 layers: mamba 0, 2-3; attention 1"
    assert words("nemotron_h") == "Nemotron-H: 6 layers: mamba 0, 2, 5; mlp 1; attention 3; moe 4"
    assert words("granitemoehybrid") == "Granite hybrid: 4 layers: mamba 0, 2-3; attention 1"


@pytest.mark.parametrize("family", written.FAMILIES)
def test_the_config_that_transformers_writes_is_read_alike(family):
    transformers = pytest.importorskip("transformers")
    kind = getattr(transformers, written.CONFIGS[family]["architectures"][0]).config_class
    raw = json.loads(kind(**written.CONFIGS[family]).to_json_string())
    assert parse_foreign(raw, Path("c")) == parse_foreign(written.CONFIGS[family], Path("c"))


@pytest.mark.parametrize("family", written.FAMILIES)
def test_what_a_config_leaves_out_has_the_familys_default(family):
    transformers = pytest.importorskip("transformers")
    kind = getattr(transformers, written.CONFIGS[family]["architectures"][0]).config_class
    raw = json.loads(kind().to_json_string())
    least = {key: raw[key] for key in ("model_type", "layers_block_type") if key in raw}
    assert parse_foreign(least, Path("c")) == parse_foreign(raw, Path("c"))


def test_the_published_shapes():
    """Sizes of published models: 8,192 x 16 modes in each of 64 layers; 4 attention layers of 32; 52 letters."""
    falcon = {"model_type": "falcon_mamba", "hidden_size": 4096, "intermediate_size": 8192, "expand": 16}
    falcon |= {"num_hidden_layers": 64, "state_size": 16, "time_step_rank": 256, "vocab_size": 65024}
    found = parse_foreign(falcon, Path("c"))
    assert (found.mixers.A_shape, len(found.layers), found.mixers.dt_rank) == ((8192, 16), 64, 256)
    jamba = parse_foreign({"model_type": "jamba"}, Path("c"))
    assert [i for i in range(32) if i not in jamba.layers] == [4, 12, 20, 28]
    pattern = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"  # Nemotron 3 Nano
    nemotron = {"model_type": "nemotron_h", "hybrid_override_pattern": pattern, "mamba_num_heads": 64}
    found = parse_foreign(nemotron | {"hidden_size": 2688, "n_groups": 8, "ssm_state_size": 128}, Path("c"))
    assert (len(found.kinds), len(found.layers), found.mixers.A_shape) == (52, 23, (64,))
    assert found.mixers.d_inner == 4096  # not expand * hidden_size


@pytest.mark.parametrize(
    ("family", "change", "words"),
    [
        ("falcon_mamba", {"num_hidden_layers": 0}, "num_hidden_layers"),
        ("falcon_mamba", {"intermediate_size": 63}, "expected shape.*63.*got.*64"),
        ("falcon_mamba", {"num_hidden_layers": 4}, r"layers\.3\.mixer\.in_proj\.weight.*missing"),
        ("falcon_mamba", {"num_hidden_layers": 2}, r"layers\.2\.mixer\.A_log.*not call a Mamba layer"),
        ("jamba", {"attn_layer_offset": 9}, "attn_layer_offset"),
        ("jamba", {"attn_layer_offset": 1}, r"layers\.2\.mamba.*missing"),
        ("jamba", {"mamba_d_state": 5}, "expected shape"),
        ("zamba2", {"layers_block_type": ["mamba"] * 5}, r"layers\.1\.mamba\.in_proj\.weight.*missing"),
        ("zamba2", {"layers_block_type": ["mamba"] * 4}, "num_hidden_layers: expected 4"),
        ("zamba2", {"layers_block_type": ["mamba", {}, "mamba", "mamba", "mamba"]}, "layers_block_type"),
        ("zamba2", {"layers_block_type": None}, "layers_block_type"),
        ("zamba2", {"n_mamba_heads": 7}, "n_mamba_heads"),
        ("zamba2", {"time_step_min": -1}, "time_step_min"),
        ("bamba", {"attn_layer_indices": [9]}, "attn_layer_indices"),
        ("bamba", {"attn_layer_indices": [0, 1, 2, 3]}, "at least one Mamba layer"),
        ("bamba", {"mamba_n_groups": 3}, "divisor of the 8 heads"),
        ("bamba", {"mamba_d_head": 9}, "mamba_n_heads"),
        ("bamba", {"mamba_d_state": 8}, "expected shape"),
        ("nemotron_h", {"hybrid_override_pattern": "M-M?EM"}, "hybrid_override_pattern"),
        ("nemotron_h", {"hybrid_override_pattern": "M-M*EMM"}, r"layers\.6\.mixer\.in_proj\.weight.*missing"),
        ("nemotron_h", {"mamba_num_heads": 4}, "expected shape"),
        ("granitemoehybrid", {"layer_types": ["mamba", "mamba", "mamba", "mamba"]}, r"layers\.1\.mamba"),
        ("granitemoehybrid", {"layer_types": "mamba"}, "layer_types"),
        ("granitemoehybrid", {"mamba_d_conv": 3}, "expected shape"),
    ],
)
def test_a_config_that_contradicts_the_weights_is_refused(tmp_path, family, change, words):
    written.write_foreign(tmp_path, family, config=change)
    with pytest.raises(CheckpointError, match=words):
        open_any(tmp_path)


def test_damaged_weights_are_named_by_their_true_layer(tmp_path):
    name = "model.layers.3.mamba.A_log"
    bad = torch.zeros(written.HEADS)
    bad[5] = math.nan
    written.write_foreign(tmp_path / "nan", "bamba", extra={name: bad})
    with pytest.raises(CheckpointError, match=r"model\.layers\.3\.mamba\.A_log, index \[5\]"):
        foreign_spectrum(open_any(tmp_path / "nan"))
    bad[5] = 100.0
    written.write_foreign(tmp_path / "big", "bamba", extra={name: bad})
    with pytest.raises(CheckpointError, match="layer 3, head 5: A_log: expected at most 88"):
        foreign_spectrum(open_any(tmp_path / "big"))
    written.write_foreign(tmp_path / "int", "bamba", extra={name: torch.zeros(8, dtype=torch.int32)})
    with pytest.raises(CheckpointError, match="floating-point"):
        open_any(tmp_path / "int")
    written.write_foreign(tmp_path / "gone", "bamba", drop=("model.layers.2.mamba.dt_bias",))
    with pytest.raises(CheckpointError, match=r"model\.layers\.2\.mamba\.dt_bias \[8\]: missing"):
        open_any(tmp_path / "gone")


def test_a_lost_shard_is_named(tmp_path):
    written.write_foreign(tmp_path, "jamba", shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00003"):
        open_any(tmp_path)


def test_nemotron_may_say_model_where_it_says_backbone_and_carry_further_heads(tmp_path):
    tensors = written.write_foreign(tmp_path, "nemotron_h")
    renamed = {name.replace("backbone.", "model."): tensor for name, tensor in tensors.items()}
    renamed["mtp.layers.0.mixer.A_log"] = torch.zeros(8)
    save_file(renamed, tmp_path / "model.safetensors")
    found = foreign_spectrum(open_any(tmp_path))
    A_log = tensors["backbone.layers.5.mixer.A_log"].double().numpy()
    np.testing.assert_allclose(found.rates[2], np.exp(A_log), rtol=1e-6)


@pytest.mark.parametrize("family", written.FAMILIES)
def test_what_needs_our_forward_is_refused_with_what_works_instead(tmp_path, family):
    written.write_foreign(tmp_path, family)
    for refused in (open_checkpoint, load, Checkpoint.open):
        with pytest.raises(ForeignModelError, match=r"mambascope spectrum.*mambascope norms.*mambascope bake"):
            refused(tmp_path)
    with pytest.raises(ForeignModelError, match="no forward"):
        load(open_any(tmp_path))


@pytest.mark.parametrize(
    "config", [{"d_model": 64, "n_layer": 2, "vocab_size": 9, "ssm_cfg": {"layer": "Mamba3"}}, {"model_type": "mamba3"}]
)
def test_mamba_3_has_no_static_spectrum_and_is_told_so(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    for refused in (open_any, open_checkpoint):
        with pytest.raises(NoStaticSpectrumError, match=r"A_t = -f\(dd_A\).*no static spectrum.*exp\(A_t dt_t\)"):
            refused(tmp_path)


def test_mamba_3_weights_under_another_name_are_recognised(tmp_path):
    gone = tuple(f"{written.mixer_prefix('bamba', i)}A_log" for i in (0, 2, 3))
    extra = {f"model.layers.0.mamba.{name}": torch.zeros(8, 1, 4) for name in ("B_bias", "C_bias")}
    written.write_foreign(tmp_path, "bamba", drop=gone, extra=extra)
    with pytest.raises(NoStaticSpectrumError, match="no A_log but B_bias and C_bias"):
        open_any(tmp_path)


def test_code_in_a_folder_is_never_run(tmp_path):
    written.write_foreign(tmp_path, "nemotron_h")  # its config.json has an auto_map
    trap = "raise SystemExit('code of the folder was run')\n"
    for name in ("configuration_nemotron_h.py", "modeling_nemotron_h.py"):
        (tmp_path / name).write_text(trap)
    foreign_spectrum(open_any(tmp_path))
    assert "configuration_nemotron_h" not in sys.modules


def test_ours_stay_ours():
    with open_any("mamba2-tiny") as checkpoint:
        assert type(checkpoint) is Checkpoint
        assert checkpoint.layers == (0, 1, 2, 3)
