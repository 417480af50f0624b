"""Bits by position in the text, in bins that grow geometrically, and how far above the control they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .intervals import by_document, interval, paired
from .passages import Ints, Passages
from .position_sums import PositionSums, curve_edges


@dataclass(frozen=True, slots=True)
class CurveRow:
    """One method in one bin of positions."""

    method: str
    """Name of the method."""
    start: int
    """First position of the bin."""
    stop: int
    """Position after its last."""
    bits_per_token: float
    """Mean over documents."""
    ci_low: float | None
    """Lower end of its 95 % interval over documents; None for fewer than two."""
    ci_high: float | None
    """Upper end."""
    above_control: float | None
    """Bits per token more than the fresh-window control has on the same tokens, where it was run."""
    above_ci_low: float | None
    """Lower end of the 95 % interval of this paired difference."""
    above_ci_high: float | None
    """Upper end."""
    documents: int
    """Documents that reach the end of the bin."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def curve_rows(
    method: str,
    sums: PositionSums,
    passages: Passages | Ints,
    control: PositionSums | None = None,
    edges: Sequence[int] | None = None,
) -> list[CurveRow]:
    """Average bits over bins of position.

    Args:
        method: name to put into the rows.
        sums: from ``score``.
        passages: what was scored, or the index of the document of each passage.
        control: sums of the fresh-window control on the same passages.
        edges: where bins meet, among the sums' edges. Default: ``curve_edges`` of the longest length.

    Returns:
        One row a bin.
    """
    rows = []
    for start, stop in itertools.pairwise(edges or curve_edges(int(sums.edges[-1]))):
        of_method = by_document(sums.mean(start, stop), passages)
        found = interval(of_method)
        above = None if control is None else paired(of_method, by_document(control.mean(start, stop), passages))
        rows.append(
            CurveRow(
                method=method,
                start=start,
                stop=stop,
                bits_per_token=found.mean,
                ci_low=found.low,
                ci_high=found.high,
                above_control=above.mean if above else None,
                above_ci_low=above.low if above else None,
                above_ci_high=above.high if above else None,
                documents=found.documents,
            )
        )
    return rows
