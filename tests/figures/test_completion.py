"""Test ``figures/completion.py``: the script of bash is run, those of the other shells are read."""

import json
import shutil
import subprocess
import sys

import pytest

from mambascope.figures.cli import COMMANDS, build_parser, main
from mambascope.figures.completion import WORDS, script

BASH = shutil.which("bash")


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    path = tmp_path_factory.mktemp("shell") / "mambascope.bash"
    path.write_text(script("bash", build_parser()))

    def ask(line):
        """What bash offers at the end of a line."""
        words = ["mambascope", *line.split(" ")]
        quoted = " ".join(f"'{word}'" for word in words)
        code = f"source {path}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _mambascope; "
        code += 'printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run([BASH, "--norc", "-c", code], capture_output=True, text=True, check=True)
        assert not done.stderr
        return done.stdout.split()

    return ask


@pytest.mark.skipif(BASH is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("eva", ["evaluate"]),
        ("--v", ["--version"]),
        ("norms mamba-", ["mamba-tiny"]),
        ("norms mamba-tiny --dtype ", ["float32", "float64", "bfloat16", "float16"]),
        ("norms mamba-tiny --dty", ["--dtype"]),
        ("bake mamba2-tiny --layout s", ["state-spaces"]),
        ("verify theorem-4", ["theorem-4.2"]),
        ("verify theorem-4.2 eq-6 l", ["lemma-4.1"]),
        ("norms mamba-tiny --text ", []),  # a file: the shell's own completion
        ("norms mamba-tiny -o ", []),
        ("calibrate mamba2-tiny --kind a_", ["a_power"]),
        ("simulate --kind d", ["diagonal"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("nonsense x", []),
    ],
)
def test_bash_offers(complete, line, offered):
    assert complete(line) == offered


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_bash_offers_all_commands_and_all_options(complete):
    assert complete("") == [*COMMANDS, "--help", "--version"]
    for command in COMMANDS:
        known = [name for action in build_parser().verbs.choices[command].options() for name in action.option_strings]
        assert complete(f"{command} -") == known


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed_and_nothing_heavy_is_loaded(shell, capsys):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "mambascope" in text
    assert "theorem-4.2" in text
    code = f"import sys, json; from mambascope.figures.cli import main; main(['completion', '{shell}']); "
    code += "print(json.dumps('torch' in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == text
    assert json.loads(done.stderr) is False


def test_fish_has_a_line_for_every_option():
    lines = script("fish", build_parser()).splitlines()
    assert all(
        line.startswith("complete -c mambascope ") and line.replace("\\'", "").count("'") % 2 == 0 for line in lines
    )
    for command, parser in build_parser().verbs.choices.items():
        assert any(f"-a {command} " in line for line in lines)
        for action in parser.options():
            name = action.option_strings[-1].lstrip("-")
            assert any(f"seen_subcommand_from {command}'" in line and f"-l {name} " in line for line in lines)


def test_the_words_are_those_that_the_program_knows():
    from mambascope.analysis.calibration import CALIBRATION_KINDS, GRANULARITIES, METHODS
    from mambascope.analysis.engine import ENGINES
    from mambascope.analysis.goals import GOALS
    from mambascope.simulate.claims import KEYS
    from mambascope.spectra.checkpoint import bundled_models
    from mambascope.spectra.zoo import CORPORA

    assert list(WORDS["model"]) == bundled_models()
    assert set(WORDS["recipe"]) <= set(bundled_models())
    assert WORDS["claims"] == KEYS
    assert set(WORDS["method"]) == set(METHODS)
    assert set(WORDS["kind"]) == set(CALIBRATION_KINDS)
    assert set(WORDS["granularity"]) == set(GRANULARITIES)
    assert set(WORDS["goal"]) == set(GOALS)
    assert set(WORDS["engine"]) == {name for name in ENGINES if ":" not in name}
    assert WORDS["corpora"] == CORPORA
