"""A part of a run: keys and files below a name of its own, so that work that wants a whole run folder shares one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .journal import Journal
from .runs import RunFolder


class _PartOfJournal(Journal):
    """Reads and writes the whole journal, with a name before every key."""

    def __init__(self, whole: Journal, name: str) -> None:
        self.whole, self.name, self.path = whole, name, whole.path

    def append(self, kind: str, key: str, value: Any) -> None:
        self.whole.append(kind, f"{self.name}/{key}", value)

    def get(self, kind: str, key: str) -> Any:
        return self.whole.get(kind, f"{self.name}/{key}")

    def __contains__(self, kind_and_key: tuple[str, str]) -> bool:
        kind, key = kind_and_key
        return (kind, f"{self.name}/{key}") in self.whole


class PartOfRun(RunFolder):
    """Behaves as a run folder of its own inside another; what is read and written belongs to the whole run.

    Args:
        whole: the run.
        name: comes before every key, and before every file's path below ``data``.
    """

    def __init__(self, whole: RunFolder, name: str) -> None:
        super().__init__(whole.folder, whole.manifest, _PartOfJournal(whole.journal, name), resuming=whole.resuming)
        self.whole, self.name = whole, name

    def output(self, name: str) -> Path:
        """Claim a result file of the whole run, in ``data/<name of the part>``."""
        return self.whole.output(f"data/{self.name}/{name}")

    def made_by(self) -> dict[str, Any]:
        """Return how the whole run's results are made."""
        return self.whole.made_by()
