"""The name of a file while it is written: what a killed process left behind is known by it, and removed."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

TEMPORARY = re.compile(r"^\..*\.[0-9a-f]{16}\.mambascope-tmp(\.[^.]*)?$", re.DOTALL)
"""Names that only ``temporary_beside`` gives."""


def temporary_beside(target: Path) -> Path:
    """Return a new name in the target's folder, with its suffix, which some writers go by."""
    return target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.mambascope-tmp{target.suffix[:20]}")
