"""Test that every help teaches by examples that parse, comes fast, and loads nothing heavy."""

import resource
import shlex
import subprocess
import sys

import pytest

from mambascope.figures.cli import COMMANDS, build_parser
from mambascope.figures.parser import examples

HELP = "import sys; from mambascope.figures.cli import main\ntry: main({words})\nexcept SystemExit: pass\n"
HEAVY = ("torch", "numpy", "scipy", "numba", "matplotlib", "sympy", "pandas", "tqdm", "msgspec")


def words_of(line):
    """The words of an example after ``mambascope``, without a redirection and a comment."""
    words = shlex.split(line, comments=True)
    cut = next((k for k, word in enumerate(words) if word in {">", ">>"}), len(words))
    assert words[0] == "mambascope", line
    return words[1:cut]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_every_command_parse(command, capsys):
    parser = build_parser()
    lines = examples(parser.verbs.choices[command].epilog or "")
    assert any(words_of(line)[0] == command for line in lines), "no example shows this command"
    for line in lines:
        args = parser.parse_args(words_of(line))
        assert args.command in {command, "propose"}  # what comes before it
    with pytest.raises(SystemExit):
        parser.parse_args([command, "--help"])
    shown = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in shown[-len(lines) :]] == lines  # each on a line of its own, ready to be copied


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command):
    parser = build_parser().verbs.choices[command]
    assert len(parser.description or "") > 40
    assert all(action.help for action in parser.options())


def test_the_examples_of_the_program_parse():
    lines = examples(build_parser().epilog)
    assert len(lines) >= 3
    for line in lines:
        build_parser().parse_args(words_of(line))


@pytest.mark.parametrize("words", [["--help"], ["compare", "--help"], ["--version"], ["evalute"]])
def test_help_loads_nothing_heavy(words):
    code = HELP.format(words=words) + f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_takes_less_than_200_ms():
    """Processor time of the whole process: what a free core takes, and what a busy machine does not change."""

    def seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", HELP.format(words=["--help"])], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(7)) < 0.2


def test_the_version_is_the_installed_one():
    from importlib import metadata

    code = "from mambascope.figures.cli import main; main(['--version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == f"mambascope {metadata.version('mambascope')}\n"
    assert done.returncode == 0
    assert not done.stderr
