"""Results as a table of HTML: what a notebook shows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

MOST_ROWS = 40
"""Rows that are shown; a line says how many more there are. Ours: about a screen."""


def html_table(rows: Sequence[Mapping[str, Any]], title: str = "", most: int = MOST_ROWS) -> str:
    """Return rows under their column names, everything escaped.

    Args:
        rows: one mapping a row; a column that a row lacks stays empty.
        title: what stands above.
        most: rows to show at most.

    Returns:
        A ``div`` with one table, without styles or scripts.

    >>> html_table([{"a": 1}, {"b": "<"}], most=1)
    '<div><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td></td></tr></tbody></table>\
<p>1 more row</p></div>'
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(str(name))}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_cell(row.get(name)))}</td>' for name in columns)}</tr>" for row in rows[:most]
    )
    above = f"<p>{escape(title)}</p>" if title else ""
    more = len(rows) - most
    below = f"<p>{more:,} more row{'s' if more > 1 else ''}</p>" if more > 0 else ""
    return f"<div>{above}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}</div>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.3e}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
