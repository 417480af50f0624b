"""Rows as CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

Rows = list[dict[str, Any]]


def csv_text(rows: Rows) -> str:
    r"""Return rows as CSV: floats with all their digits, an empty field for what was not measured.

    >>> csv_text([{"a": 0.1, "b": None}, {"a": 2, "c": True}])
    'a,b,c\n0.1,,\n2,,true\n'
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = (row.get(name) for name in columns)
        writer.writerow([str(v).lower() if isinstance(v, bool) else v for v in values])
    return buffer.getvalue()
