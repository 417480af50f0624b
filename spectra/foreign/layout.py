"""What is known of a foreign model before any of its tensors is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import Config

Kind = Literal["mamba", "attention", "attention+mamba", "mlp", "moe"]
"""What mixes the tokens in a layer; ``attention+mamba`` is a shared attention block before a Mamba layer (Zamba2)."""


@dataclass(frozen=True, slots=True)
class ForeignConfig:
    """What is known of a model with Mamba layers that is not a plain Mamba."""

    model_type: str
    """Its name in config.json."""
    name: str
    """What people call it."""
    kinds: tuple[Kind, ...]
    """What each layer is."""
    mixers: Config
    """Shape of the Mamba layers alone: ``n_layer`` counts only these."""
    prefixes: tuple[tuple[str, ...], ...]
    """For each Mamba layer what its tensors' names may begin with."""
    model_class: str
    """Class of transformers that runs it."""

    @property
    def layers(self) -> tuple[int, ...]:
        """True index of each Mamba layer."""
        return tuple(i for i, kind in enumerate(self.kinds) if "mamba" in kind)

    def words(self) -> str:
        """Return what the layers are, in words: ``Jamba: 8 layers: mamba 0-3, 5-7; attention 4``."""
        told = "; ".join(f"{kind} {_runs(self.kinds, kind)}" for kind in dict.fromkeys(self.kinds))
        return f"{self.name}: {len(self.kinds)} layers: {told}"


def _runs(kinds: tuple[Kind, ...], kind: Kind) -> str:
    found: list[list[int]] = []
    for i, each in enumerate(kinds):
        if each != kind:
            continue
        if found and found[-1][-1] == i - 1:
            found[-1][1:] = [i]
        else:
            found.append([i])
    return ", ".join("-".join(map(str, run)) for run in found)
