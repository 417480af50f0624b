"""A comparison in words: who is ahead in a corpus at a length, by how much, and whether that can be told."""

from __future__ import annotations

from collections.abc import Sequence

from .compare_best import Best
from .compare_rows import CompareRow, Ends
from .evaluate.position_sums import LAST
from .methods.plain import FRESH


def verdict(rows: Sequence[CompareRow], bests: Sequence[Best], reference: str) -> str:
    """Say who is ahead in one corpus at one length.

    Args:
        rows: one a method, all of one corpus and length.
        bests: the best by tail bits and by the last tokens.
        reference: the method that differences are taken to.

    Returns:
        A few sentences.
    """
    where = f"{rows[0].corpus}, {rows[0].length} tokens ({rows[0].documents} documents)"
    by = {best.by: best for best in bests}
    if "tail" not in by and "last" not in by:
        return f"{where}: every method broke down numerically."
    told = []
    if best := by.get("tail"):
        told.append(f"{best.method} has the fewest tail bits, {best.bits:.4f}{_harm(rows, best)}{_pairs(best)}")
        if constant := _constant(rows, best):
            told.append(constant)
    if best := by.get("last"):
        again = "tail" in by and by["tail"].method == best.method
        who = f"it has the fewest bits over the last {LAST}, too" if again else f"over the last {LAST} {best.method}"
        told.append(f"{who}{'' if again else ' has the fewest bits'}, {best.bits:.4f}{_pairs(best)}")
    first, *others = told
    return f"{where}: {'. '.join([first, *(f'{each[0].upper()}{each[1:]}' for each in others)])}."


def _harm(rows: Sequence[CompareRow], best: Best) -> str:
    row = next(row for row in rows if row.method == best.method)
    return "" if row.harm is None else f", {signed(row.harm, row.harm_low, row.harm_high)} to the control"


def _pairs(best: Best) -> str:
    told = ""
    if best.next is not None:
        told += f"; {_against(best.to_next, best.next)}, the next"
    if best.to_reference[0] is not None and best.next != best.reference:
        told += f"; {_against(best.to_reference, best.reference)}"
    return told


def _constant(rows: Sequence[CompareRow], best: Best) -> str:
    """Say how far the best single factor is from the reference, unless it was named already."""
    constants = [
        (row.tail_bits, row)
        for row in rows
        if row.method.startswith("constant:") and row.tail_bits is not None and row.method not in {best.method, FRESH}
    ]
    if not constants:
        return ""
    row = min(constants, key=lambda pair: pair[0])[1]
    if row.method == best.next or row.difference is None:
        return ""
    ends: Ends = (row.difference, row.difference_low, row.difference_high, row.difference_p)
    return f"the best constant but for that, {row.method}: {_against(ends, best.reference)}"


def signed(mean: float, low: float | None, high: float | None) -> str:
    """Return a difference with its interval."""
    ends = "" if low is None or high is None else f" [{low:+.4f}, {high:+.4f}]"
    return f"{mean:+.4f}{ends}"


def _against(ends: Ends, other: str) -> str:
    mean, low, high, _ = ends
    assert mean is not None
    sure = low is not None and high is not None and not low <= 0 <= high
    return f"{signed(mean, low, high)} against {other}{'' if sure else ' (not told apart)'}"
