"""Bits per token and perplexity by length, against a control that cannot break down.

One pass over the longest length gives every shorter one as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mambascope.spectra.dynamics import Intervention
from mambascope.spectra.errors import TextError
from mambascope.spectra.html_table import html_table
from mambascope.spectra.model import Model, Tokens

from .bits import Floats, block_bits, fresh_window_bits, stream_bits, token_bits
from .curve import CurveRow
from .pairs import PairRow
from .passages import Passages, stack_documents
from .position_sums import edges_for, score, score_fresh
from .rows import PerplexityRow, rows_by_length, rows_of
from .table_text import pairs_text, perplexity_text

__all__ = [
    "Floats",
    "Perplexity",
    "PerplexityRow",
    "block_bits",
    "fresh_window_bits",
    "perplexity",
    "rows_by_length",
    "rows_of",
    "stack_documents",
    "stream_bits",
    "token_bits",
]


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Rows of one or more methods."""

    rows: tuple[PerplexityRow, ...]
    """One row a method and length."""
    pairs: tuple[PairRow, ...] = ()
    """Each other method against a reference, one row a method and length."""

    curve: tuple[CurveRow, ...] = ()
    """Each method by position."""

    def _repr_html_(self) -> str:
        return html_table([row.to_dict() for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: [row.to_dict() for row in getattr(self, name)] for name in ("rows", "pairs", "curve")}

    def __str__(self) -> str:
        return perplexity_text(self.rows) + (f"\n\n{pairs_text(self.pairs)}" if self.pairs else "")


def perplexity(
    model: Model,
    tokens: Tokens,
    *,
    lengths: Sequence[int],
    scales: Intervention | None = None,
    name: str | None = None,
    train_length: int | None = None,
) -> Perplexity:
    """Evaluate a model, scaled or not, at several lengths from one pass.

    Args:
        model: a loaded model.
        tokens: ids, (documents, length), at least as long as the longest length.
        lengths: tokens to read of each document.
        scales: what the model runs with.
        name: name of the method in the rows. Default: ``none`` without scales, else ``scales``.
        train_length: T; where given, the fresh-window control runs too and every row has its harm.

    Returns:
        One row a length, the control's rows last.

    Raises:
        TextError: a length is not within the text, or below 2.
    """
    if not lengths or min(lengths) < 2 or max(lengths) > tokens.shape[1]:
        raise TextError(f"lengths {list(lengths)}: expected 2 to {tokens.shape[1]}, what the documents hold")
    passages, edges = Passages.of_tokens(tokens), edges_for(lengths)
    sums = score(model, passages, edges, scales)
    control = score_fresh(model, passages, edges, train_length) if train_length else None
    rows = rows_of(name or ("scales" if scales else "none"), sums, passages, lengths, control)
    if control is not None:
        rows += rows_of("fresh-window", control, passages, lengths, control)
    return Perplexity(tuple(rows))
