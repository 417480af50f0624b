"""What a terminal shows: tables on stdout, one JSON document where asked for, progress with time left on stderr."""

from __future__ import annotations

import logging
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from .progress import progress

__all__ = ["print_json", "print_table", "print_wrapped", "progress", "say", "show_log"]


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout; infinities and NaN raise ``NotFiniteError`` before anything is printed."""
    from mambascope.analysis.atomic import json_bytes

    sys.stdout.write(json_bytes(dict(document)).decode() + "\n")


def say(text: str) -> None:
    """Print a line for people on stderr."""
    print(text, file=sys.stderr)


class _Say(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def show_log() -> None:
    """Show on stderr what the packages log for people, such as that loops are being compiled."""
    log = logging.getLogger("mambascope")
    log.setLevel(logging.INFO)
    if not log.handlers:
        log.addHandler(_Say())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.3e}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows under their column names, aligned."""
    if not rows:
        return
    columns = list(rows[0])
    cells = [columns, *([_cell(row[c]) for c in columns] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(columns))]
    for row in cells:
        print("  ".join(value.rjust(width) for value, width in zip(row, widths, strict=True)))


def print_wrapped(text: str, indent: int = 0) -> None:
    """Print a sentence, broken between words where the terminal ends; what follows the first line stands further in."""
    width = max(40, shutil.get_terminal_size().columns)
    first, later = " " * indent, " " * (indent + 4)
    print(textwrap.fill(text, width, initial_indent=first, subsequent_indent=later, break_long_words=False))
