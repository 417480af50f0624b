"""What has been found so far, kept so that a second run goes on, and the table made of it."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tests.mutations.copies import Copy, Outcome
from tests.mutations.faults import Fault, faults

UNCHANGED = "unchanged"
"""Name of the part about the copy without any fault."""
ALL_LIMIT_S = 3600.0
"""Seconds that all named tests may take together."""
SETTLED = ("caught", "missed", "raised")
"""Outcomes that a second run would find again; others are tried again."""


class Record:
    """Parts in a folder, one a fault; each is valid for the sources and tests that it was found with."""

    def __init__(self, folder: Path, copy: Copy) -> None:
        self.folder, self.copy, self.faults = folder, copy, faults()
        tests = copy.folder / "tests"
        files = [copy.folder / "pyproject.toml"]
        for package in {fault.file.split("/")[0] for fault in self.faults}:  # no other is imported by these
            files += [p for p in copy.source(package).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        files += [path for path in tests.rglob("*.py") if not path.name.startswith("test_")]
        self._sources = self._hash([path for path in files if tests / "mutations" not in path.parents])

    def _hash(self, files: list[Path]) -> str:
        content = hashlib.sha256()
        for path in sorted(files):
            content.update(str(path.relative_to(self.copy.folder)).encode() + path.read_bytes())
        return content.hexdigest()

    def _key(self, tests: tuple[str, ...], *more: str) -> str:
        named = sorted({self.copy.folder / test.partition("::")[0] for test in tests})
        return hashlib.sha256("\0".join([self._sources, self._hash(named), *tests, *more]).encode()).hexdigest()

    def _kept(self, name: str, key: str) -> Outcome | None:
        path = self.folder / f"{name}.json"
        if not path.exists():
            return None
        part = json.loads(path.read_text(encoding="utf-8"))
        return Outcome(**part["outcome"]) if part["key"] == key else None

    def _keep(self, name: str, key: str, outcome: Outcome) -> Outcome:
        self.folder.mkdir(parents=True, exist_ok=True)
        part = json.dumps({"key": key, "outcome": asdict(outcome)}, indent=1) + "\n"
        (self.folder / f"{name}.json").write_text(part, encoding="utf-8")
        return outcome

    def unchanged(self) -> Outcome:
        """Return what all named tests say of the copy as it is."""
        tests = tuple(sorted({test for fault in self.faults for test in fault.tests}))
        key = self._key(tests)
        kept = self._kept(UNCHANGED, key)
        if kept is not None and kept.word == "missed":
            return kept
        return self._keep(UNCHANGED, key, self.copy.run(tests, limit_s=ALL_LIMIT_S))

    def of(self, fault: Fault) -> Outcome | None:
        """Return what was found of a fault; None where that is not known."""
        return self._kept(fault.name, self._fault_key(fault))

    def found(self, fault: Fault) -> Outcome:
        """Return what a fault's tests say of it."""
        kept = self.of(fault)
        if kept is not None and kept.word in SETTLED:
            return kept
        found = self.copy.run_changed(fault.file, fault.old, fault.new, fault.tests)
        return self._keep(fault.name, self._fault_key(fault), found)

    def _fault_key(self, fault: Fault) -> str:
        return self._key(fault.tests, fault.file, fault.old, fault.new)

    def write(self) -> str:
        """Write the table of all faults and return it in short, a line a file."""
        outcomes = [(fault, self.of(fault) or Outcome("not run", "", 0.0)) for fault in self.faults]
        summary = f"{len(outcomes)} faults: {_counts(outcome.word for _, outcome in outcomes)}"
        summary += f"; {sum(outcome.seconds for _, outcome in outcomes):.0f} s"
        lines = ["# Planted faults", "", summary, "", "| file | fault | outcome | seconds | test |", "|-|-|-|-|-|"]
        for fault, outcome in outcomes:
            told = outcome.told.partition(": ")[0] if outcome.word == "caught" else outcome.told
            told = told.replace("|", "&#124;")
            lines.append(f"| {fault.file} | {fault.wrong} | {outcome.word} | {outcome.seconds:.1f} | {told} |")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "mutations.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        by_file: dict[str, list[str]] = {}
        for fault, outcome in outcomes:
            by_file.setdefault(fault.file, []).append(outcome.word)
        width = max(map(len, by_file))
        return "\n".join([*(f"{file:{width}}  {_counts(words)}" for file, words in by_file.items()), "", summary])


def _counts(words: Iterable[str]) -> str:
    return ", ".join(f"{n} {word}" for word, n in Counter(words).most_common())
