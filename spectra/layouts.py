"""The two dialects of Mamba checkpoints, ``state-spaces`` and ``transformers``, and their translation.

Inside the project a tensor has its state-spaces name and a size its state-spaces name (``headdim``, ``d_state``).
transformers names the same tensors alike but for ``backbone.embeddings.weight``, and names the sizes differently.

Sources: MambaConfig and the mixers' keyword arguments of state-spaces/mamba 2.3; MambaConfig and Mamba2Config of
transformers 5.23. Keys that only steer the initialisation or the choice of a kernel are accepted and not used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from .config import Arch, Config
from .config_reader import MAX_LAYERS, ConfigReader
from .errors import CheckpointError
from .foreign.families import refuse_foreign
from .tensor_source import shown

Layout = Literal["state-spaces", "transformers"]

_EMBEDDING = "backbone.embedding.weight"
_EMBEDDINGS = "backbone.embeddings.weight"
_UNUSED_SSM_KEYS = {"dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "A_init_range", "conv_init"} | {
    "use_fast_path",
    "use_mem_eff_path",
    "chunk_size",
}
_SHARED_SSM_KEYS = {"layer", "d_state", "d_conv", "expand", "conv_bias", "bias"}
_SSM_KEYS = {
    "mamba": _SHARED_SSM_KEYS | {"dt_rank"},
    "mamba2": _SHARED_SSM_KEYS
    | {"headdim", "d_ssm", "ngroups", "D_has_hdim", "rmsnorm", "norm_before_gate", "dt_limit"},
}
_SUPPORTED = "model_type mamba or mamba2 (transformers), or none with ssm_cfg (state-spaces)"


def parse_config(raw: Mapping[str, Any], path: Path) -> tuple[Config, Layout]:
    """Translate a parsed config.json of either dialect.

    Args:
        raw: the JSON object. Code that it may point to (``auto_map``) is never fetched or run.
        path: where it comes from, for the messages.

    Returns:
        The configuration, and the dialect it was written in.

    Raises:
        CheckpointError: if it describes no Mamba-1 or Mamba-2 model, or contradicts itself.
        ForeignModelError: if it describes a model of which mambascope has no forward (:mod:`.foreign`).
        NoStaticSpectrumError: if it describes a Mamba-3.
    """
    reader = ConfigReader(raw, path)
    refuse_foreign(reader)
    if "auto_map" in raw:
        raise CheckpointError(
            reader.refuse(
                "auto_map", "a model that needs no code of its own", shown(raw["auto_map"]), "its code would not be run"
            )
        )
    model_type = raw.get("model_type")
    layout: Layout = "transformers"
    if model_type == "mamba":
        config = _from_transformers(reader, "mamba")
    elif model_type == "mamba2":
        config = _from_transformers(reader, "mamba2")
    elif model_type is not None or "d_model" not in raw:
        raise CheckpointError(
            reader.refuse("model_type", _SUPPORTED, shown(model_type), "this architecture is not supported yet")
        )
    else:
        config, layout = _from_state_spaces(reader), "state-spaces"
    _check_consistency(config, reader)
    return config, layout


def _from_state_spaces(top: ConfigReader) -> Config:
    top.must_be("rms_norm", True)
    top.must_be("d_intermediate", 0)
    if top.raw.get("attn_layer_idx"):
        raise CheckpointError(
            top.refuse("attn_layer_idx", "no attention layers", "some", "hybrid models are not supported yet")
        )
    ssm = top.raw.get("ssm_cfg", {})
    if not isinstance(ssm, Mapping):
        raise CheckpointError(top.refuse("ssm_cfg", "an object", shown(ssm)))
    reader = ConfigReader(ssm, top.path)
    reader.must_be("layer", "Mamba1", "Mamba2")
    arch: Arch = "mamba2" if ssm.get("layer") == "Mamba2" else "mamba"
    if foreign := sorted(set(ssm) - _SSM_KEYS[arch] - _UNUSED_SSM_KEYS):
        raise CheckpointError(
            top.refuse("ssm_cfg", f"keys of {arch}", shown(foreign[0]), "this kind is not supported yet")
        )
    reader.must_be("norm_before_gate", False)

    d_model = top.size("d_model")
    d_inner = reader.inner(d_model)
    if ssm.get("d_ssm") is not None and ssm["d_ssm"] != d_inner:
        raise CheckpointError(
            top.refuse("d_ssm", d_inner, shown(ssm["d_ssm"]), "a mixer with its own MLP is not supported yet")
        )
    vocab_size = top.size("vocab_size")
    multiple = top.size("pad_vocab_size_multiple", 8)
    return Config(
        arch=arch,
        d_model=d_model,
        n_layer=top.size("n_layer", most=MAX_LAYERS),
        vocab_size=-(-vocab_size // multiple) * multiple,
        tokens_in_vocab=vocab_size,
        d_inner=d_inner,
        d_state=reader.size("d_state", 16 if arch == "mamba" else 128),
        d_conv=reader.size("d_conv", 4),
        dt_rank=reader.rank("dt_rank", d_model) if arch == "mamba" else 0,
        headdim=reader.size("headdim", 64),
        ngroups=reader.size("ngroups", 1),
        dt_limit=reader.interval("dt_limit"),
        D_has_hdim=reader.flag("D_has_hdim", False),
        rmsnorm=reader.flag("rmsnorm", True),
        conv_bias=reader.flag("conv_bias", True),
        proj_bias=reader.flag("bias", False),
        tie_embeddings=top.flag("tie_embeddings", True),
    )


def _from_transformers(reader: ConfigReader, arch: Arch) -> Config:
    reader.must_be("hidden_act", "silu", "swish")
    mamba2 = arch == "mamba2"
    d_model = reader.size("hidden_size", 4096 if mamba2 else 768)
    d_inner = reader.inner(d_model)
    inner = reader.raw.get("intermediate_size")
    if inner is not None and inner != d_inner:
        raise CheckpointError(reader.refuse("intermediate_size", f"expand * hidden_size = {d_inner}", shown(inner)))
    headdim = reader.size("head_dim", 64)
    if mamba2 and (nheads := reader.size("num_heads", 128)) * headdim != d_inner:
        raise CheckpointError(reader.refuse("num_heads", f"num_heads * head_dim = {d_inner}", f"{nheads} * {headdim}"))
    return Config(
        arch=arch,
        d_model=d_model,
        n_layer=reader.size("num_hidden_layers", 64 if mamba2 else 32, most=MAX_LAYERS),
        vocab_size=reader.size("vocab_size", 32768 if mamba2 else 50280),
        d_inner=d_inner,
        d_state=reader.size("state_size", 128 if mamba2 else 16),
        d_conv=reader.size("conv_kernel", 4),
        dt_rank=0 if mamba2 else reader.rank("time_step_rank", d_model),
        headdim=headdim,
        ngroups=reader.size("n_groups", 8) if mamba2 else 1,
        norm_eps=reader.epsilon("layer_norm_epsilon"),
        dt_limit=reader.interval("time_step_limit") if mamba2 else (0.0, math.inf),
        conv_bias=reader.flag("use_conv_bias", True),
        proj_bias=reader.flag("use_bias", False),
        tie_embeddings=reader.flag("tie_word_embeddings", not mamba2),
    )


def _check_consistency(config: Config, reader: ConfigReader) -> None:
    if config.arch == "mamba":
        return
    if config.d_inner % config.headdim:
        raise CheckpointError(
            reader.refuse("headdim", f"a divisor of the {config.d_inner} inner channels", config.headdim)
        )
    if config.nheads % config.ngroups:
        raise CheckpointError(reader.refuse("ngroups", f"a divisor of the {config.nheads} heads", config.ngroups))


def expected_tensors(config: Config) -> dict[str, tuple[int, ...]]:
    """Return every tensor that a model of this configuration needs, by state-spaces name, with its shape."""
    shapes: dict[str, tuple[int, ...]] = {_EMBEDDING: (config.vocab_size, config.d_model)}
    layer = mixer_shapes(config)
    for i in range(config.n_layer):
        shapes[f"backbone.layers.{i}.norm.weight"] = (config.d_model,)
        shapes.update({f"backbone.layers.{i}.mixer.{name}": shape for name, shape in layer.items()})
    shapes["backbone.norm_f.weight"] = (config.d_model,)
    if not config.tie_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, config.d_model)
    return shapes


def mixer_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return every tensor of one mixer, by its name within the mixer, with its shape."""
    d_inner, d_model, d_state = config.d_inner, config.d_model, config.d_state
    mamba1 = config.arch == "mamba"
    in_rows = 2 * d_inner if mamba1 else d_inner + config.conv_dim + config.nheads
    shapes: dict[str, tuple[int, ...]] = {"in_proj.weight": (in_rows, d_model)}
    if config.proj_bias:
        shapes["in_proj.bias"] = (in_rows,)
    shapes["conv1d.weight"] = (config.conv_dim, 1, config.d_conv)
    if config.conv_bias:
        shapes["conv1d.bias"] = (config.conv_dim,)
    if mamba1:
        shapes["x_proj.weight"] = (config.dt_rank + 2 * d_state, d_inner)
        shapes["dt_proj.weight"] = (d_inner, config.dt_rank)
        shapes["dt_proj.bias"] = (d_inner,)
    else:
        shapes["dt_bias"] = (config.nheads,)
    shapes["A_log"] = config.A_shape
    shapes["D"] = (d_inner,) if mamba1 or config.D_has_hdim else (config.nheads,)
    if not mamba1 and config.rmsnorm:
        shapes["norm.weight"] = (d_inner,)
    shapes["out_proj.weight"] = (d_model, d_inner)
    if config.proj_bias:
        shapes["out_proj.bias"] = (d_model,)
    return shapes


def canonical_name(name: str, layout: Layout) -> str:
    """Return the state-spaces name of a tensor that ``layout`` spells ``name``."""
    return _EMBEDDING if layout == "transformers" and name == _EMBEDDINGS else name


def layout_name(name: str, layout: Layout) -> str:
    """Return how ``layout`` spells the tensor with this state-spaces name."""
    return _EMBEDDINGS if layout == "transformers" and name == _EMBEDDING else name


def config_json(
    config: Config,
    layout: Layout,
    *,
    bos_id: int | None = None,
    eos_id: int | None = None,
    pad_id: int | None = None,
) -> dict[str, Any]:
    """Write a configuration as the config.json that transformers or mamba_ssm accepts.

    Args:
        config: the configuration.
        layout: the dialect to write.
        bos_id: token that begins a text (transformers only, as the two below).
        eos_id: token that ends a text.
        pad_id: token that fills a batch.

    Returns:
        The JSON object.

    Raises:
        CheckpointError: if the dialect has no words for this configuration.
    """
    expand, rest = divmod(config.d_inner, config.d_model)
    if rest:
        raise CheckpointError(
            _unsayable(layout, "d_inner", f"a multiple of d_model = {config.d_model}", config.d_inner)
        )
    if layout == "state-spaces":
        return _to_state_spaces(config, expand)
    ids = {"bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": pad_id}
    return _to_transformers(config, expand) | ids


def _unsayable(layout: Layout, key: str, expected: object, got: object) -> str:
    other = "transformers" if layout == "state-spaces" else "state-spaces"
    return f"layout {layout}: {key}: expected {expected}, got {got}; write the {other} layout instead"


def _to_state_spaces(config: Config, expand: int) -> dict[str, Any]:
    if not math.isclose(config.norm_eps, 1e-5):
        raise CheckpointError(
            _unsayable("state-spaces", "norm_eps", "1e-5, which mamba_ssm has built in", config.norm_eps)
        )
    mamba1 = config.arch == "mamba"
    ssm: dict[str, Any] = {"layer": "Mamba1" if mamba1 else "Mamba2", "d_state": config.d_state}
    ssm |= {"d_conv": config.d_conv, "expand": expand, "conv_bias": config.conv_bias, "bias": config.proj_bias}
    if mamba1:
        ssm |= {"dt_rank": config.dt_rank}
    else:
        ssm |= {"headdim": config.headdim, "ngroups": config.ngroups}
        ssm |= {"D_has_hdim": config.D_has_hdim, "rmsnorm": config.rmsnorm}
        if config.dt_limit != (0.0, math.inf):
            ssm["dt_limit"] = list(config.dt_limit)
    tokens = config.tokens_in_vocab or config.vocab_size
    fits = (m for m in (8, 16, 1, config.vocab_size) if -(-tokens // m) * m == config.vocab_size)
    return {
        "d_model": config.d_model,
        "n_layer": config.n_layer,
        "vocab_size": tokens,
        "ssm_cfg": ssm,
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": next(fits),
        "tie_embeddings": config.tie_embeddings,
    }


def _to_transformers(config: Config, expand: int) -> dict[str, Any]:
    mamba1 = config.arch == "mamba"
    if not mamba1 and (config.D_has_hdim or not config.rmsnorm):
        raise CheckpointError(
            _unsayable("transformers", "D_has_hdim, rmsnorm", "false, true", (config.D_has_hdim, config.rmsnorm))
        )
    values: dict[str, Any] = {
        "architectures": ["MambaForCausalLM" if mamba1 else "Mamba2ForCausalLM"],
        "model_type": config.arch,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layer,
        "state_size": config.d_state,
        "conv_kernel": config.d_conv,
        "expand": expand,
        "layer_norm_epsilon": config.norm_eps,
        "use_bias": config.proj_bias,
        "use_conv_bias": config.conv_bias,
        "hidden_act": "silu",
        "residual_in_fp32": True,
        "tie_word_embeddings": config.tie_embeddings,
    }
    if mamba1:
        return values | {"intermediate_size": config.d_inner, "time_step_rank": config.dt_rank}
    values |= {"num_heads": config.nheads, "head_dim": config.headdim, "n_groups": config.ngroups}
    if config.dt_limit != (0.0, math.inf):
        values["time_step_limit"] = list(config.dt_limit)
    return values
