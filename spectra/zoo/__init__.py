"""Models that come with the package, and public-domain texts in three disjoint parts.

``MANIFEST.json`` records how each model was trained and where each text comes from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Split = Literal["calibration", "validation", "test"]

FOLDER = Path(__file__).parent


def text_files(split: Split) -> list[Path]:
    """Return the bundled texts of one part: fit on calibration, choose on validation, report on test."""
    return sorted((FOLDER / "texts" / split).glob("*.txt"))
