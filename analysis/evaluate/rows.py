"""One row a method and length, by three protocols, each a mean over documents.

All tokens of the length but the first; its second half, the *tail*, where *harm* is read (tail bits of a method less
those of the fresh-window control); its last 100 tokens. Perplexity is exp(mean over documents of the mean negative
log-likelihood). A document counts once, however many passages it has; intervals are over documents.
Source: the perplexity protocols of Mamba Modulation (all tokens) and DeciMamba (last 100).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .bits import Floats
from .intervals import by_document, interval, paired
from .passages import Ints, Passages
from .position_sums import LAST, PositionSums, edges_for


@dataclass(frozen=True, slots=True)
class PerplexityRow:
    """One method at one length."""

    method: str
    """Name of the method."""
    length: int
    """Tokens of each passage that the model read."""
    bits_per_token: float | None
    """Mean over all scored tokens (all but the first); None, as the tail's, where a method drops tokens on the way."""
    tail_bits_per_token: float | None
    """Mean over the positions from length/2 on."""
    perplexity: float | None
    """2 ** bits_per_token; None where that overflows."""
    tokens: int
    """Tokens scored, over all passages."""
    documents: int
    """Documents that reach the length."""
    ci_low: float | None
    """Lower end of the 95 % interval of bits_per_token over documents; None for fewer than two."""
    ci_high: float | None
    """Upper end."""
    harm: float | None = None
    """Tail bits less the control's, where the control was run."""
    harm_ci_low: float | None = None
    """Lower end of the 95 % interval of the paired differences over documents."""
    harm_ci_high: float | None = None
    """Upper end."""
    last_bits_per_token: float | None = None
    """Mean over the last 100 tokens."""
    last_perplexity: float | None = None
    """2 ** last_bits_per_token; None where that overflows."""
    passages: int = 0
    """Passages behind it; as many as documents unless there are several starts."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def rows_by_length(
    method: str, bits: Floats, lengths: Sequence[int], control: Floats | None, document: Ints | None = None
) -> list[PerplexityRow]:
    """Summarise token bits at several lengths.

    Args:
        method: name to put into the rows.
        bits: (passages, longest length - 1) from ``token_bits``.
        lengths: lengths to report, each at least 2 and within the bits.
        control: bits of the fresh-window control on the same tokens, for the harm.
        document: index of the document of each passage. Default: each is a document of its own.

    Returns:
        One row a length.
    """
    edges = edges_for(lengths)
    of_control = None if control is None else PositionSums.of_bits(control, edges)
    index = np.arange(len(bits)) if document is None else document
    return rows_of(method, PositionSums.of_bits(bits, edges), index, lengths, of_control)


def rows_of(
    method: str, sums: PositionSums, passages: Passages | Ints, lengths: Sequence[int], control: PositionSums | None
) -> list[PerplexityRow]:
    """Summarise sums of bits at several lengths.

    Args:
        method: name to put into the rows.
        sums: from ``score``.
        passages: what was scored, or the index of the document of each passage.
        lengths: lengths to report, among those the sums' edges were made for.
        control: sums of the fresh-window control on the same passages, for the harm.

    Returns:
        One row a length.
    """
    return [_row(method, sums, passages, length, control) for length in lengths]


def _row(
    method: str, sums: PositionSums, passages: Passages | Ints, length: int, control: PositionSums | None
) -> PerplexityRow:
    read = int((~np.isnan(sums.last(length))).sum())
    of_documents = by_document(sums.whole(length), passages)
    whole = interval(of_documents) if len(of_documents) else None
    tail, last = (by_document(of(length), passages) for of in (sums.tail, sums.last))
    harm = None if control is None or whole is None else paired(tail, by_document(control.tail(length), passages))
    return PerplexityRow(
        method=method,
        length=length,
        bits_per_token=whole.mean if whole else None,
        tail_bits_per_token=float(tail.mean()) if whole else None,
        perplexity=_power(whole.mean) if whole else None,
        tokens=read * (length - 1 if whole else min(LAST, length - 1)),
        documents=interval(last).documents,
        ci_low=whole.low if whole else None,
        ci_high=whole.high if whole else None,
        harm=harm.mean if harm else None,
        harm_ci_low=harm.low if harm else None,
        harm_ci_high=harm.high if harm else None,
        last_bits_per_token=float(last.mean()),
        last_perplexity=_power(float(last.mean())),
        passages=read,
    )


def _power(bits: float) -> float | None:
    return 2**bits if bits < 1024 else None
