"""The table of planted faults: each changes numbers in one place, and a test of ``make test`` must see it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One small fault."""

    name: str
    """What it is called; unique."""
    file: str
    """The file it is planted in, from the checkout's root."""
    old: str
    """Text of the file as it is, exactly once in it."""
    new: str
    """Text in its place."""
    wrong: str
    """What is wrong then."""
    tests: tuple[str, ...]
    """Tests that should catch it, as pytest takes them: files, or ``file::function``."""


def table(*rows: tuple[str, str, str, str, str, str]) -> tuple[Fault, ...]:
    """Make faults of rows (name, file, old, new, what is wrong, test)."""
    return tuple(Fault(*row[:5], row[5:]) for row in rows)


def faults() -> tuple[Fault, ...]:
    """Return the whole table."""
    from tests.mutations import faults_analysis, faults_evaluation, faults_scans, faults_simulate, faults_spectra

    parts = (faults_spectra, faults_simulate, faults_analysis, faults_evaluation, faults_scans)
    return tuple(fault for part in parts for fault in part.FAULTS)
