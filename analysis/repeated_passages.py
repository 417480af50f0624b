"""What a model still knows of a passage it has read: bits saved on its second reading, by how far back the first was.

No recall model is needed: a passage P of another book, then running text, then P again; against the same text with a
different passage in place of the first P. A small model copies little, but what it saves comes out of its states alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mambascope.spectra.dynamics import Intervention
from mambascope.spectra.errors import TextError
from mambascope.spectra.model import Model
from mambascope.spectra.tokens import Document

from .evaluate.perplexity import token_bits

PASSAGE_TOKENS = 48
"""Length of a passage. Ours."""
LEAD_TOKENS = 8
"""Tokens of the second reading that are not scored: they tell the model which passage it is."""


@dataclass(frozen=True, slots=True)
class RepeatedPassages:
    """Pairs of texts that differ in the passage at their start alone."""

    gap_tokens: int
    """From the first reading of a passage to the second."""
    repeated: npt.NDArray[np.integer]
    """Ids, (pairs, gap + passage): the passage stands at the start and at the end."""
    other: npt.NDArray[np.integer]
    """The same with another passage at the start."""


def repeated_passages(documents: Sequence[Document], gap_tokens: int, pairs: int, seed: int) -> RepeatedPassages:
    """Make pairs of texts; passages and the text between them are from different documents.

    Args:
        documents: at least two, each longer than the gap.
        gap_tokens: from reading to reading, at least a passage.
        pairs: how many.
        seed: of the places.

    Returns:
        The pairs.

    Raises:
        TextError: too little text.
    """
    P = PASSAGE_TOKENS
    usable = [d.ids for d in documents if len(d) >= max(gap_tokens, 4 * P) + 1]
    if len(usable) < 2 or gap_tokens < P:
        raise TextError(f"passages {gap_tokens} tokens apart need two documents longer than that and a gap of {P}")
    rng = np.random.Generator(np.random.Philox(key=seed))
    rows = []
    for k in range(pairs):
        between, source = usable[k % len(usable)], usable[(k + 1) % len(usable)]
        start = int(rng.integers(0, len(between) - (gap_tokens - P)))
        first = int(rng.integers(0, len(source) - 3 * P))
        passage, other = source[first : first + P], source[first + 2 * P : first + 3 * P]
        text = between[start : start + gap_tokens - P]
        rows.append((np.concatenate([passage, text, passage]), np.concatenate([other, text, passage])))
    return RepeatedPassages(gap_tokens, np.stack([a for a, _ in rows]), np.stack([b for _, b in rows]))


def bits_saved(model: Model, passages: RepeatedPassages, scales: Intervention | None = None) -> tuple[float, float]:
    """Return how many bits a token a first reading saves on the second.

    Args:
        model: a loaded model.
        passages: from ``repeated_passages``.
        scales: what the model runs with.

    Returns:
        Mean over pairs, and its standard error.
    """
    scored = slice(LEAD_TOKENS - PASSAGE_TOKENS, None)
    known, new = (token_bits(model, ids, scales)[:, scored].mean(1) for ids in (passages.repeated, passages.other))
    saved = new - known
    return float(saved.mean()), float(saved.std(ddof=1) / np.sqrt(len(saved)))
