"""Test text under given scales, document by document, and differences between two points on the same documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambascope.spectra.dynamics import Intervention
from mambascope.spectra.model import Model

from ..evaluate.bits import fresh_window_bits, token_bits
from ..evaluate.intervals import Interval, interval
from ..evaluate.position_sums import PositionSums, edges_for
from .plan import StartsPlan

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Score:
    """Bits per token of each test document."""

    inside: tuple[float, ...]
    """First T tokens: what scales cost where nothing is out of range."""
    tail: tuple[float, ...]
    """Second half of the first L tokens."""
    far: tuple[float, ...]
    """Second half of the far length, of the documents that reach it; empty where it was not read."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Score:
        """Make a score from ``to_dict``."""
        return cls(*(tuple(stored[name]) for name in ("inside", "tail", "far")))


def less(a: Sequence[float], b: Sequence[float]) -> Interval | None:
    """Return the paired difference a - b over documents; None where one of them was not measured."""
    if not len(a) or not len(b):
        return None
    return interval(np.array(a) - np.array(b))


def cut_documents(documents: Sequence[Ids], plan: StartsPlan, *, far: bool = True) -> list[Ids]:
    """Cut test documents to where they are read.

    Args:
        documents: ids of each.
        plan: T, L and the far length.
        far: False to stop at L.

    Returns:
        Batches of equal length, (documents, tokens): those that reach the far length first, then those that reach L.
    """
    L, reach = plan.target_length, plan.far_length if far else None
    usable = [ids for ids in documents if len(ids) >= L]
    long = [reach is not None and len(ids) >= reach for ids in usable]
    parts = [
        [ids[:reach] for ids, is_long in zip(usable, long, strict=True) if is_long],
        [ids[:L] for ids, is_long in zip(usable, long, strict=True) if not is_long],
    ]
    return [np.stack(part) for part in parts if part]


def score(model: Model, batches: Sequence[Ids], scales: Intervention | None, plan: StartsPlan) -> Score:
    """Score test documents.

    Args:
        model: a loaded model.
        batches: from ``cut_documents``.
        scales: what the model runs with.
        plan: T, L and the far length.

    Returns:
        Bits of each document.
    """
    return summed([token_bits(model, ids, scales) for ids in batches], plan)


def control_score(model: Model, batches: Sequence[Ids], plan: StartsPlan) -> Score:
    """Score test documents with states that are never older than T."""
    return summed([fresh_window_bits(model, ids, plan.train_length) for ids in batches], plan)


def summed(parts: Sequence[Floats], plan: StartsPlan) -> Score:
    """Reduce token bits, entry k for token k + 1, to the three means of each document."""
    inside: list[float] = []
    near: list[float] = []
    beyond: list[float] = []
    for bits in parts:
        length, far = bits.shape[1] + 1, plan.far_length
        lengths = [plan.train_length, plan.target_length, *([far] if far is not None and far <= length else [])]
        sums = PositionSums.of_bits(bits, edges_for(lengths))
        inside += sums.whole(plan.train_length).tolist()
        near += sums.tail(plan.target_length).tolist()
        beyond += sums.tail(lengths[2]).tolist() if len(lengths) > 2 else []
    return Score(tuple(inside), tuple(near), tuple(beyond))
