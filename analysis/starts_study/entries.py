"""Lines of the comparison of layer factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .scores import Score


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """One line of the comparison of layer factors: the seed that selection text chose, on test text."""

    name: str
    """What it is, in words."""
    kind: str | None
    """Kind of the layer factors; None for what is no such calibration."""
    method: str | None
    """Method."""
    label: str
    """Start, or ``none``, ``constant``, ``proposal``."""
    seed: int | None
    """Seed with the fewest selection bits."""
    seeds: int
    """Seeds that it was chosen from."""
    passes: float
    """Forward passes of one of them."""
    selection_bits: float | None
    """Selection tail bits."""
    score: Score
    """On test text."""


def best_entry(entries: Sequence[LayerEntry]) -> LayerEntry | None:
    """Return the entry with the least harm on test text, or None without entries."""
    return min(entries, key=lambda e: sum(e.score.tail), default=None)
