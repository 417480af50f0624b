"""figures/next_steps.py: commands that the program takes as they stand."""

import dataclasses
import shlex

from mambascope.figures.cli import build_parser
from mambascope.figures.next_steps import command_lines


def test_commands_carry_what_the_model_needs(make):
    study = dataclasses.replace(make(), options=("--train-length", "2k", "--tokenizer", "a b.json"))
    lines = command_lines(study, "x")
    assert all("--train-length 2k --tokenizer 'a b.json'" in line for line in lines)
    odd = command_lines(dataclasses.replace(study, argument="-m odd"), "x")
    assert all(line.endswith(" -- '-m odd'") for line in odd)
    for line in (*lines, *odd):
        assert build_parser().parse_args(shlex.split(line)[1:]).train_length == 2048
