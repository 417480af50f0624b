"""How one family of models with Mamba layers is read: all that its config.json and its tensors' names mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..config import Arch, Config
from ..config_reader import ConfigReader
from .layout import Kind


@dataclass(frozen=True, slots=True)
class Family:
    """How one family is read."""

    name: str
    """What people call it."""
    arch: Arch
    """Which Mamba its layers are."""
    model_class: str
    """Class of transformers that runs it."""
    prefixes: tuple[str, ...]
    """What the names of a Mamba layer's tensors may begin with; ``{i}`` is its true index."""
    kinds: Callable[[ConfigReader], tuple[Kind, ...]]
    """From config.json, what each layer is."""
    mixers: Callable[[ConfigReader, int], Config]
    """From config.json and the number of Mamba layers, their shape."""
    hybrid_prefix: str = ""
    """Like ``prefixes``, of an ``attention+mamba`` layer."""
