"""The best method of a corpus at a length, and how sure that is: paired with the next best, and with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .compare_cells import Cut, Scored
from .compare_rows import Ends, difference
from .evaluate.bits import Floats

By = Literal["tail", "last"]
"""``tail``: bits of the second half, which a method that drops tokens does not have. ``last``: of the last 100 tokens,
which all methods have."""


@dataclass(frozen=True, slots=True)
class Best:
    """The method with the fewest bits in one corpus at one length; differences are its bits less the other's."""

    corpus: str
    """Name of the corpus."""
    length: int
    """Tokens that the model read."""
    by: By
    """Which bits."""
    documents: int
    """Documents of the cell."""
    method: str
    """The best method; the control is none. Of several that do the same, the first."""
    bits: float
    """Its bits per token, the mean over documents."""
    next: str | None
    """The best of those that do something else; None where there is none."""
    to_next: Ends
    """Difference to it: mean, ends of the 95 % interval, p-value."""
    reference: str
    """Method that every difference is taken to."""
    to_reference: Ends
    """Difference to it; Nones where the best is the reference, does the same, or the reference broke down."""


def best_of(cut: Cut, scored: Mapping[str, Scored], length: int, reference: str, by: By) -> Best | None:
    """Find the best method.

    Args:
        cut: the passages.
        scored: every method's bits at the length, without the control.
        length: which length.
        reference: method that differences are taken to.
        by: which bits.

    Returns:
        The best; None where every method broke down.
    """
    read = cut.tail if by == "tail" else cut.last
    bits = {name: read(each, length) for name, each in scored.items() if each.finite}
    usable = {name: values for name, values in bits.items() if len(values)}
    if not usable:
        return None
    ranked = sorted(usable, key=lambda name: float(usable[name].mean()))  # of equal ones the first stays first
    best = usable[ranked[0]]
    other = next((name for name in ranked[1:] if not _same(best, usable[name])), None)
    of_reference = usable.get(reference)
    nothing: Ends = (None, None, None, None)
    return Best(
        corpus=cut.corpus,
        length=length,
        by=by,
        documents=cut.passages.documents,
        method=ranked[0],
        bits=float(best.mean()),
        next=other,
        to_next=nothing if other is None else difference(best, usable[other]),
        reference=reference,
        to_reference=nothing if of_reference is None or _same(best, of_reference) else difference(best, of_reference),
    )


def _same(one: Floats, other: Floats) -> bool:
    return bool(np.array_equal(one, other))


def best_row(found: Sequence[Best]) -> dict[str, Any]:
    """Return the bests of one corpus and length as one row of a table.

    Args:
        found: one a kind of bits.

    Returns:
        Plain JSON values; columns start with ``tail_`` or ``last_``.
    """
    first = found[0] if found else None
    row: dict[str, Any] = {
        "corpus": first and first.corpus, "length": first and first.length, "documents": first and first.documents,
        "reference": first and first.reference,
    }  # fmt: skip
    for by in ("tail", "last"):
        each = next((best for best in found if best.by == by), None)
        row |= {
            f"{by}_method": each and each.method,
            f"{by}_bits": each and each.bits,
            f"{by}_next": each and each.next,
        }
        for name, ends in (("next", each and each.to_next), ("reference", each and each.to_reference)):
            words = ("difference", "low", "high", "p")
            row |= {f"{by}_{name}_{word}": ends[k] if ends else None for k, word in enumerate(words)}
    return row
