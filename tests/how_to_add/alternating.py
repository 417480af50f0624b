"""A layout to copy: Mamba-1 in every other layer, attention in the rest, and words of its own in config.json."""

from __future__ import annotations

from ..config import Config
from ..config_reader import MAX_LAYERS, ConfigReader
from .family import Family
from .layout import Kind


def kinds(reader: ConfigReader) -> tuple[Kind, ...]:
    """Return what each layer is."""
    turn: tuple[Kind, Kind] = ("mamba", "attention")
    return tuple(turn[i % 2] for i in range(reader.size("depth", most=MAX_LAYERS)))


def mixers(reader: ConfigReader, n_layer: int) -> Config:
    """Return the shape of the Mamba layers; what is missing has this family's defaults."""
    d_model = reader.size("width")
    return Config(
        arch="mamba",
        d_model=d_model,
        n_layer=n_layer,
        vocab_size=reader.size("words"),
        d_inner=reader.inner(d_model),
        d_state=reader.size("state", 16),
        dt_rank=reader.rank("rank", d_model),
    )


ALTERNATING = Family("Alternating", "mamba", "AlternatingForCausalLM", ("blocks.{i}.ssm.",), kinds, mixers)
