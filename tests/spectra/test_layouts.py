"""Test ``mambascope.spectra.layouts``."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from mambascope.spectra.config import Config
from mambascope.spectra.errors import CheckpointError
from mambascope.spectra.layouts import canonical_name, config_json, expected_tensors, layout_name, parse_config

WHERE = Path("config.json")
# the files of state-spaces/mamba-130m and mamba2-130m, written from their published sizes
MAMBA_130M = {
    "d_model": 768,
    "n_layer": 24,
    "vocab_size": 50277,
    "ssm_cfg": {},
    "rms_norm": True,
    "residual_in_fp32": True,
    "fused_add_norm": True,
}
MAMBA2_130M = MAMBA_130M | {"ssm_cfg": {"layer": "Mamba2"}, "pad_vocab_size_multiple": 16, "tie_embeddings": True}

SMALL1 = Config(arch="mamba", d_model=16, n_layer=2, vocab_size=24, d_inner=32, d_state=4, dt_rank=3)
SMALL2 = Config(arch="mamba2", d_model=16, n_layer=2, vocab_size=24, d_inner=32, d_state=4, headdim=8, ngroups=2)
VARIANTS = [
    SMALL1,
    SMALL2,
    replace(SMALL1, conv_bias=False, proj_bias=True, tie_embeddings=False, d_conv=3, d_inner=48),
    replace(SMALL2, conv_bias=False, proj_bias=True, tie_embeddings=False, dt_limit=(0.0, 0.5)),
    replace(SMALL2, dt_limit=(0.01, math.inf)),
]


def test_state_spaces_mamba_130m():
    config, layout = parse_config(MAMBA_130M, WHERE)
    assert layout == "state-spaces"
    assert (config.arch, config.vocab_size, config.tokens_in_vocab) == ("mamba", 50280, 50277)
    assert (config.d_inner, config.d_state, config.dt_rank, config.tie_embeddings) == (1536, 16, 48, True)
    shapes = expected_tensors(config)
    assert len(shapes) == 24 * 10 + 2
    assert sum(map(math.prod, shapes.values())) == 129_135_360  # the size that the model card rounds to 130M


def test_state_spaces_mamba2_130m():
    config, _ = parse_config(MAMBA2_130M, WHERE)
    assert (config.arch, config.vocab_size, config.d_state, config.nheads) == ("mamba2", 50288, 128, 24)
    shapes = expected_tensors(config)
    assert shapes["backbone.layers.23.mixer.in_proj.weight"] == (2 * 1536 + 2 * 128 + 24, 768)
    assert shapes["backbone.layers.23.mixer.conv1d.weight"] == (1536 + 256, 1, 4)
    assert "lm_head.weight" not in shapes


@pytest.mark.parametrize("config", VARIANTS)
@pytest.mark.parametrize("layout", ["state-spaces", "transformers"])
def test_what_is_written_is_read_back(config, layout):
    raw = json.loads(json.dumps(config_json(config, layout, eos_id=3)))
    got, got_layout = parse_config(raw, WHERE)
    assert got_layout == layout
    assert replace(got, tokens_in_vocab=0) == config


def test_padding_of_the_vocabulary_survives():
    for tokens, rows in [(50277, 50280), (50277, 50288), (7, 9), (256, 256)]:
        config = replace(SMALL1, vocab_size=rows, tokens_in_vocab=tokens)
        assert parse_config(config_json(config, "state-spaces"), WHERE)[0] == config


@pytest.mark.parametrize("config", VARIANTS)
def test_shapes_are_those_of_transformers(config):
    transformers = pytest.importorskip("transformers")
    kind = "Mamba" if config.arch == "mamba" else "Mamba2"
    raw = config_json(config, "transformers")
    model_config = getattr(transformers, f"{kind}Config")(**raw)
    import torch

    with torch.device("meta"):
        model = getattr(transformers, f"{kind}ForCausalLM")(model_config)
    got = {canonical_name(n, "transformers"): tuple(t.shape) for n, t in model.named_parameters()}
    assert got == expected_tensors(config)
    assert replace(parse_config(model.config.to_dict(), WHERE)[0], tokens_in_vocab=0) == config


def test_names_translate_both_ways():
    for name in expected_tensors(SMALL2):
        assert canonical_name(layout_name(name, "transformers"), "transformers") == name
        assert layout_name(name, "state-spaces") == name
    assert layout_name("backbone.embedding.weight", "transformers") == "backbone.embeddings.weight"


def test_infinity_in_the_spellings_of_both_libraries():
    base = config_json(SMALL2, "transformers")
    for infinity in (math.inf, "inf", {"__float__": "Infinity"}):
        config, _ = parse_config(base | {"time_step_limit": [0.001, infinity]}, WHERE)
        assert config.dt_limit == (0.001, math.inf)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"d_model": 0}, "d_model: expected an integer"),
        ({"d_model": "768"}, "'768'"),
        ({"d_model": True}, "True"),
        ({"n_layer": 10**12}, "n_layer"),
        ({"vocab_size": None}, "vocab_size"),
        ({"rms_norm": False}, "rms_norm.*not supported yet"),
        ({"attn_layer_idx": [3]}, "hybrid"),
        ({"d_intermediate": 64}, "d_intermediate"),
        ({"ssm_cfg": {"layer": "Mamba3"}}, "Mamba3"),
        ({"ssm_cfg": {"layer": ["Mamba2"]}}, "Mamba2"),
        ({"ssm_cfg": []}, "ssm_cfg"),
        ({"ssm_cfg": {"headdim": 64}}, "headdim"),  # no key of a Mamba-1 mixer
        ({"ssm_cfg": {"layer": "Mamba2", "headdim": 100}}, "divisor"),
        ({"ssm_cfg": {"layer": "Mamba2", "ngroups": 7}}, "ngroups"),
        ({"ssm_cfg": {"layer": "Mamba2", "d_ssm": 64}}, "d_ssm"),
        ({"ssm_cfg": {"layer": "Mamba2", "norm_before_gate": True}}, "norm_before_gate"),
        ({"ssm_cfg": {"layer": "Mamba2", "dt_limit": [1, 0]}}, "dt_limit"),
        ({"ssm_cfg": {"layer": "Mamba2", "dt_limit": [[], {}]}}, "dt_limit"),
        ({"ssm_cfg": {"expand": 1.3}}, "expand"),
        ({"ssm_cfg": {"expand": math.nan}}, "expand"),
        ({"ssm_cfg": {"expand": 10**400}}, "expand"),
        ({"tie_embeddings": 1}, "tie_embeddings"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"model_type": "falcon_mamba"}, "falcon_mamba.*mambascope spectrum"),
        ({"model_type": "falcon_h1"}, "falcon_h1.*not supported yet"),
        ({"model_type": ["mamba"]}, "not supported yet"),
        ({"model_type": "mamba", "hidden_act": "relu"}, "hidden_act"),
        ({"model_type": "mamba2", "num_heads": 5}, "num_heads"),
        ({"model_type": "mamba", "intermediate_size": 5}, "intermediate_size"),
        ({"model_type": "mamba", "layer_norm_epsilon": 0}, "layer_norm_epsilon"),
        ({"model_type": "mamba", "time_step_rank": []}, "time_step_rank"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(change, words):
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{words}|config\.json: {words}"):
        parse_config(MAMBA_130M | change, WHERE)


def test_an_empty_config_says_what_is_supported():
    with pytest.raises(CheckpointError, match="model_type mamba or mamba2"):
        parse_config({}, WHERE)


def test_a_trust_remote_code_flag_changes_nothing():
    assert parse_config(MAMBA_130M | {"trust_remote_code": True}, WHERE) == parse_config(MAMBA_130M, WHERE)


@pytest.mark.parametrize(
    ("config", "layout"),
    [
        (replace(SMALL1, d_inner=40), "transformers"),
        (replace(SMALL2, D_has_hdim=True), "transformers"),
        (replace(SMALL2, rmsnorm=False), "transformers"),
        (replace(SMALL2, norm_eps=1e-6), "state-spaces"),
    ],
)
def test_what_a_layout_cannot_say_is_refused(config, layout):
    with pytest.raises(CheckpointError, match=layout):
        config_json(config, layout)
