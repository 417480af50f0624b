"""Test ``figures/parser.py`` and ``figures/arguments.py``: one line for each fault, and what to type instead."""

import argparse
from pathlib import Path

import pytest

from mambascope.figures.arguments import add_json, add_model, add_output, model, threads
from mambascope.figures.cli import build_parser
from mambascope.figures.parser import Parser, examples, one_line
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.hints import nearest


@pytest.fixture
def parser():
    made = Parser(prog="tool")
    made.add_argument("--length", type=int)
    made.add_argument("--ratio", type=float)
    made.add_argument("-o", "--output", type=Path)
    made.add_argument("--dtype", choices=("float32", "float64", "bfloat16"))
    made.add_argument("word", nargs="?")
    return made


def told(parser, capsys, *words):
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(words)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert not shown.out
    (line,) = shown.err.splitlines()
    assert line.startswith("mambascope: ")
    assert line.endswith("(usage: tool --help)")
    return line.removeprefix("mambascope: ").removesuffix(" (usage: tool --help)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lenght", "4"], "--lenght is not an option of tool; did you mean --length?"),
        (["--lenght=4"], "--lenght is not an option of tool; did you mean --length?"),
        (["--zzz"], "--zzz is not an option of tool; see its help"),
        (["-output", "x"], "-output is written with two dashes: --output"),
        (["-lenght", "4"], "-lenght is not an option of tool; did you mean --length?"),
        (["--length", "4k"], "--length: '4k' is not a whole number; write digits, as in 8"),
        (["--length", "9" * 5000], "--length: " + one_line(repr("9" * 5000)) + " is not a whole number"),
        (["--ratio", "half"], "--ratio: 'half' is not a number; write 0.5 or 1e-3"),
        (["--length", "-4G"], "--length: '-4G' is not a whole number; write digits, as in 8"),
        (["--length"], "--length needs a value"),
        (["--output", ""], "-o/--output: is empty; give the name of a file or folder"),
        (
            ["--dtype", "float31"],
            "--dtype: 'float31': did you mean float32? expected one of float32, float64, bfloat16",
        ),
        (["--dtype", "int8"], "--dtype: 'int8': expected one of float32, float64, bfloat16"),
        (["a", "b"], "'b': not expected here, remove it or put an option before it"),
        (["a\0b"], "a word of the command line holds a zero byte, which no name can have; remove it"),
    ],
)
def test_a_fault_is_one_line_with_what_to_type(parser, capsys, words, message):
    assert told(parser, capsys, *words).startswith(message)


def test_what_is_right_is_read(parser):
    args = parser.parse_args(["--len", "4", "--ratio", "-1e-3", "-oout", "--dtype=float32", "-"])  # - is standard input
    assert (args.length, args.ratio, args.output, args.dtype, args.word) == (4, -1e-3, Path("out"), "float32", "-")
    assert parser.parse_args(["--", "--length"]).word == "--length"


def test_a_misspelt_option_is_told_before_what_is_missing_because_of_it(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["bake", "mamba2-tiny", "--sclaes", "s.json", "-o", "out"])
    assert "--sclaes is not an option of mambascope bake; did you mean --scales?" in capsys.readouterr().err


def test_commands_have_their_own_usage(capsys):
    for words, message in (
        (["evalute"], "'evalute' is not a command; did you mean evaluate? (usage: mambascope --help)"),
        (["qqq"], "'qqq' is not a command; there are report, verify,"),
        ([], "COMMAND is missing (usage: mambascope --help)"),
        (["models", "all"], "'all': not expected here, remove it or put an option before it (usage: mambascope models"),
        (["norms"], "MODEL is missing (usage: mambascope norms --help)"),
    ):
        with pytest.raises(SystemExit) as stop:
            build_parser().parse_args(words)
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith(f"mambascope: {message}")


def test_nearest_ignores_capitals_and_knows_when_nothing_is_near():
    assert nearest("CPU", ["cuda", "cpu"]) == "did you mean cpu?"
    assert not nearest("xyz", ["cuda", "cpu"])
    assert not nearest("", ["cuda"])


def test_one_line_has_no_control_characters_and_no_endless_words():
    assert one_line("a\r\n\x1b[2Jb\udcff") == "a [2Jb\\udcff"
    assert len(one_line("x" * 9999 + " end")) < 200
    assert one_line("x" * 9999 + " end").endswith("x end")


def test_examples_of_an_epilog():
    assert examples("examples: mambascope a  |  mambascope b; mambascope c\nmambascope d") == [
        f"mambascope {letter}" for letter in "abcd"
    ]
    assert examples("Start with this.") == []


def test_a_model_is_no_file_and_is_given_once(tmp_path, capsys):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"")
    with pytest.raises(RefusedInputError, match="is a file; give a bundled name"):
        model(str(weights))
    with pytest.raises(argparse.ArgumentTypeError, match="is empty"):
        model("")
    assert model("x" * 5000) == "x" * 5000  # refused where it is opened
    parser = Parser(prog="tool")
    add_model(parser, many=True)
    assert parser.parse_args([]).model == []
    assert parser.parse_args(["a", "b"]).model == ["a", "b"]
    assert told(parser, capsys, "a", "b", "a") == "MODEL: a is there twice; give it once"


def test_threads_are_as_many_as_a_machine_can_have(capsys):
    assert (threads("8"), threads("-3")) == (8, -3)  # one below 1 is refused with the other numbers of a command
    for wrong in ("abc", "1e3", "5000", "1000000000000", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            threads(wrong)


def test_an_output_folder_has_a_name(capsys):
    parser = Parser(prog="tool")
    add_output(parser)
    add_json(parser)
    assert told(parser, capsys, "-o", "") == "-o/--output: is empty; give the name of a file or folder"
