"""Test ``mambascope.figures.entry``: an interrupt in the first milliseconds, too, is one line and exit code 130."""

import subprocess
import sys

import pytest

STOP = """
import sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from mambascope.figures.entry import main
sys.exit(main())
"""
LOADED = """
import sys
before = set(sys.modules)
import mambascope.figures.entry
print(*sorted(set(sys.modules) - before))
"""


def run(code, *words):
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["mambascope.figures.cli", "argparse", "mambascope.figures.commands.report", "torch"])
def test_an_interrupt_while_the_program_is_imported(name):
    found = run(STOP.format(name=name), "doctor")
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "mambascope: interrupted\n")


def test_next_to_nothing_is_imported_before():
    names = set(run(LOADED).stdout.split())
    assert names == {"mambascope", "mambascope.figures", "mambascope.figures.entry"}


def test_it_is_the_same_program():
    found = run("import sys; from mambascope.figures.entry import main; sys.exit(main())", "--version")
    assert found.returncode == 0
    assert found.stdout.startswith("mambascope ")
