"""What a comparison says: one row a corpus, method and length, and in words who is ahead and by how much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .compare_cells import Cut, Scored
from .evaluate.bits import Floats
from .evaluate.intervals import by_document, interval, paired
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
    """Bits per token over all scored tokens; None, as all that follows, where the run broke down numerically."""
    perplexity: float | None
    """exp of the mean loss, documents weighing the same; None where it overflows."""
    tail_bits: float | None
    """Bits per token over the second half."""
    last_bits: float | None
    """Bits per token over the last 100 tokens."""
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
    inside: float | None
    """Bits per token of fresh windows of T tokens, less the unscaled model's: what is lost inside the training length.
    None for the control."""
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


def _less(bits: Callable[[Scored, int], Floats], one: Scored, other: Scored, length: int) -> Ends:
    """Return mean, interval and p-value of a difference by document; nothing where a state broke down."""
    if not (one.finite and other.finite):
        return _NONE
    found = paired(bits(one, length), bits(other, length))
    return found.mean, found.low, found.high, found.p


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
    usable = scored.finite
    whole = interval(by_document(scored.sums.whole(length), cut.passages)).mean if usable else None
    harm = _less(cut.tail, scored, control, length)
    against = _less(cut.tail, scored, reference, length)
    inside = _NONE if fitted.method == FRESH else _less(lambda of, _: cut.inside(of), scored, unscaled, length)
    scales = fitted.at(length)
    factor = float(scales.factors[0].values) if scales is not None and fitted.by_length else None
    return CompareRow(
        corpus=cut.corpus,
        method=fitted.method,
        length=length,
        factor=factor,
        bits=whole,
        perplexity=None if whole is None or whole >= 1024 else 2**whole,
        tail_bits=float(cut.tail(scored, length).mean()) if usable else None,
        last_bits=float(by_document(scored.sums.last(length), cut.passages).mean()) if usable else None,
        harm=harm[0],
        harm_low=harm[1],
        harm_high=harm[2],
        difference=against[0],
        difference_low=against[1],
        difference_high=against[2],
        difference_p=against[3],
        inside=inside[0],
        inside_low=inside[1],
        inside_high=inside[2],
        documents=cut.passages.documents,
        passages=len(cut.passages),
        passes=fitted.passes,
        bakes=fitted.bakes,
    )


def verdict(rows: Sequence[CompareRow], reference: str) -> str:
    """Say who is ahead in one corpus at one length.

    Args:
        rows: one a method, all of one corpus and length.
        reference: the method that differences are taken to.

    Returns:
        One or two sentences.
    """
    usable = [(row.tail_bits, row) for row in rows if row.method != FRESH and row.tail_bits is not None]
    where = f"{rows[0].corpus}, {rows[0].length} tokens ({rows[0].documents} documents)"
    if not usable:
        return f"{where}: every method broke down numerically."
    best = min(usable, key=lambda pair: pair[0])[1]
    told = f"{where}: {best.method} has the fewest tail bits, {best.tail_bits:.4f}"
    if best.harm is not None:
        told += f", {_signed(best.harm, best.harm_low, best.harm_high)} against the fresh-window control"
    others = [row for _, row in sorted(usable, key=lambda pair: pair[0]) if row.method not in {best.method, reference}]
    if best.method != reference:
        told += f"; {_against(best, reference)}"
    elif others:
        told += f". Next is {others[0].method}, {_against(others[0], reference)}"
    constants = [row for row in others if row.method.startswith("constant:")]
    if constants and (best.method != reference or constants[0] is not others[0]):
        told += f". Next constant: {constants[0].method}, {_against(constants[0], reference)}"
    return f"{told}."


def _signed(mean: float, low: float | None, high: float | None) -> str:
    ends = "" if low is None or high is None else f" [{low:+.4f}, {high:+.4f}]"
    return f"{mean:+.4f}{ends}"


def _against(row: CompareRow, reference: str) -> str:
    """Say how a row compares with the reference."""
    if row.difference is None:
        return f"not to be compared with {reference}, which broke down"
    low, high = row.difference_low, row.difference_high
    sure = low is not None and high is not None and not low <= 0 <= high
    return f"{_signed(row.difference, low, high)} against {reference}{'' if sure else ' (not told apart)'}"
