"""Cells of a sweep as rows of a table, and what is left of them once seeds are averaged."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .compare_keys import KeyShare
from .compare_rows import difference
from .engine_each import Failure
from .evaluate.bits import Floats
from .evaluate.intervals import interval
from .methods.plain import FRESH
from .sweep_cells import Cell

Row = dict[str, Any]
AVERAGED = ("tail_bits", "harm", "share")
"""What a summary averages over seeds."""


@dataclass(frozen=True, slots=True)
class CellState:
    """What has become of a cell."""

    cell: Cell
    """Which."""
    key: str
    """Its address."""
    result: dict[str, Any] | None = None
    """What came out; None where it is not done."""
    failure: Failure | None = None
    """Why it could not be done."""

    @property
    def word(self) -> str:
        """Its state in one word."""
        return "done" if self.result is not None else "failed" if self.failure is not None else "missing"


def cell_rows(states: Sequence[CellState]) -> list[Row]:
    """Return one row a cell.

    Args:
        states: all cells, in the order of the plan.

    Returns:
        Rows with the same columns for cells of the same task. ``harm``: tail bits less those of the fresh-window
        control of the same model, corpus and length, where that is a method of the sweep. Intervals are 95 % over
        documents, or exact for keys.
    """
    controls = {_place(s.cell): s.result for s in states if s.cell.method == FRESH and s.result is not None}
    return [_row(state, controls.get(_place(state.cell))) for state in states]


def _place(cell: Cell) -> tuple[str, str, str, int]:
    return cell.task, cell.model, cell.corpus, cell.length


def _row(state: CellState, control: Row | None) -> Row:
    cell, result = state.cell, state.result or {}
    row: Row = {
        "cell": cell.number, "task": cell.task, "model": cell.model, "corpus": cell.corpus, "length": cell.length,
        "method": cell.method, "seed": cell.seed,
    }  # fmt: skip
    row |= _keys(cell, result) if cell.task == "passkey" else _bits(result, control)
    fit = result.get("fit", {})
    return row | {
        "fit_passes": fit.get("passes"),
        "bakes": fit.get("bakes"),
        "state": state.word,
        "error": None if state.failure is None else state.failure.error,
        "key": state.key,
    }


def _values(result: Row | None, name: str) -> Floats:
    return np.array((result or {}).get(name) or [], np.float64)


def _bits(result: Row, control: Row | None) -> Row:
    whole, tail, last = (_values(result, name) for name in ("bits", "tail_bits", "last_bits"))
    spread = interval(tail) if len(tail) else None
    harm = difference(tail, _values(control, "tail_bits"))
    mean = float(whole.mean()) if len(whole) else None
    return {
        "bits": mean,
        "perplexity": None if mean is None or mean >= 1024 else 2**mean,
        "tail_bits": spread and spread.mean,
        "tail_low": spread and spread.low,
        "tail_high": spread and spread.high,
        "last_bits": float(last.mean()) if len(last) else None,
        "harm": harm[0],
        "harm_low": harm[1],
        "harm_high": harm[2],
        "broken": result.get("broken"),
        "documents": result.get("documents"),
        "passages": result.get("passages"),
    }


def _keys(cell: Cell, result: Row) -> Row:
    if not result:
        return dict.fromkeys(("solved", "examples", "share", "share_low", "share_high"))
    asked = result["examples"] * len(result["depths"])
    found = KeyShare.of(cell.method, cell.length, sum(result["solved"]), asked)
    return {
        "solved": found.solved, "examples": asked, "share": found.share, "share_low": found.low,
        "share_high": found.high,
    }  # fmt: skip


def summary_rows(rows: Sequence[Row]) -> list[Row]:
    """Average cells that differ in their seed alone.

    Args:
        rows: from ``cell_rows``.

    Returns:
        One row a task, model, corpus, length and method: the mean over its cells, their standard deviation (None for
        fewer than two), and how many there are, done and failed.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    names = ("task", "model", "corpus", "length", "method")
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    found = []
    for place, of in groups.items():
        row = dict(zip(names, place, strict=True))
        row |= {"cells": len(of), "done": sum(r["state"] == "done" for r in of)}
        row["failed"] = sum(r["state"] == "failed" for r in of)
        for name in AVERAGED:
            values = [float(r[name]) for r in of if r.get(name) is not None]
            row[f"{name}_mean"] = statistics.fmean(values) if values else None
            row[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
        found.append(row)
    return found
