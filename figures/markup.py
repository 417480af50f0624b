"""Pieces of HTML. Whatever comes from outside (names, texts, numbers) is escaped here and nowhere else."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .gallery import Drawing
from .style import svg_bytes


@dataclass(frozen=True, slots=True)
class Number:
    """A number as people read it, with its exact value for sorting and for programs."""

    value: float
    """All digits."""
    text: str
    """What is shown."""


Cell = str | Number


def escape(text: object) -> str:
    """Return a text that is safe in HTML, inside tags' quotes too."""
    return html.escape(str(text), quote=True)


def coded(text: str) -> str:
    """Return plain text in which what stands between backticks is shown as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def paragraphs(texts: Sequence[str]) -> str:
    """Return several sentences as one paragraph of plain text."""
    return paragraph(" ".join(texts))


def _cell(cell: Cell) -> str:
    if isinstance(cell, Number):
        text, bracket, interval = escape(cell.text).partition(" [")
        second = f' <span class="interval">[{interval}</span>' if bracket else ""
        return f'<td class="number" data-value="{cell.value!r}">{text}{second}</td>'
    return f"<td>{escape(cell)}</td>"


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, sortable: bool = False) -> str:
    """Return a table; it scrolls by itself where the page is narrow.

    Args:
        caption: what it holds, with units.
        columns: headings.
        rows: cells, as many a row as there are columns.
        sortable: let a click on a heading sort it.

    Returns:
        HTML.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>\n" for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table{kind}>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"
    )


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return a list of names and values."""
    return '<dl class="facts">' + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs) + "</dl>"


def definitions(pairs: Sequence[tuple[str, str | Sequence[str]]]) -> str:
    """Return questions or words with what is said of each: a text, or several as a list."""
    return '<dl class="answers">' + "".join(f"<dt>{escape(k)}</dt><dd>{_said(v)}</dd>" for k, v in pairs) + "</dl>"


def _said(text: str | Sequence[str]) -> str:
    if isinstance(text, str):
        return escape(text)
    return '<ul class="claims">' + "".join(f"<li>{escape(each)}</li>" for each in text) + "</ul>"


def folded(summary: str, inside: str, kind: str = "") -> str:
    """Return HTML that is shown on demand, under a line of plain text; the kind ``long`` stays folded on paper."""
    of_kind = f' class="{escape(kind)}"' if kind else ""
    return f"<details{of_kind}><summary>{escape(summary)}</summary>{inside}</details>"


_STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2em;max-width:90em}table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:left}td.number{white-space:nowrap}"
    "caption{text-align:left;font-weight:bold}.interval{color:#666;font-size:85%}.scroll{overflow-x:auto}"
    "dl.facts{display:grid;grid-template-columns:max-content 1fr;gap:0 1em}dd{margin:0}"
)


def page(title: str, parts: Sequence[str]) -> str:
    """Return a whole page of tables, plain and offline."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def commands(lines: Sequence[str]) -> str:
    """Return commands as people would type them."""
    return "<pre><code>" + escape("\n".join(lines)) + "</code></pre>"


def figure(drawing: Drawing) -> str:
    """Return a drawing inside the page itself: nothing is loaded, and an image runs no script."""
    data = base64.b64encode(svg_bytes(drawing.figure)).decode()
    width = round(drawing.figure.get_figwidth() * 120)  # 1.25 of the size on paper: easy to read on a screen
    return (
        f'<figure><div class="card scroll" tabindex="0" role="region" aria-label="figure: {escape(drawing.key)}">'
        f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(drawing.alt)}" style="width:{width}px"></div>'
        f"<figcaption>{escape(drawing.caption)}</figcaption></figure>"
    )
