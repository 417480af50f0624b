"""Pass keys, and to which part each belongs: no key of one part is ever in another, for any seed.

A key's part follows from the key itself: the first byte of sha256 of its five digits is below 128 for training, below
192 for validation, else test. Half of the 100,000 keys are for training, a quarter each for the other two.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np

Part = Literal["train", "validation", "test"]
Variant = Literal["padded", "released"]
"""``padded``: always five digits. ``released``: one to five digits, as the released code of DeciMamba draws them."""

KEYS = 100_000
DIGITS = 5


def part_of(number: int) -> Part:
    """Return the part that a key belongs to, the same for both ways of writing it."""
    first = hashlib.sha256(f"{number:0{DIGITS}d}".encode()).digest()[0]
    return "train" if first < 128 else "validation" if first < 192 else "test"


def draw_key(rng: np.random.Generator, part: Part, variant: Variant = "padded") -> str:
    """Draw one key of a part.

    Args:
        rng: source of chance.
        part: whose key.
        variant: how it is written.

    Returns:
        The key's digits.
    """
    while True:
        number = int(rng.integers(KEYS))
        if part_of(number) == part:
            return f"{number:0{DIGITS}d}" if variant == "padded" else str(number)
