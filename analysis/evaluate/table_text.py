"""Rows of an evaluation as text for a terminal: every cell says how many documents and passages it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .position_sums import LAST

if TYPE_CHECKING:
    from .pairs import PairRow
    from .rows import PerplexityRow


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _between(low: float | None, high: float | None, form: str) -> str:
    return "-" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def _aligned(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[k]) for row in (columns, *cells)) for k in range(len(columns))]
    lines = []
    for row in (columns, *cells):
        first = row[0].ljust(widths[0])
        lines.append("  ".join([first, *(v.rjust(w) for v, w in zip(row[1:], widths[1:], strict=True))]).rstrip())
    return "\n".join(lines)


def perplexity_text(rows: Sequence[PerplexityRow]) -> str:
    """Return one line a method and length.

    Args:
        rows: of one or more methods.

    Returns:
        A table with a head; the columns of harm only where the control was run.
    """
    control = any(row.harm is not None for row in rows)
    columns = ["method", "length", "bits/token", "[95 %]", "tail bits", f"last {LAST} bits", "perplexity"]
    columns += ["harm", "[95 %]"] if control else []
    columns += ["documents", "passages"]
    cells = []
    for r in rows:
        cell = [r.method, f"{r.length:,}", _number(r.bits_per_token, ".4f"), _between(r.ci_low, r.ci_high, ".3f")]
        cell += [_number(r.tail_bits_per_token, ".4f"), _number(r.last_bits_per_token, ".4f")]
        overflown = r.perplexity is None and r.bits_per_token is not None
        cell += ["inf" if overflown else _number(r.perplexity, ".4g")]
        if control:
            cell += [_number(r.harm, "+.4f"), _between(r.harm_ci_low, r.harm_ci_high, "+.4f")]
        cells.append([*cell, str(r.documents), str(r.passages)])
    return _aligned(columns, cells)


def pairs_text(pairs: Sequence[PairRow]) -> str:
    """Return one line a method and length: how many tail bits it needs more than the reference.

    Args:
        pairs: against one reference.

    Returns:
        A table with a head.
    """
    columns = ["method", "length", f"tail bits more than {pairs[0].reference}", "[95 %]", "p", "documents", "passages"]
    cells = [
        [
            pair.method,
            f"{pair.length:,}",
            f"{pair.difference:+.4f}",
            _between(pair.ci_low, pair.ci_high, "+.4f"),
            _number(pair.p, ".2g"),
            str(pair.documents),
            str(pair.passages),
        ]
        for pair in pairs
    ]
    return _aligned(columns, cells)
