"""An evaluation on LongBench as the paper's Table 2: text, CSV and one HTML page, with every answer as JSON Lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mambascope.analysis.atomic import json_bytes, write_bytes, write_json, write_text
from mambascope.analysis.cite import fitted_on
from mambascope.analysis.longbench.evaluation import LongBenchFound
from mambascope.analysis.longbench.rows import AVERAGE, PairRow, TaskRow
from mambascope.analysis.longbench.tasks import TASKS
from mambascope.analysis.runs import RunFolder

from . import markup
from .longbench_plots import scores_figure
from .style import save, slugs
from .tables import write_table

METRICS = {
    "f1": "F1 of words",
    "class": "right class among those named",
    "edit": "edit similarity of a line",
}
"""What a score is, by metric; each times 100."""


def table_rows(found: LongBenchFound) -> list[dict[str, Any]]:
    """Return the table: a row a method, a column a task, the average last.

    Args:
        found: a finished evaluation.

    Returns:
        Scores to hundredths.
    """
    rows = []
    for average in found.averages:
        cells = {TASKS[row.task].title: row.score for row in found.rows if row.method == average.method}
        rows.append({"method": average.method} | cells | {AVERAGE: round(average.score, 2)})
    return rows


def text_rows(found: LongBenchFound) -> list[dict[str, str]]:
    """Return the table for a terminal, every score with two digits."""
    return [
        {name: value if isinstance(value, str) else f"{value:.2f}" for name, value in row.items()}
        for row in table_rows(found)
    ]


def sentences(found: LongBenchFound) -> list[str]:
    """Say what the scores rest on.

    Args:
        found: a finished evaluation.

    Returns:
        Sentences: truncation, tasks, what broke down, what was not LongBench's own.
    """
    first = found.averages[0]
    told = [f"Truncation: {found.truncation()}."]
    if first.tasks < len(TASKS):
        told.append(f"The average is over {first.tasks} of the {len(TASKS)} tasks of the paper's Table 2.")
    broken = [f"{row.method} on {row.task}: {row.broken} of {row.samples}" for row in found.rows if row.broken]
    if broken:
        told.append(f"A state overflowed, and the answer scores 0 ({'; '.join(broken)}).")
    if any(row.ci_low is None and row.samples > 1 for row in found.rows):
        told.append(
            "No interval stands where all samples of a task score the same, nor by an average over such a task."
        )
    ready = list(dict.fromkeys(TASKS[row.task].title for row in found.rows if row.prompts != "official"))
    if ready:
        told.append(f"Prompts as the files have them, which need not be LongBench's own: {', '.join(ready)}.")
    return told


def differences(found: LongBenchFound) -> list[str]:
    """Say of each method whether it is better than the reference, as the page's last table does.

    Args:
        found: a finished evaluation.

    Returns:
        A sentence a method that was compared.
    """
    return [
        f"{row.method} less {row.reference}, average on the same {row.samples} samples: "
        f"{_number(row.difference, row.ci_low, row.ci_high, '+').text}"
        + ("" if row.p is None else f", p = {row.p:.3g}")
        for row in found.pairs
        if row.task == AVERAGE
    ]


def html_page(found: LongBenchFound, made_by: Sequence[tuple[str, str]] = ()) -> str:
    """Return the table as one page that needs nothing else.

    Args:
        found: a finished evaluation.
        made_by: names and values that say how it was made.

    Returns:
        HTML.
    """
    parts = [_scores(found), markup.paragraphs(sentences(found)), _tasks(found)]
    if found.pairs:
        parts.append(_pairs(found.pairs))
    parts.append(markup.facts(made_by))
    return markup.page("mambascope: LongBench", parts)


def _number(value: float, low: float | None, high: float | None, sign: str = "") -> markup.Number:
    ends = "" if low is None or high is None else f" [{low:{sign}.2f}, {high:{sign}.2f}]"
    return markup.Number(value, f"{value:{sign}.2f}{ends}")


def _scores(found: LongBenchFound) -> str:
    rows: list[list[markup.Cell]] = []
    for average in found.averages:
        own = [row for row in found.rows if row.method == average.method]
        cells: list[markup.Cell] = [average.method, *(_number(row.score, row.ci_low, row.ci_high) for row in own)]
        rows.append([*cells, _number(average.score, average.ci_low, average.ci_high)])
    titles = [TASKS[row.task].title for row in _of_one_method(found)]
    caption = f"{found.model} on LongBench: score out of 100 [95 % interval over samples]"
    return markup.table(caption, ["method", *titles, AVERAGE], rows, sortable=True)


def _tasks(found: LongBenchFound) -> str:
    rows: list[list[markup.Cell]] = [
        [
            TASKS[row.task].title,
            METRICS[row.metric],
            markup.Number(row.samples, f"{row.samples}"),
            markup.Number(row.prompt_tokens, f"{row.prompt_tokens:,.0f}"),
            markup.Number(row.truncated, f"{row.truncated}"),
            markup.Number(row.answer_limit, f"{row.answer_limit}"),
            row.prompts,
        ]
        for row in _of_one_method(found)
    ]
    columns = ["task", "score", "samples", "tokens of a prompt", "cut in the middle", "tokens to write", "prompts"]
    return markup.table("What every method was asked", columns, rows)


def _pairs(pairs: Sequence[PairRow]) -> str:
    methods = list(dict.fromkeys(row.method for row in pairs))
    tasks = list(dict.fromkeys(row.task for row in pairs))
    by_place = {(row.method, row.task): row for row in pairs}
    rows: list[list[markup.Cell]] = []
    for method in methods:
        cells: list[markup.Cell] = [method]
        for task in tasks:
            row = by_place[method, task]
            cells.append(_number(row.difference, row.ci_low, row.ci_high, "+"))
        p = by_place[method, AVERAGE].p
        rows.append([*cells, "" if p is None else markup.Number(p, f"{p:.3g}")])
    titles = [task if task == AVERAGE else TASKS[task].title for task in tasks]
    caption = f"Difference from {pairs[0].reference} on the same samples [95 % interval]"
    return markup.table(caption, ["method", *titles, "p of the average"], rows)


def _of_one_method(found: LongBenchFound) -> list[TaskRow]:
    return [row for row in found.rows if row.method == found.averages[0].method]


def write_longbench(run: RunFolder, found: LongBenchFound) -> None:
    """Write tables, the page, the figure, the answers and the scales into a run folder.

    Args:
        run: the folder; it records the files as its own.
        found: a finished evaluation.

    Raises:
        StorageError: a file could not be written.
    """
    write_table(run, "table2", table_rows(found))
    write_table(run, "longbench", [row.to_dict() for row in found.rows])
    write_table(run, "longbench-averages", [row.to_dict() for row in found.averages])
    if found.pairs:
        write_table(run, "longbench-paired", [row.to_dict() for row in found.pairs])
    write_text(run.output("table2.html"), html_page(found, _facts(run, found)))
    save(scores_figure(found), run, "longbench")
    names = [each.method for each in found.fitted]
    folders = dict(zip(names, slugs(names), strict=True))
    for each in found.answers:
        lines = b"".join(json_bytes(line) + b"\n" for line in each.predictions())
        write_bytes(run.output(f"predictions/{folders[each.method]}/{each.asked.task.name}.jsonl"), lines)
    for fitted in found.fitted:
        if fitted.scales is not None:
            path = run.output(f"scales/{folders[fitted.method]}.json")
            write_json(path, fitted.scales.to_dict() | {"note": fitted.how})


def _facts(run: RunFolder, found: LongBenchFound) -> list[tuple[str, str]]:
    """Say what the page was made from: of the texts for methods, those that its methods were fitted on."""
    made_by = run.made_by()
    read = set().union(*(fitted_on(fitted.method) for fitted in found.fitted))
    inputs = [each for each in made_by["inputs"] if each["role"] not in {"calibration", "validation"} - read]
    told = ", ".join(f"{each['name']} ({each['sha256'][:12]})" for each in inputs)
    facts = [("mambascope", str(made_by["mambascope"])), ("files", told)]
    facts += [(name, str(made_by[name])) for name in ("device", "dtype")]
    return [*facts, ("seed", str(made_by["command"]["seed"]))]
