"""Every method at every length: Table 3 as text, CSV and HTML, and what is drawn of it."""

from __future__ import annotations

from collections.abc import Sequence

from mambascope.analysis.atomic import write_json, write_text
from mambascope.analysis.compare import Comparison
from mambascope.analysis.compare_rows import CompareRow
from mambascope.analysis.runs import RunFolder

from . import markup
from .compare_plots import constants_figure, harm_figure, perplexity_figure
from .lengths import tokens_text
from .style import save, slugs
from .tables import write_table


def _number(value: float | None, digits: int = 4, *, sign: bool = False) -> str:
    if value is None:
        return "broken"
    if abs(value) >= 1e5:
        return f"{value:.2e}"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" [{low:+.4f}, {high:+.4f}]"


def _perplexity(row: CompareRow) -> str:
    if row.perplexity is None:
        return "broken" if row.bits is None else "overflow"
    return f"{row.perplexity:.3f}" if row.perplexity < 1000 else f"{row.perplexity:.3g}"


def _lines(cells: Sequence[Sequence[str]]) -> list[str]:
    """Align columns: the first to the left, the others to the right."""
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in cells
    ]


def table_lines(found: Comparison) -> list[str]:
    """Return a comparison as text: for each corpus perplexity by length, then harm, cost inside T, and cost to fit.

    Args:
        found: a finished comparison.

    Returns:
        Lines.
    """
    lines: list[str] = []
    for corpus in found.corpora():
        lengths = found.lengths(corpus)
        first = found.row(corpus, "none", lengths[0])
        lines += [
            f"{found.model} on {corpus}: perplexity, and harm in bits at {lengths[-1]} tokens [95 % interval]; "
            f"{first.documents} documents, {first.passages} passages; fitted on {found.fit_on}",
        ]
        cells = [["method", *map(tokens_text, lengths), f"harm at {tokens_text(lengths[-1])}", "inside T", "passes"]]
        for each in found.fitted:
            rows = [found.row(corpus, each.method, n) for n in lengths]
            harm = _number(rows[-1].harm, sign=True) + _ends(rows[-1].harm_low, rows[-1].harm_high)
            inside = "-" if rows[-1].inside is None else f"{rows[-1].inside:+.4f}"
            cells.append([each.method, *map(_perplexity, rows), harm, inside, f"{each.passes:.0f}"])
        lines += [*_lines(cells), ""]
    return lines[:-1]


def html_page(comparisons: Sequence[Comparison]) -> str:
    """Return the tables as one page that needs nothing else.

    Args:
        comparisons: finished comparisons.

    Returns:
        HTML.
    """
    parts = []
    for found in comparisons:
        for corpus in found.corpora():
            parts.append(_html_table(found, corpus))
        parts.append(markup.paragraphs(found.verdicts()))
    style = (
        "body{font:15px/1.5 sans-serif;margin:2em;max-width:90em}table{border-collapse:collapse;margin:1em 0}"
        "td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:left}td.number{text-align:right}"
        "caption{text-align:left;font-weight:bold}.interval{color:#666;font-size:85%}.scroll{overflow-x:auto}"
    )
    head = f'<meta charset="utf-8"><title>mambascope compare</title><style>{style}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _html_table(found: Comparison, corpus: str) -> str:
    lengths = found.lengths(corpus)
    first = found.row(corpus, "none", lengths[0])
    rows: list[list[markup.Cell]] = []
    for each in found.fitted:
        cells: list[markup.Cell] = [each.method]
        for length in lengths:
            row = found.row(corpus, each.method, length)
            if row.tail_bits is None or row.perplexity is None:
                cells.append("broken")
                continue
            cells.append(markup.Number(row.perplexity, _perplexity(row) + _harm(row)))
        row = found.row(corpus, each.method, lengths[-1])
        cells.append("" if row.inside is None else markup.Number(row.inside, f"{row.inside:+.4f}"))
        cells += [markup.Number(each.passes, f"{each.passes:.0f}"), each.bakes]
        rows.append(cells)
    caption = (
        f"{found.model} on {corpus}: perplexity [harm in bits per token above the fresh-window control, its 95 % "
        f"interval]; {first.documents} documents, {first.passages} passages; fitted on {found.fit_on} at "
        f"{found.fit_length} tokens"
    )
    columns = ["method", *map(tokens_text, lengths), "inside T (bits)", "passes to fit", "can be baked"]
    return markup.table(caption, columns, rows, sortable=True)


def _harm(row: CompareRow) -> str:
    if row.harm is None:
        return ""
    ends = "" if row.harm_low is None or row.harm_high is None else f", {row.harm_low:+.4f} to {row.harm_high:+.4f}"
    return f" [{row.harm:+.4f}{ends}]"


def write_comparisons(run: RunFolder, comparisons: Sequence[Comparison]) -> None:
    """Write tables, page, figures and scales into a run folder.

    Args:
        run: the folder; it records the files as its own.
        comparisons: finished comparisons.
    """
    tables = {
        "compare": [{"model": c.model} | row.to_dict() for c in comparisons for row in c.rows],
        "methods": [row for c in comparisons for row in c.method_rows()],
        "constants": [row for c in comparisons for row in c.constant_rows()],
    }
    for name, rows in tables.items():
        if rows:
            write_table(run, name, rows)
    lines = [line for c in comparisons for line in (*table_lines(c), "", *c.verdicts(), "")]
    write_text(run.output("tables/table3.txt"), "\n".join(lines) + "\n")
    write_text(run.output("table3.html"), html_page(comparisons))
    for found, key in zip(comparisons, slugs([c.model for c in comparisons]), strict=True):
        one_set = [each for each in found.fitted if each.scales is not None and not each.by_length]
        for each, name in zip(one_set, slugs([each.method for each in one_set]), strict=True):
            assert each.scales is not None
            write_json(run.output(f"scales/{key}/{name}.json"), each.scales.to_dict() | {"note": each.how})
        if found.constant_rows():
            save(constants_figure(found), run, f"constants-{key}")
    save(perplexity_figure(comparisons), run, "perplexity")
    save(harm_figure(comparisons), run, "harm")
