"""Methods against a reference on the same documents: tail bits less the reference's, by document, at each length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .intervals import by_document, paired
from .passages import Ints, Passages
from .position_sums import PositionSums


@dataclass(frozen=True, slots=True)
class PairRow:
    """A method against the reference at one length."""

    method: str
    """Name of the method."""
    reference: str
    """Name of what it is compared with."""
    length: int
    """Tokens of each passage that the model read."""
    difference: float
    """Tail bits per token of the method less those of the reference; above 0 the method is worse."""
    ci_low: float | None
    """Lower end of the 95 % interval over documents; None for fewer than two."""
    ci_high: float | None
    """Upper end."""
    p: float | None
    """p-value of sign flips by document; with n documents it cannot be below 2 / 2^n."""
    documents: int
    """Documents behind it."""
    passages: int
    """Passages behind it."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def pair_rows(
    sums: Mapping[str, PositionSums], passages: Passages | Ints, lengths: Sequence[int], reference: str
) -> list[PairRow]:
    """Compare every method with the reference.

    Args:
        sums: by method, on the same passages; the reference is among them.
        passages: what was scored, or the index of the document of each passage.
        lengths: lengths to report.
        reference: name of the reference.

    Returns:
        One row a method and length, none for the reference itself or where one of the two has no tail.
    """
    rows = []
    for method in (name for name in sums if name != reference):
        for length in lengths:
            ours, theirs = (by_document(sums[name].tail(length), passages) for name in (method, reference))
            if not len(ours) or not len(theirs):  # a method that drops tokens has no tail
                continue
            found = paired(ours, theirs)
            rows.append(
                PairRow(
                    method=method,
                    reference=reference,
                    length=length,
                    difference=found.mean,
                    ci_low=found.low,
                    ci_high=found.high,
                    p=found.p,
                    documents=found.documents,
                    passages=int((~np.isnan(sums[method].tail(length))).sum()),
                )
            )
    return rows
