"""The report: one HTML file that tells the story of every model, works offline and holds nothing volatile."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from mambascope.analysis.atomic import write_text
from mambascope.analysis.heads import Heads
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import Study
from mambascope.analysis.theory import Theory

from .answers import card, claims_card
from .gallery import Drawing, drawings, story_drawing, write_drawings, write_figures
from .markup import commands, escape, facts, figure, folded, paragraph, table
from .rules_section import across_models
from .rules_section import navigation as rules_navigation
from .story import model_section, summary_row
from .style import slugs
from .tables import write_table, write_tables
from .theory import theory_drawings
from .theory_section import ANCHOR, heads_drawing, navigation, theory_section
from .verdict import TOLERANCE_BITS

__all__ = ["report_html", "write_report", "write_table", "write_tables"]

REPORT = "report.html"
TEMPLATE, STYLE, SCRIPT = (Path(__file__).with_name(f"report.{kind}") for kind in ("html", "css", "js"))

_SUMMARY = (
    "model",
    "verdict",
    "T, L (tokens)",
    "harm unscaled (bits)",
    "harm spectrum-guided (bits)",
    "harm calibrated (bits)",
    "best constant on A (times)",
    "harm best constant (bits)",
)


def write_report(
    run: RunFolder,
    studies: Sequence[Study],
    made_by: Mapping[str, Any],
    theory: Theory | None = None,
    heads: Sequence[Heads] = (),
) -> Path:
    """Write ``report.html`` and the figures for papers into a run folder; equal studies give equal bytes.

    Args:
        run: the folder; it records the file as its own.
        studies: finished studies, in the order of the report.
        made_by: how they were made, from ``run.made_by()``.
        theory: verdicts and simulations, where they were made.
        heads: what theory says of the models' heads.

    Returns:
        The path of the report.

    Raises:
        StorageError: the file could not be written.
    """
    drawn = [drawings(study) for study in studies]
    write_figures(run, studies, drawn)
    section = short = ""
    if theory is not None:
        of_theory = theory_drawings(theory) | ({"heads": heads_drawing(heads)} if heads else {})
        write_drawings(run, "theory", of_theory)
        section, short = theory_section(theory, of_theory, heads), claims_card(theory, ANCHOR)
    story = story_drawing(studies)
    write_drawings(run, "all", {story.key: story})
    path = run.output(REPORT)
    write_text(path, report_html(studies, made_by, drawn, section, short, story))
    return path


def report_html(
    studies: Sequence[Study],
    made_by: Mapping[str, Any],
    drawn: Sequence[Mapping[str, Drawing]] | None = None,
    theory: str = "",
    claims: str = "",
    story: Drawing | None = None,
) -> str:
    """Return the report as a text.

    Args:
        studies: finished studies, in the order of the report.
        made_by: how they were made.
        drawn: the studies' drawings, where they were made before.
        theory: the section on theory, as HTML; none if empty.
        claims: what became of the claims, in short.
        story: the drawing of all models, where it was made before.

    Returns:
        A whole HTML document.
    """
    names = [study.name for study in studies]
    anchors = [f"model-{k + 1}" for k in range(len(studies))]
    drawn = drawn or [drawings(study) for study in studies]
    sections = [model_section(*each) for each in zip(studies, drawn, anchors, slugs(names), strict=True)]
    links = [f'<a href="#{a}">{escape(name)}</a>' for a, name in zip(anchors, names, strict=True)]
    rules = across_models(studies)
    links += ([rules_navigation()] if rules else []) + ([navigation()] if theory else [])
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(
        title=escape("mambascope: " + ", ".join(names)),
        navigation=" ".join([*links, '<a href="#made">How it was made</a>']),
        style=STYLE.read_text(encoding="utf-8"),
        script=SCRIPT.read_text(encoding="utf-8"),
        short="".join([figure(story or story_drawing(studies)), *map(card, studies, anchors), claims]),
        summary=_summary(studies),
        tolerance=f"{TOLERANCE_BITS:g}",
        models="\n".join([*sections, rules, theory]),
        made=_made(made_by),
    )


def _summary(studies: Sequence[Study]) -> str:
    rows = [summary_row(study) for study in studies]
    caption = "Harm at the target length L, in tail bits per token more than the control [95 % interval over documents]"
    return table(caption, _SUMMARY, rows)


def _flat(value: Any, key: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [pair for k in sorted(value) for pair in _flat(value[k], f"{key}.{k}" if key else str(k))]
    return [(key, value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False))]


def _made(made_by: Mapping[str, Any]) -> str:
    """Program, command, seed, versions and device as facts; the files that were read with their hashes."""
    told = ("mambascope", "seed", "device", "dtype")
    known = {name: made_by[name] for name in told if made_by.get(name) is not None}
    rest = {name: value for name, value in made_by.items() if name not in {*told, "command", "inputs", "changes"}}
    parts = [facts([*_flat(known), *_flat(rest)])]
    if "command" in made_by:
        lines = [f"{k} = {v}" for k, v in _flat(made_by["command"])]
        parts.append(folded("Command, as it was understood", commands(lines)))
    if made_by.get("changes"):
        parts.append(paragraph(f"Changed between sessions of this run: {'; '.join(map(str, made_by['changes']))}."))
    inputs = made_by.get("inputs") or []
    if inputs:
        columns = ["role", "name", "bytes", "sha256"]
        rows = [[str(each[name]) for name in columns] for each in inputs]
        parts.append(folded(f"Files read: {len(rows)}", table("With their size and hash", columns, rows)))
    return "".join(parts)
