"""Every number of a report as tidy tables: one CSV and one JSON file each, a row an observation, the model a column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mambascope.analysis.atomic import write_json, write_text
from mambascope.analysis.breakdown import breakdown
from mambascope.analysis.memory import MemoryChange
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import Study

from .csv_rows import Rows, csv_text


def table_rows(studies: Sequence[Study]) -> dict[str, Rows]:
    """Return the rows of every table.

    Args:
        studies: finished studies.

    Returns:
        Rows by name of the table; ``scales`` says with which scales a row was measured (``none``, ``spectrum`` or
        ``calibrated``). What was not asked for has no table.
    """
    tables: dict[str, Rows] = {
        name: [] for name in ("perplexity", "spectrum", "norms", "diagnosis", "proposal", "constants", "memory")
    }
    for study in studies:
        found, constants = study.proposal.diagnosis, sorted(study.constants)
        of_study: dict[str, Rows] = {
            "perplexity": [row.to_dict() for row in study.rows],
            "spectrum": _by_scales(found.spectrum.rows(), study.scaled_spectrum.rows()),
            "norms": _by_scales(study.norms.rows(), study.scaled_norms.rows()),
            "diagnosis": found.rows(),
            "proposal": study.proposal.rows(),
            "constants": [
                {"factor_a": s, "validation_tail_bits_per_token": study.constants[s], "best": s == study.best_constant}
                for s in constants
            ],
        }
        if study.proposal.diagnosis.writes is not None:
            broken = breakdown(study.proposal.diagnosis)
            of_study |= {"breakdown": broken.layers(), "heads-out-of-range": broken.heads()}
        if study.forecast:
            of_study |= {"forecast": study.forecast.rows(), "onset": [study.forecast.onsets()]}
        if study.rules:
            of_study |= {"rules": study.rules.texts, "rule-memory": study.rules.memory}
        if study.refined:
            of_study |= {"calibration": study.refined.found.rows(), "calibrated-gain": study.refined.rows()}
        of_study["memory"] = [
            {"scales": name} | row
            for name, change in {"spectrum": study.proposal.memory(), **_refined_memory(study)}.items()
            for row in change.rows()
        ]
        for name, rows in of_study.items():
            tables.setdefault(name, []).extend({"model": study.name} | row | {"model": study.name} for row in rows)
    return tables


def _refined_memory(study: Study) -> dict[str, MemoryChange]:
    return {"calibrated": study.refined.memory} if study.refined else {}


def _by_scales(without: Rows, with_scales: Rows) -> Rows:
    return [{"scales": "none"} | row for row in without] + [{"scales": "spectrum"} | row for row in with_scales]


def write_table(run: RunFolder, name: str, rows: Rows) -> tuple[Path, Path]:
    """Write one table as ``tables/<name>.json`` and ``.csv`` into a run folder.

    Args:
        run: the folder; it records the files as its own.
        name: file name without suffix.
        rows: rows with plain JSON values.

    Returns:
        The paths.

    Raises:
        NotFiniteError: a number is NaN or infinite.
        StorageError: a file could not be written.
    """
    paths = (run.output(f"tables/{name}.json"), run.output(f"tables/{name}.csv"))
    write_json(paths[0], {"table": name, "rows": rows, "made_by": run.made_by()})
    write_text(paths[1], csv_text(rows))
    return paths


def write_tables(run: RunFolder, studies: Sequence[Study]) -> tuple[Path, ...]:
    """Write ``tables/<name>.csv`` and ``.json`` into a run folder.

    Args:
        run: the folder; it records the files as its own.
        studies: finished studies.

    Returns:
        The paths.

    Raises:
        NotFiniteError: a number is NaN or infinite.
        StorageError: a file could not be written.
    """
    return tuple(path for name, rows in table_rows(studies).items() for path in write_table(run, name, rows))
