"""A finished sweep: what is written into its folder, and what is printed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mambascope.analysis.atomic import json_bytes, write_json, write_text
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.sweep import Sweep
from mambascope.analysis.sweep_cells import SweepJob
from mambascope.analysis.sweep_keys import plain
from mambascope.analysis.sweep_rows import Row
from mambascope.analysis.sweep_run import SweepRun

from .sweep_board import NONE, aligned
from .tables import write_table


def summary_lines(rows: Sequence[Row]) -> list[str]:
    """Return a summary as text: for each task, model and corpus a table of methods by lengths.

    Args:
        rows: from ``Sweep.summary``.

    Returns:
        Lines. Harm where the control was run, else tail bits; for pass keys the share found; with the standard
        deviation over seeds where there are some.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["model"], row["corpus"]), []).append(row)
    lines: list[str] = []
    for (task, model, corpus), of in groups.items():
        shown = "share" if task == "passkey" else "harm" if any(r["harm_mean"] is not None for r in of) else "tail_bits"
        what = {
            "share": "share of pass keys found",
            "harm": "harm in bits: tail bits above the fresh-window control",
            "tail_bits": "tail bits",
        }[shown]
        lengths = sorted({row["length"] for row in of})
        by = {(row["method"], row["length"]): row for row in of}
        seeds = any(row[f"{shown}_sd"] is not None for row in of)
        lines += [f"{model} on {corpus}: {what}{' (mean, deviation over seeds)' if seeds else ''}, by tokens read"]
        cells = [["method", *map(str, lengths)]]
        for method in dict.fromkeys(row["method"] for row in of):
            cells.append([method, *(_shown(by.get((method, n)), shown) for n in lengths)])
        lines += [*aligned(cells), ""]
    return lines[:-1]


def _shown(row: Row | None, name: str) -> str:
    if row is None:
        return NONE
    failed = f" ({row['failed']} failed)" if row["failed"] else ""
    mean, deviation = row[f"{name}_mean"], row[f"{name}_sd"]
    if mean is None:
        return f"{row['failed']} failed" if row["failed"] else NONE
    value = f"{mean:.0%}" if name == "share" else f"{mean:{'+' if name == 'harm' else ''}.4f}"
    spread = "" if deviation is None else f" +- {deviation:.0%}" if name == "share" else f" +- {deviation:.4f}"
    return value + spread + failed


def write_sweep(run: RunFolder, sweep: SweepRun, found: Sweep) -> None:
    """Write a finished sweep's tables into its run folder.

    Args:
        run: the folder; it records the files as its own.
        sweep: what has run, with the files it read and what that took.
        found: its cells.
    """
    rows, summary = found.rows(), found.summary()
    write_table(run, "sweep", rows)
    write_table(run, "summary", summary)
    write_text(run.output("tables/sweep.txt"), "\n".join(summary_lines(summary)) + "\n")
    machines = [made_on for state in found.states if (made_on := sweep.store.made_on(state.key))]
    about = {
        "plan": _plain(found.job),
        "inputs": sweep.facts.inputs(),
        "machines": [each for _, each in sorted({json_bytes(each): each for each in machines}.items())],
        "made_by": run.made_by(),
    }
    write_json(run.output("plan.json"), about)
    costs = [
        {"cell": state.cell.number, "seconds": cost.seconds, "tokens": cost.tokens}
        for state in found.states
        if (cost := sweep.book.of(state.key))
    ]
    if costs:
        write_table(run, "costs", costs)  # what clocks say is in files of this name alone


def planned(job: SweepJob) -> dict[str, Any]:
    """Return what results say of their plan.

    Args:
        job: the sweep.

    Returns:
        The plan in full, with all its defaults and files by name, and the SHA-256 of that.
    """
    found = _plain(job)
    return {"plan": found, "plan_sha256": hashlib.sha256(json_bytes(found)).hexdigest()}


def _plain(job: SweepJob) -> dict[str, Any]:
    """Return a job as JSON, with files by name: where they lie differs from machine to machine."""
    found = asdict(job)
    for model in found["models"]:
        del model["source"]
    for corpus in found["corpora"]:
        for part in ("calibration", "validation", "test"):
            corpus[part] = [plain(name.rpartition("/")[2]) for name in corpus[part]]
    found["methods"] = list(job.methods)
    found["tokenizer"] = job.tokenizer and plain(job.tokenizer.rpartition("/")[2])
    return found
