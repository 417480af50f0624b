"""Typed reading of a config.json whose types nobody vouches for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import CheckpointError
from .tensor_source import shown, told

LARGEST = 2**24
"""No size of a real model reaches it; a hostile one must not fill the memory with names of tensors."""
MAX_LAYERS = 4096


class ConfigReader:
    """One JSON object and where it comes from; what it holds of another type is refused by its key."""

    def __init__(self, raw: Mapping[str, Any], path: Path) -> None:
        self.raw = raw
        self.path = path

    def refuse(self, key: str, expected: object, got: object, todo: str = "correct config.json") -> str:
        """Return the message that refuses the value of a key."""
        return told(self.path, key, expected, got, todo)

    def size(self, key: str, default: int | None = None, most: int = LARGEST) -> int:
        """Return a whole number from 1 to ``most``; anything else is a ``CheckpointError``."""
        value = self.raw.get(key, default)
        if type(value) is not int or not 1 <= value <= most:
            raise CheckpointError(self.refuse(key, f"an integer from 1 to {most}", shown(value)))
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false; anything else is a ``CheckpointError``."""
        value = self.raw.get(key, default)
        if not isinstance(value, bool):
            raise CheckpointError(self.refuse(key, "true or false", shown(value)))
        return value

    def must_be(self, key: str, *allowed: object) -> None:
        """Refuse every value but those allowed, of which the first stands for an absent key."""
        value = self.raw.get(key, allowed[0])
        if value not in allowed:
            raise CheckpointError(
                self.refuse(key, " or ".join(map(repr, allowed)), shown(value), "this kind is not supported yet")
            )

    def number(self, key: str, value: Any) -> float:
        """Return a value as a number of at least 0, infinity included; anything else is a ``CheckpointError``."""
        if isinstance(value, Mapping):  # transformers writes infinity as {"__float__": "Infinity"}
            value = value.get("__float__")
        if isinstance(value, str) and value in {"inf", "Infinity"}:
            return math.inf
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise CheckpointError(self.refuse(key, "a number >= 0", shown(value)))
        return float(min(value, 1e300)) if value != math.inf else math.inf

    def interval(self, key: str) -> tuple[float, float]:
        """Return a lower and a higher number; 0 and infinity where the key is absent."""
        value = self.raw.get(key, (0.0, math.inf))
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise CheckpointError(self.refuse(key, "two numbers", shown(value)))
        low, high = (self.number(key, bound) for bound in value)
        if not low < high:
            raise CheckpointError(self.refuse(key, "a lower and a higher number", shown(value)))
        return low, high

    def inner(self, d_model: int, key: str = "expand") -> int:
        """Return the inner channels, a factor (2 where the key is absent) times ``d_model``."""
        expand = self.number(key, self.raw.get(key, 2))
        d_inner = expand * d_model
        if not 1 <= d_inner <= LARGEST or d_inner != int(d_inner):
            raise CheckpointError(
                self.refuse(key, f"a factor that makes {d_model} channels a whole number", shown(expand))
            )
        return int(d_inner)

    def rank(self, key: str, d_model: int) -> int:
        """Return the rank of the step size's projection; ``auto`` and an absent key are a sixteenth of ``d_model``."""
        return math.ceil(d_model / 16) if self.raw.get(key, "auto") == "auto" else self.size(key)

    def epsilon(self, key: str, default: float = 1e-5) -> float:
        """Return the epsilon of a norm."""
        eps = self.number(key, self.raw.get(key, default))
        if not 0 < eps < 1:
            raise CheckpointError(self.refuse(key, "a number between 0 and 1", eps))
        return eps
