"""Run a command of mambascope inside the test's process, and see what a person would see of it."""

import contextlib
import io
from dataclasses import dataclass

from mambascope.figures.cli import main


@dataclass(frozen=True)
class Told:
    """What a command left on the screen."""

    code: int
    out: str
    err: str

    @property
    def lines(self):
        """Lines of the command's own refusal; a proper one has exactly one."""
        return [line for line in self.err.splitlines() if line.startswith("mambascope: ")]


def told(*words):
    """Run one command; whatever it raises beyond its exit codes is raised here too."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:  # argparse
            code = stop.code
    return Told(code, out.getvalue(), err.getvalue())


def refused(words, *names, code=3):
    """Run a command that must refuse in one line, without a result, and return that line."""
    found = told(*words)
    assert found.code == code, (words, found)
    assert not found.out, (words, found)
    assert len(found.lines) == 1, (words, found)
    for name in names:
        assert str(name) in found.lines[0], (name, found.lines)
    return found.lines[0]
