"""Do weights and config.json describe the same model, and is a tensor finite?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from .config import Config
from .errors import CheckpointError
from .layouts import Layout, canonical_name, expected_tensors, layout_name
from .tensor_source import TensorFile, shown, told

_HEAD = "lm_head.weight"
_EMBEDDING = "backbone.embedding.weight"
_SHOWN = 3
"""Tensors named in one message; the rest are counted."""


def check_tensors(config: Config, layout: Layout, sources: Mapping[str, TensorFile], where: Path) -> None:
    """Compare names, shapes and types with the configuration; raise one error with the first few differences."""
    expected = expected_tensors(config)
    optional = {_HEAD: expected[_EMBEDDING]} if config.tie_embeddings else {}
    named = {canonical_name(name, layout): name for name in sources}
    faults = [
        f"{layout_name(name, layout)} {list(shape)}: missing" for name, shape in expected.items() if name not in named
    ]
    allowed = expected | optional
    for name, stored_name in named.items():
        entry = sources[stored_name].entries[stored_name]
        place = f"{shown(stored_name)} in {sources[stored_name].path.name}"
        if name not in allowed:
            faults.append(f"{place}: unexpected")
        elif entry.shape != allowed[name]:
            faults.append(f"{place}: expected shape {list(allowed[name])}, got {list(entry.shape)}")
        elif not entry.dtype.is_floating_point:
            faults.append(f"{place}: expected float16, bfloat16, float32 or float64, got {entry.dtype}")
    if len(named) < len(sources):
        faults.append("the embedding is there under both of its names")
    if faults:
        more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise CheckpointError(
            f"{where}: config.json ({layout}, {config.arch}) and the weights differ: "
            f"{'; '.join(faults[:_SHOWN])}{more}; {_hint(config, layout, set(sources))}"
        )


def _hint(config: Config, layout: Layout, names: set[str]) -> str:
    """Say what to do about weights that do not fit, where their names tell."""
    other: Layout = "state-spaces" if layout == "transformers" else "transformers"
    if {layout_name(name, other) for name in expected_tensors(config)} <= names:
        return f"the weights are in the {other} layout: take the config.json that came with them"
    if any(name.startswith("layers.") for name in names):
        return "the names lack 'backbone.': save the language model (with its head), not its inner part"
    first = {name.removeprefix("backbone.layers.0.mixer.") for name in names}
    looks = "mamba" if "x_proj.weight" in first else "mamba2" if "dt_bias" in first else config.arch
    if looks != config.arch:
        return f"the weights look like {looks}: take the config.json that came with them"
    return "take config.json and the weights from one download"


def check_finite(tensor: torch.Tensor, name: str, path: Path, expected: str = "a finite number") -> None:
    """Raise a CheckpointError that names layer and index if a tensor holds NaN or infinity."""
    if not tensor.numel():
        return
    low, high = torch.aminmax(tensor)  # carries NaN and infinity, and makes no mask as large as the tensor
    if torch.isfinite(low) and torch.isfinite(high):
        return
    bad = (~torch.isfinite(tensor)).nonzero()
    layer = re.match(r"backbone\.layers\.(\d+)\.", name)
    place = f"layer {layer[1]}, {name}" if layer else name
    first = bad[0].tolist()
    raise CheckpointError(
        told(
            path,
            f"{place}, index {first}",
            expected,
            f"{tensor[tuple(first)].item()} ({len(bad)} in this tensor)",
        )
    )
