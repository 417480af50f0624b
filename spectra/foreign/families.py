"""The key layouts of other models with Mamba layers: which layers these are, what their tensors are called.

Each family is read from its config.json alone, in the words of that family; missing keys have the family's defaults.

Source: the configuration and modeling files of transformers 5.23 (``models/<model_type>``). Nemotron-H checkpoints
say ``backbone.`` where the class says ``model.``; both are taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import Config
from ..config_reader import MAX_LAYERS, ConfigReader
from ..errors import CheckpointError
from ..tensor_source import shown
from .family import Family
from .layout import ForeignConfig, Kind
from .refusals import WORKS, ForeignModelError, refuse_mamba3

_KINDS: dict[str, Kind] = {
    "mamba": "mamba",
    "linear_attention": "mamba",
    "attention": "attention",
    "full_attention": "attention",
    "hybrid": "attention+mamba",
    "mlp": "mlp",
    "moe": "moe",
}
"""Older and newer words of transformers."""
_PATTERN: dict[str, Kind] = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
"""Letters of Nemotron-H's ``hybrid_override_pattern``."""


def parse_foreign(raw: Mapping[str, Any], path: Path) -> ForeignConfig | None:
    """Read the config.json of a family that is known here.

    Args:
        raw: the JSON object. Code that it may point to (``auto_map``) is never fetched or run.
        path: where it comes from, for the messages.

    Returns:
        What is known of the model; None if it is of none of these families.

    Raises:
        CheckpointError: it contradicts itself or has no Mamba layer.
        NoStaticSpectrumError: it is a Mamba-3.
    """
    refuse_mamba3(raw, path)
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in _FAMILIES:
        return None
    family = _FAMILIES[model_type]
    # these libraries write null for what is left to its default
    reader = ConfigReader({key: value for key, value in raw.items() if value is not None}, path)
    kinds = family.kinds(reader)
    n_mamba = sum("mamba" in kind for kind in kinds)
    if not n_mamba:
        raise CheckpointError(reader.refuse("layers", "at least one Mamba layer", f"{len(kinds)} others"))
    mixers = family.mixers(reader, n_mamba)
    if mixers.arch == "mamba2" and mixers.nheads % mixers.ngroups:
        raise CheckpointError(reader.refuse("groups", f"a divisor of the {mixers.nheads} heads", mixers.ngroups))
    prefixes = tuple(
        tuple(p.format(i=i) for p in ((family.hybrid_prefix,) if kind == "attention+mamba" else family.prefixes))
        for i, kind in enumerate(kinds)
        if "mamba" in kind
    )
    return ForeignConfig(model_type, family.name, kinds, mixers, prefixes, family.model_class)


def refuse_foreign(reader: ConfigReader) -> None:
    """Refuse a config.json of a model that our own forward cannot run.

    Args:
        reader: the config.json.

    Raises:
        ForeignModelError: it is of a known family; the message says what works on it.
        NoStaticSpectrumError: it is a Mamba-3.
    """
    refuse_mamba3(reader.raw, reader.path)
    model_type = reader.raw.get("model_type")
    if isinstance(model_type, str) and model_type in _FAMILIES:
        raise ForeignModelError(
            reader.refuse(
                "model_type",
                "mamba or mamba2, whose forward mambascope has",
                f"{shown(model_type)} ({_FAMILIES[model_type].name})",
                f"what evaluates, diagnoses or calibrates needs that forward; {WORKS}",
            )
        )


def _listed(reader: ConfigReader, *keys: str) -> tuple[Kind, ...] | None:
    """Return the layers that one of these keys lists; None if none is there."""
    key = next((key for key in keys if key in reader.raw), None)
    if key is None:
        return None
    words = reader.raw[key]
    if not isinstance(words, list) or not 1 <= len(words) <= MAX_LAYERS:
        raise CheckpointError(reader.refuse(key, f"a list of 1 to {MAX_LAYERS} layers", shown(words)))
    for word in words:
        if not isinstance(word, str) or word not in _KINDS:
            raise CheckpointError(reader.refuse(key, " or ".join(_KINDS), shown(word), "this kind is not known yet"))
    return tuple(_KINDS[word] for word in words)


def _counted(reader: ConfigReader, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
    """Return the listed layers if there are as many as config.json counts."""
    if (n_layer := reader.size("num_hidden_layers", len(kinds), most=MAX_LAYERS)) != len(kinds):
        raise CheckpointError(reader.refuse("num_hidden_layers", f"{len(kinds)}, the layers listed", n_layer))
    return kinds


def _all_mamba(reader: ConfigReader) -> tuple[Kind, ...]:
    mamba: Kind = "mamba"
    return (mamba,) * reader.size("num_hidden_layers", 32, most=MAX_LAYERS)


def _jamba_kinds(reader: ConfigReader) -> tuple[Kind, ...]:
    period = reader.size("attn_layer_period", 8)
    offset = reader.number("attn_layer_offset", reader.raw.get("attn_layer_offset", 4))
    if offset >= period or offset != int(offset):
        raise CheckpointError(reader.refuse("attn_layer_offset", f"a whole number below {period}", offset))
    return tuple("attention" if i % period == offset else "mamba" for i in range(len(_all_mamba(reader))))


def _zamba2_kinds(reader: ConfigReader) -> tuple[Kind, ...]:
    kinds = _listed(reader, "layers_block_type", "layer_types")
    if kinds is None:
        raise CheckpointError(reader.refuse("layers_block_type", "the list of layers", "none"))
    return _counted(reader, kinds)


def _bamba_kinds(reader: ConfigReader) -> tuple[Kind, ...]:
    n_layer, at = len(_all_mamba(reader)), reader.raw.get("attn_layer_indices", [])
    if not isinstance(at, list) or not all(type(i) is int and 0 <= i < n_layer for i in at):
        raise CheckpointError(reader.refuse("attn_layer_indices", f"a list of layers 0 to {n_layer - 1}", shown(at)))
    return tuple("attention" if i in at else "mamba" for i in range(n_layer))


def _nemotron_kinds(reader: ConfigReader) -> tuple[Kind, ...]:
    kinds = _listed(reader, "layers_block_type", "layer_types")
    if kinds is not None:
        return kinds  # num_hidden_layers is not read beside it
    pattern = reader.raw.get("hybrid_override_pattern")
    if not isinstance(pattern, str) or not 1 <= len(pattern) <= MAX_LAYERS or not set(pattern) <= set(_PATTERN):
        raise CheckpointError(
            reader.refuse("hybrid_override_pattern", "one of M, *, - and E for each layer", shown(pattern))
        )
    return tuple(_PATTERN[letter] for letter in pattern)


def _granite_kinds(reader: ConfigReader) -> tuple[Kind, ...]:
    kinds = _listed(reader, "layer_types", "layers_block_type")
    return _all_mamba(reader) if kinds is None else _counted(reader, kinds)


def _falcon_mixers(reader: ConfigReader, n_layer: int) -> Config:
    d_model = reader.size("hidden_size", 768)
    inner = "intermediate_size" in reader.raw  # the published model has it and an expand that does not fit
    return Config(
        arch="mamba",
        d_model=d_model,
        n_layer=n_layer,
        vocab_size=reader.size("vocab_size", 50280),
        d_inner=reader.size("intermediate_size") if inner else reader.inner(d_model),
        d_state=reader.size("state_size", 16),
        d_conv=reader.size("conv_kernel", 4),
        dt_rank=reader.rank("time_step_rank", d_model),
        norm_eps=reader.epsilon("layer_norm_epsilon"),
        conv_bias=reader.flag("use_conv_bias", True),
        proj_bias=reader.flag("use_bias", False),
    )


def _jamba_mixers(reader: ConfigReader, n_layer: int) -> Config:
    d_model = reader.size("hidden_size", 4096)
    return Config(
        arch="mamba",
        d_model=d_model,
        n_layer=n_layer,
        vocab_size=reader.size("vocab_size", 65536),
        d_inner=reader.inner(d_model, "mamba_expand"),
        d_state=reader.size("mamba_d_state", 16),
        d_conv=reader.size("mamba_d_conv", 4),
        dt_rank=reader.rank("mamba_dt_rank", d_model),
        norm_eps=reader.epsilon("rms_norm_eps", 1e-6),
        conv_bias=reader.flag("mamba_conv_bias", True),
        proj_bias=reader.flag("mamba_proj_bias", False),
    )


def _headed(d_inner: int, nheads: int, reader: ConfigReader, key: str, head_key: str) -> int:
    """Return the head size, from the heads or from its own key."""
    headdim = d_inner // nheads if reader.raw.get(head_key, "auto") == "auto" else reader.size(head_key)
    if nheads * headdim != d_inner:
        raise CheckpointError(reader.refuse(key, f"heads of {headdim} that make {d_inner} channels", nheads))
    return headdim


def _zamba2_mixers(reader: ConfigReader, n_layer: int) -> Config:
    d_model = reader.size("hidden_size", 2560)
    d_inner = reader.inner(d_model, "mamba_expand")
    return Config(
        arch="mamba2",
        d_model=d_model,
        n_layer=n_layer,
        vocab_size=reader.size("vocab_size", 32000),
        d_inner=d_inner,
        d_state=reader.size("mamba_d_state", 64),
        d_conv=reader.size("mamba_d_conv", 4),
        headdim=_headed(d_inner, reader.size("n_mamba_heads", 8), reader, "n_mamba_heads", "mamba_headdim"),
        ngroups=reader.size("mamba_ngroups", 1),
        dt_limit=(reader.number("time_step_min", reader.raw.get("time_step_min", 0.001)), math.inf),
        proj_bias=reader.flag("add_bias_linear", False),
    )


def _bamba_mixers(reader: ConfigReader, n_layer: int) -> Config:
    """Read the words that Bamba and Granite hybrids share."""
    d_model, bamba = reader.size("hidden_size", 4096), reader.raw["model_type"] == "bamba"
    d_inner = reader.inner(d_model, "mamba_expand")
    return Config(
        arch="mamba2",
        d_model=d_model,
        n_layer=n_layer,
        vocab_size=reader.size("vocab_size", 128000 if bamba else 32000),
        d_inner=d_inner,
        d_state=reader.size("mamba_d_state", 256),
        d_conv=reader.size("mamba_d_conv", 4),
        headdim=_headed(d_inner, reader.size("mamba_n_heads", 128), reader, "mamba_n_heads", "mamba_d_head"),
        ngroups=reader.size("mamba_n_groups", 1),
        norm_eps=reader.epsilon("rms_norm_eps", 1e-5 if bamba else 1e-6),
        dt_limit=reader.interval("time_step_limit"),
        conv_bias=reader.flag("mamba_conv_bias", True),
        proj_bias=reader.flag("mamba_proj_bias", False),
    )


def _nemotron_mixers(reader: ConfigReader, n_layer: int) -> Config:
    def key(name: str, older: str) -> str:
        return older if older in reader.raw else name

    headdim, least = reader.size("mamba_head_dim", 64), key("time_step_min", "mamba_dt_min")
    return Config(
        arch="mamba2",
        d_model=reader.size("hidden_size", 4096),
        n_layer=n_layer,
        vocab_size=reader.size("vocab_size", 131072),
        d_inner=reader.size("mamba_num_heads", 128, most=2**14) * headdim,
        d_state=reader.size("ssm_state_size", 128),
        d_conv=reader.size(key("conv_kernel", "mamba_d_conv"), 4),
        headdim=headdim,
        ngroups=reader.size(key("n_groups", "mamba_n_groups"), 8),
        norm_eps=reader.epsilon("layer_norm_epsilon"),
        dt_limit=(reader.number(least, reader.raw.get(least, 0.001)), math.inf),
        conv_bias=reader.flag(key("use_conv_bias", "mamba_conv_bias"), True),
        proj_bias=reader.flag("use_bias", False),
    )


_INNER = ("model.layers.{i}.mamba.",)
_FAMILIES: dict[str, Family] = {
    "falcon_mamba": Family(
        "FalconMamba", "mamba", "FalconMambaForCausalLM", ("backbone.layers.{i}.mixer.",), _all_mamba, _falcon_mixers
    ),
    "jamba": Family("Jamba", "mamba", "JambaForCausalLM", _INNER, _jamba_kinds, _jamba_mixers),
    "zamba2": Family(
        "Zamba2", "mamba2", "Zamba2ForCausalLM", _INNER, _zamba2_kinds, _zamba2_mixers,
        "model.layers.{i}.mamba_decoder.mamba.",
    ),
    "bamba": Family("Bamba", "mamba2", "BambaForCausalLM", _INNER, _bamba_kinds, _bamba_mixers),
    "nemotron_h": Family(
        "Nemotron-H", "mamba2", "NemotronHForCausalLM", ("backbone.layers.{i}.mixer.", "model.layers.{i}.mixer."),
        _nemotron_kinds, _nemotron_mixers,
    ),
    "granitemoehybrid": Family(
        "Granite hybrid", "mamba2", "GraniteMoeHybridForCausalLM", _INNER, _granite_kinds, _bamba_mixers
    ),
}  # fmt: skip
"""By ``model_type``."""
FAMILY_ARCHITECTURES = {model_type: family.arch for model_type, family in _FAMILIES.items()}
"""Which Mamba the layers of a family are."""
