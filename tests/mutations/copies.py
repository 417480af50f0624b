"""A copy of the project in which faults are planted, one at a time, and what the tests then say."""

import compileall
import json
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("spectra", "simulate", "analysis", "figures")
COMPILED_TOGETHER = ("spectra/compiled", "spectra/scan")
"""Folders whose loops are compiled anew when any file in them changes (``spectra.compiled.jit``)."""
LIMIT_S = 300.0
"""Seconds that the tests of one fault may take; pytest's own limit, which would look like a failed test, is off."""
BY_ASSERTION = ("assert", "AssertionError", "Failed: ")
"""How the messages of tests begin that failed by assertion; the last is pytest's own, as for an error not raised."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of some tests came to."""

    word: str
    """``caught``: a test failed by assertion. ``missed``: all passed. ``raised``: a test failed by another error.
    ``broken``: nothing was tested, or the process died. ``timeout``."""
    told: str
    """The test that failed and why, in a line."""
    seconds: float
    """Wall-clock time."""


def outcome_of(code: int | None, report: Path, seconds: float) -> Outcome:
    """Read what pytest wrote.

    Args:
        code: its exit code; None for a process that was stopped at its limit.
        report: its ``--junitxml`` file.
        seconds: how long it ran.

    Returns:
        The outcome.
    """
    if code is None:
        return Outcome("timeout", "stopped at its limit", seconds)
    cases = list(ET.parse(report).iter("testcase")) if report.exists() else []
    failures = [(case, failure.get("message", "")) for case in cases for failure in case.iter("failure")]
    ran = [case for case in cases if case.find("error") is None and case.find("skipped") is None]
    if code == 0 and ran:
        return Outcome("missed", f"all {len(ran)} tests passed", seconds)
    if code != 1 or not failures:
        errors = [error.get("message", "") for case in cases for error in case.iter("error")]
        return Outcome("broken", _line(f"exit code {code}: {(errors or ['no test ran'])[0]}"), seconds)
    asserted = [each for each in failures if each[1].startswith(BY_ASSERTION)]
    case, message = (asserted or failures)[0]
    return Outcome("caught" if asserted else "raised", _line(f"{case.get('name')}: {message}"), seconds)


def _line(text: str) -> str:
    return " ".join(text.split())[:200]


class Copy:
    """The four packages under their installed names, the tests, and the settings of pytest."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.installed = folder.resolve(), folder.resolve() / "ns"
        left = shutil.ignore_patterns("__pycache__", "*.py[co]", "*.nb[ic]")
        for package in PACKAGES:
            shutil.copytree(ROOT / package, self.installed / "mambascope" / package, ignore=left)
        shutil.copytree(ROOT / "tests", self.folder / "tests", ignore=left)
        shutil.copy2(ROOT / "pyproject.toml", self.folder)
        compileall.compile_dir(self.installed, quiet=1)  # what runs there writes no bytecode
        self._server: subprocess.Popen[str] | None = None

    def source(self, file: str) -> Path:
        """Return where a file of the checkout lies in the copy."""
        return self.installed / "mambascope" / file

    def run(self, tests: tuple[str, ...], *, cache: str = "unchanged", limit_s: float = LIMIT_S) -> Outcome:
        """Run tests until one fails.

        Args:
            tests: as pytest takes them.
            cache: name of the folder for compiled loops.
            limit_s: after how long the process is stopped.

        Returns:
            The outcome.
        """
        report = self.folder / "report.xml"
        report.unlink(missing_ok=True)
        job = {
            "arguments": ["-x", "-q", "-p", "no:cacheprovider", "--timeout=0", f"--junitxml={report}", *tests],
            "folder": str(self.folder),
            "installed": str(self.installed),
            "cache": str(self.folder / cache),
            "limit_s": limit_s,
        }
        server = self._served()
        start = time.perf_counter()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        assert answer, "the process that runs the tests has died"
        return outcome_of(json.loads(answer), report, time.perf_counter() - start)

    def run_changed(self, file: str, old: str, new: str, tests: tuple[str, ...]) -> Outcome:
        """Run tests with one text of one file replaced, then put the file back."""
        path = self.source(file)
        kept, cache = self.folder / "kept", "changed"
        shutil.copy2(path, kept)
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{file}: {old!r} occurs {text.count(old)} times, expected once"
        try:
            path.write_text(text.replace(old, new), encoding="utf-8")
            return self.run(tests, cache=cache if _is_compiled(file, text) else "unchanged")
        finally:
            shutil.copy2(kept, path)  # its time too, so that loops compiled from it stay valid
            shutil.rmtree(self.folder / cache, ignore_errors=True)

    def close(self) -> None:
        """End the process that runs the tests."""
        if self._server is not None:
            self._server.terminate()
            self._server.communicate()
            self._server = None

    def _served(self) -> subprocess.Popen[str]:
        if self._server is None:
            dropped = {"PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST"}
            environment = {key: value for key, value in os.environ.items() if key not in dropped}
            environment |= {"PYTHONPATH": str(self.installed), "PYTHONDONTWRITEBYTECODE": "1"}
            environment |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
            # -P: the folder of the script is no place to import from
            self._server = subprocess.Popen(
                [sys.executable, "-P", str(self.folder / "tests/mutations/server.py")],
                cwd=self.installed, env=environment, text=True, process_group=0,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        return self._server


def _is_compiled(file: str, text: str) -> bool:
    return file.startswith(COMPILED_TOGETHER) or "import numba" in text
