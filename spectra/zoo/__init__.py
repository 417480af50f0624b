"""Models that come with the package, and public-domain texts in three disjoint parts.

``MANIFEST.json`` records how each model was trained and where each text comes from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Split = Literal["calibration", "validation", "test"]
Corpus = Literal["books", "gov"]

CORPORA: tuple[Corpus, ...] = ("books", "gov")
"""Books of Project Gutenberg, which the models were trained on the like of; documents of the US government, which they
were not."""

FOLDER = Path(__file__).parent


def text_files(split: Split, corpus: Corpus = "books") -> list[Path]:
    """Return the bundled texts of one part: fit on calibration, choose on validation, report on test."""
    return sorted((FOLDER / "texts" / corpus / split).glob("*.txt"))
