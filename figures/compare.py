"""Every method at every length: Table 3 as text, CSV and HTML, and what is drawn of it."""

from __future__ import annotations

from collections.abc import Sequence

from mambascope.analysis.atomic import write_json, write_text
from mambascope.analysis.compare import Comparison
from mambascope.analysis.compare_rows import CompareRow
from mambascope.analysis.evaluate.position_sums import LAST
from mambascope.analysis.runs import RunFolder

from . import markup
from .compare_dots import costs_figure, keys_figure, methods_figure
from .compare_plots import constants_figure, harm_figure, perplexity_figure
from .lengths import tokens_text
from .style import save, slugs
from .tables import write_table

NONE = "\u2013"
"""Where there is no such number: a method that drops tokens has none for a whole text, the control answers nothing."""


def _number(value: float | None, digits: int = 4, *, sign: bool = False) -> str:
    if value is None:
        return NONE
    if abs(value) >= 1e5:
        return f"{value:.2e}"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" [{low:+.4f}, {high:+.4f}]"


def _is_broken(row: CompareRow) -> bool:
    """Return True where a state broke down; the last tokens have bits otherwise, whatever the method."""
    return row.last_bits is None


def _perplexity(row: CompareRow) -> str:
    if row.perplexity is None:
        return "broken" if _is_broken(row) else "overflow" if row.bits is not None else NONE
    return f"{row.perplexity:.3f}" if row.perplexity < 1000 else f"{row.perplexity:.3g}"


def _harm(row: CompareRow) -> str:
    """Return harm by tail bits with its interval."""
    return "broken" if _is_broken(row) else _number(row.harm, sign=True) + _ends(row.harm_low, row.harm_high)


def _last(row: CompareRow) -> str:
    """Return harm by the last tokens with its interval."""
    if _is_broken(row):
        return "broken"
    return _number(row.last_harm, sign=True) + _ends(row.last_harm_low, row.last_harm_high)


def _keys(found: Comparison, method: str, length: int) -> str:
    share = found.keys.at(method, length)
    return NONE if share is None else f"{share.share:.0%}"


def _key_lengths(found: Comparison) -> list[int]:
    """Return the lengths of the columns of keys; one column of dashes, at T, where the model does not do the task."""
    return found.keys.lengths() or [found.train_length]


def _lines(cells: Sequence[Sequence[str]]) -> list[str]:
    """Align columns: the first to the left, the others to the right."""
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in cells
    ]


def table_lines(found: Comparison) -> list[str]:
    """Return a comparison as text: for each corpus perplexity by length, harm, loss inside T, and keys found.

    Args:
        found: a finished comparison.

    Returns:
        Lines.
    """
    lines: list[str] = []
    for corpus in found.corpora():
        lengths, at = found.lengths(corpus), tokens_text(found.lengths(corpus)[-1])
        first = found.row(corpus, "none", lengths[0])
        lines += [
            f"{found.model} on {corpus}: perplexity, and harm in bits at {lengths[-1]} tokens [95 % interval]; "
            f"{first.documents} documents, {first.passages} passages; fitted on {found.fit_on}",
        ]
        keys = [f"keys at {tokens_text(n)}" for n in _key_lengths(found)]
        heads = [f"harm at {at}", f"last {LAST} at {at}", "inside T", *keys, "passes"]
        cells = [["method", *map(tokens_text, lengths), *heads]]
        for each in found.fitted:
            rows = [found.row(corpus, each.method, n) for n in lengths]
            shares = [_keys(found, each.method, n) for n in _key_lengths(found)]
            after = [_harm(rows[-1]), _last(rows[-1]), _number(rows[-1].inside, sign=True), *shares]
            cells.append([each.method, *map(_perplexity, rows), *after, f"{each.passes:.0f}"])
        lines += [*_lines(cells), ""]
    if found.keys.note:
        lines += [f"keys: {found.keys.note}", ""]
    return lines[:-1]


def cost_lines(found: Comparison) -> list[str]:
    """Return as text what each method costs on this machine.

    Args:
        found: a finished comparison.

    Returns:
        Lines; a fit that an earlier session had begun took at least what is told.
    """
    cells = [["cost to fit, and speed", "passes", "seconds", "peak MB", "tokens/s", "bakes"]]
    for row in found.costs:
        least = ">= " if row["fit_resumed"] else ""
        seconds, peak, speed = row["fit_seconds"], row["fit_peak_bytes"], row["tokens_per_second"]
        cells.append([
            row["method"],
            f"{row['passes']:.0f}",
            NONE if seconds is None else f"{least}{seconds:.1f}",
            NONE if peak is None else f"{peak / 1e6:.0f}",
            NONE if speed is None else f"{speed:,.0f}",
            row["bakes"] if len(row["bakes"]) < 40 else f"{row['bakes'][:37]}...",
        ])
    return _lines(cells)


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
        parts.append(
            markup.paragraphs([*found.verdicts(), *([f"Keys: {found.keys.note}."] if found.keys.note else [])])
        )
    return markup.page("mambascope compare", parts)


def _html_table(found: Comparison, corpus: str) -> str:
    lengths = found.lengths(corpus)
    first = found.row(corpus, "none", lengths[0])
    rows: list[list[markup.Cell]] = []
    for each in found.fitted:
        cells: list[markup.Cell] = [each.method]
        for length in lengths:
            row = found.row(corpus, each.method, length)
            if row.perplexity is None:
                cells.append(_perplexity(row))
                continue
            spread = _spread(row.harm, row.harm_low, row.harm_high)
            cells.append(markup.Number(row.perplexity, f"{_perplexity(row)} [{spread}]"))
        row = found.row(corpus, each.method, lengths[-1])
        cells.append(_last(row) if row.last_harm is None else markup.Number(row.last_harm, _last(row)))
        cells.append(NONE if row.inside is None else markup.Number(row.inside, f"{row.inside:+.4f}"))
        for length in _key_lengths(found):
            share = found.keys.at(each.method, length)
            cells.append(NONE if share is None else markup.Number(share.share, _keys(found, each.method, length)))
        cells += [markup.Number(each.passes, f"{each.passes:.0f}"), each.bakes]
        rows.append(cells)
    caption = (
        f"{found.model} on {corpus}: perplexity [harm in bits per token above the fresh-window control, its 95 % "
        f"interval], the same harm over the last {LAST} tokens, and pass keys found; {first.documents} documents, "
        f"{first.passages} passages; fitted on {found.fit_on} at {found.fit_length} tokens"
    )
    keys = [f"keys at {tokens_text(n)}" for n in _key_lengths(found)]
    last = f"last {LAST} at {tokens_text(lengths[-1])}"
    columns = ["method", *map(tokens_text, lengths), last, "inside T (bits)", *keys, "passes to fit", "can be baked"]
    return markup.table(caption, columns, rows, sortable=True)


def _spread(mean: float | None, low: float | None, high: float | None) -> str:
    ends = "" if low is None or high is None else f", {low:+.4f} to {high:+.4f}"
    return f"{_number(mean, sign=True)}{ends}"


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
        "best": [row for c in comparisons for row in c.best_rows()],
        "passkey": [{"model": c.model} | share.to_dict() for c in comparisons for share in c.keys.shares],
        "costs": [row for c in comparisons for row in c.costs],  # what clocks say is in files of this name alone
    }
    for name, rows in tables.items():
        if rows:
            write_table(run, name, rows)
    lines = [line for c in comparisons for line in (*table_lines(c), "", *c.verdicts(), "")]
    write_text(run.output("tables/table3.txt"), "\n".join(lines) + "\n")
    write_text(run.output("table3.html"), html_page(comparisons))
    costs = [line for c in comparisons for line in (c.model, *cost_lines(c), "")]
    write_text(run.output("tables/costs.txt"), "\n".join(costs) + "\n")
    for found, key in zip(comparisons, slugs([c.model for c in comparisons]), strict=True):
        one_set = [each for each in found.fitted if each.scales is not None and not each.by_length]
        for each, name in zip(one_set, slugs([each.method for each in one_set]), strict=True):
            assert each.scales is not None
            write_json(run.output(f"scales/{key}/{name}.json"), each.scales.to_dict() | {"note": each.how})
        if found.constant_rows():
            save(constants_figure(found), run, f"constants-{key}")
        save(methods_figure(found), run, f"methods-{key}")
        if found.keys.shares:
            save(keys_figure(found), run, f"passkey-{key}")
        if found.costs:
            save(costs_figure(found), run, f"costs-{key}")
    save(perplexity_figure(comparisons), run, "perplexity")
    save(harm_figure(comparisons), run, "harm")
