"""What a comparison says of one method on one corpus at one length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .compare_cells import Cut, Scored
from .evaluate.bits import Floats
from .evaluate.intervals import interval, paired
from .methods import Fitted
from .methods.plain import FRESH


@dataclass(frozen=True, slots=True)
class CompareRow:
    """One method on one corpus at one length; intervals are 95 % over documents, None for fewer than two of them."""

    corpus: str
    """Name of the corpus."""
    method: str
    """Name of the method."""
    length: int
    """Tokens that the model read."""
    factor: float | None
    """The factor, where one constant was chosen for this length."""
    bits: float | None
    """Bits per token over all scored tokens; None, as all that follows, where the run broke down numerically, and where
    a method gives losses for the last tokens alone."""
    perplexity: float | None
    """exp of the mean loss, documents weighing the same; None where it overflows."""
    tail_bits: float | None
    """Bits per token over the second half."""
    last_bits: float | None
    """Bits per token over the last 100 tokens, which every method has."""
    harm: float | None
    """Tail bits less the fresh-window control's."""
    harm_low: float | None
    """Lower end of its interval."""
    harm_high: float | None
    """Upper end."""
    difference: float | None
    """Tail bits less the reference's, on the same documents: above 0, the reference is better."""
    difference_low: float | None
    """Lower end of its interval."""
    difference_high: float | None
    """Upper end."""
    difference_p: float | None
    """p-value of sign flips over documents."""
    last_harm: float | None
    """Bits of the last 100 tokens less the fresh-window control's."""
    last_harm_low: float | None
    """Lower end of its interval."""
    last_harm_high: float | None
    """Upper end."""
    last_difference: float | None
    """Bits of the last 100 tokens less the reference's, on the same documents."""
    last_difference_low: float | None
    """Lower end of its interval."""
    last_difference_high: float | None
    """Upper end."""
    last_difference_p: float | None
    """p-value of sign flips over documents."""
    inside: float | None
    """Bits per token of fresh windows of T tokens, less the unscaled model's: what is lost inside the training length.
    Over their last 100 tokens where a method gives no other losses. None for the control."""
    inside_low: float | None
    """Lower end of its interval."""
    inside_high: float | None
    """Upper end."""
    documents: int
    """Documents of the cell."""
    passages: int
    """Passages cut from them."""
    passes: float
    """What fitting cost, in forward passes over one window of the fit length."""
    bakes: str
    """``yes``, or why the scales cannot become weights."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


Ends = tuple[float | None, float | None, float | None, float | None]
_NONE: Ends = (None, None, None, None)


def difference(one: Floats, other: Floats) -> Ends:
    """Return mean, interval and p-value of a difference by document; nothing where one side has no numbers."""
    if not len(one) or not len(other):
        return _NONE
    found = paired(one, other)
    return found.mean, found.low, found.high, found.p


def _mean(values: Floats) -> float | None:
    return interval(values).mean if len(values) else None


def make_row(
    cut: Cut, fitted: Fitted, length: int, scored: Scored, control: Scored, reference: Scored, unscaled: Scored
) -> CompareRow:
    """Summarise one method at one length.

    Args:
        cut: the passages.
        fitted: the method.
        length: which length.
        scored: the method's bits with the scales for this length.
        control: those of the fresh-window control.
        reference: those of the method that differences are taken to.
        unscaled: those of the model as it is.

    Returns:
        The row.
    """
    nothing = np.empty(0)

    def read(bits: Callable[[Scored, int], Floats], of: Scored) -> Floats:
        return bits(of, length) if of.finite else nothing

    whole, tail, last = (_mean(read(bits, scored)) for bits in (cut.whole, cut.tail, cut.last))
    harm, last_harm = (difference(read(bits, scored), read(bits, control)) for bits in (cut.tail, cut.last))
    against, last_against = (difference(read(bits, scored), read(bits, reference)) for bits in (cut.tail, cut.last))
    inside = _NONE if fitted.method == FRESH else _lost(cut, scored, unscaled)
    scales = fitted.at(length)
    factor = float(scales.factors[0].values) if scales is not None and fitted.by_length else None
    return CompareRow(
        corpus=cut.corpus,
        method=fitted.method,
        length=length,
        factor=factor,
        bits=whole,
        perplexity=None if whole is None or whole >= 1024 else 2**whole,
        tail_bits=tail,
        last_bits=last,
        harm=harm[0],
        harm_low=harm[1],
        harm_high=harm[2],
        difference=against[0],
        difference_low=against[1],
        difference_high=against[2],
        difference_p=against[3],
        last_harm=last_harm[0],
        last_harm_low=last_harm[1],
        last_harm_high=last_harm[2],
        last_difference=last_against[0],
        last_difference_low=last_against[1],
        last_difference_high=last_against[2],
        last_difference_p=last_against[3],
        inside=inside[0],
        inside_low=inside[1],
        inside_high=inside[2],
        documents=cut.passages.documents,
        passages=len(cut.passages),
        passes=fitted.passes,
        bakes=fitted.bakes,
    )


def _lost(cut: Cut, scored: Scored, unscaled: Scored) -> Ends:
    """Return what a method loses inside the training length, on the tokens for which it gives losses."""
    if not (scored.finite and unscaled.finite):
        return _NONE
    last = not len(cut.inside(scored))
    return difference(cut.inside(scored, last=last), cut.inside(unscaled, last=last))
