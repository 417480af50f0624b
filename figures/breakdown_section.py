"""The report's diagnosis in words: which layers and heads break, why, and what theory expects of each."""

from __future__ import annotations

from mambascope.analysis.breakdown import breakdown
from mambascope.analysis.breakdown_words import words
from mambascope.analysis.study import Study

from .markup import Cell, Number, folded, paragraph, table

WORST_HEADS = 8
"""Heads that are listed; tables/heads-out-of-range has all of them."""


def breakdown_words(study: Study) -> str:
    """Return the sentences, and a table of the heads that theory expects to grow most.

    Args:
        study: a finished study.

    Returns:
        HTML; empty where the writes were not measured.
    """
    if study.proposal.diagnosis.writes is None:
        return ""
    found = breakdown(study.proposal.diagnosis)
    told = words(found, study.argument)[:-1]  # the last line says what to type next, which has a part of its own
    worst = sorted(found.heads(), key=lambda row: -row["growth_predicted"])[:WORST_HEADS]
    columns = ["layer", found.unit, "tau (tokens)", "coherence kappa", "growth predicted (times)", "measured (times)"]
    rows: list[list[Cell]] = [
        [
            *(Number(row[key], str(row[key])) for key in ("layer", found.unit)),
            Number(row["horizon_tokens"], f"{row['horizon_tokens']:,.0f}"),
            Number(row["kappa"], f"{row['kappa']:.2g}"),
            *(Number(row[key], f"{row[key]:.2f}") for key in ("growth_predicted", "growth_measured")),
        ]
        for row in worst
    ]
    caption = (
        f"The {len(rows)} of {len(found.heads()):,} {found.unit}s whose norm theory expects to grow most from T to L: "
        "predicted from windows of T tokens, measured on calibration text"
    )
    named = f"The {len(rows)} {found.unit}s that theory expects to grow most"
    return "".join(map(paragraph, told)) + folded(named, table(caption, columns, rows, sortable=True))
