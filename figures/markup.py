"""Pieces of HTML. Whatever comes from outside (names, texts, numbers) is escaped here and nowhere else."""

from __future__ import annotations

import base64
import html
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


def definitions(pairs: Sequence[tuple[str, str]]) -> str:
    """Return questions or words with what is said of each."""
    return '<dl class="answers">' + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs) + "</dl>"


def folded(summary: str, inside: str) -> str:
    """Return HTML that is shown on demand, under a line of plain text."""
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


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
