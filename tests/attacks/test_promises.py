"""Test that every promise is held by tests that exist and run, in the numbers told, and that the README says so too."""

import ast
import inspect
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.attacks import test_bad_texts, test_broken_checkpoints, test_leakage, test_made_by, test_no_code
from tests.attacks.promises import PROMISES, readme_table
from tests.attacks.stored_runs import COMMANDS
from tests.attacks.test_any_blocks import test_any_blocks_give_the_same_2000_times as cut_2000_times
from tests.attacks.test_any_shapes import test_1000_models_of_any_shape as shaped_1000_times
from tests.chaos import (
    test_calibrate_kills,
    test_compare_kills,
    test_ctrl_c,
    test_full_disk,
    test_kills_of_every_command,
    test_offline,
    test_report_kills,
    test_run_folder_kills,
    test_sweep_kills,
    test_two_runs,
    test_verify_kills,
)

ROOT = Path(__file__).parents[2]


def functions(path):
    """Test functions of a file, and the source of what is written above each."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {node.name: "\n".join(map(ast.unparse, node.decorator_list)) for node in found}


def test_they_are_numbered_without_a_gap():
    assert [each.number for each in PROMISES] == list(range(1, 21))


def always_long(above):
    return "pytest.mark.soak" in above.splitlines()


@pytest.mark.parametrize("promise", PROMISES, ids=lambda each: str(each.number))
def test_its_tests_exist_and_run(promise):
    assert promise.short
    for name, long in [(test, False) for test in promise.short] + [(test, True) for test in promise.long]:
        path, _, pattern = name.partition("::")
        found = {each: above for each, above in functions(path).items() if fnmatchcase(each, pattern)}
        assert found, f"{name} is not there"
        assert long or not all(map(always_long, found.values())), f"{name} never runs in make test"
        assert not long or all("mark.soak" in above for above in found.values()), f"{name} has no long form"


def test_every_attack_belongs_to_a_promise():
    """A test in one of the two folders holds some promise, so that none of them is lost from the table."""
    short, long = (set().union(*(getattr(each, form) for each in PROMISES)) for form in ("short", "long"))
    for folder in ("attacks", "chaos"):
        for path in sorted((ROOT / "tests" / folder).glob("test_*.py")):
            for name, above in functions(path).items() if path != Path(__file__) else ():
                test = f"{path.relative_to(ROOT).as_posix()}::{name}"
                named = long if always_long(above) else short
                assert any(fnmatchcase(test, each) for each in named), test


def test_the_readme_promises_the_same():
    assert readme_table() in (ROOT / "README.md").read_text(encoding="utf-8")


# -- the numbers -------------------------------------------------------------------------------------------------------


def long_form(function):
    """The arguments by name of every case of a test that ``make soak`` runs."""
    always = any(mark.name == "soak" for mark in function.pytestmark)
    cases = [({}, always)]
    for mark in (mark for mark in function.pytestmark if mark.name == "parametrize"):
        names = [name.strip() for name in mark.args[0].split(",")] if isinstance(mark.args[0], str) else mark.args[0]
        more = []
        for value in mark.args[1]:
            marks = {each.name for each in getattr(value, "marks", ())}
            values = getattr(value, "values", value if len(names) > 1 else [value])
            values = values() if callable(values) else values
            more.append((dict(zip(names, values, strict=True)), "soak" in marks))
        cases = [(one | two, soak or other) for one, soak in cases for two, other in more]
    return [case for case, soak in cases if soak]


def numbers_in(function, pattern):
    """Numbers that stand in the source of a test."""
    found = re.search(pattern, inspect.getsource(function), re.S)
    assert found, pattern
    return [int(number.replace("_", "")) for number in found.groups()]


def kills_of_processes():
    """Of the long forms that kill whole processes; up to so many, as some of them come too late."""
    found = 0
    for module in (test_report_kills, test_calibrate_kills, test_verify_kills, test_compare_kills):
        for function in (value for name, value in vars(module).items() if name.startswith("test_")):
            for case in long_form(function):
                found += case.get("kills") or numbers_in(function, r"kill_and_resume\(.*?, (\d+)[,)]")[0]
    again = test_sweep_kills.test_killed_again_and_again
    return found + len(long_form(again)) * numbers_in(again, r"for k in range\((\d+)\)")[0]


def told_by(tmp_path):
    """What the numbers of a promise are in its tests."""
    payloads = sum(1 for _ in test_no_code.payloads(tmp_path / "canary", range(6)))
    flips = {case["flips"] for case in long_form(test_broken_checkpoints.test_flipped_bytes_are_refused_or_harmless)}
    kills = sum(case["kills"] for case in long_form(test_kills_of_every_command.test_killed_at_random_instants))
    folder = test_run_folder_kills.test_killed_and_resumed_gives_the_same_files
    early, among, late = numbers_in(folder, r"range\((\d+)\)\].*?range\((\d+)\)\].*?len\(plan\) \+ (\d+)\)")
    starts = {case["starts"] for case in long_form(test_two_runs.test_the_first_run_is_unharmed)}
    at_once = numbers_in(test_two_runs.test_of_fifty_processes_that_start_at_once_one_runs, r"in range\((\d+)\)")
    stops = long_form(test_ctrl_c.test_at_random_instants)
    broken = [*test_bad_texts.FILES, *test_bad_texts.ARRAYS, *test_bad_texts.SHORT]
    leaks = [
        *test_leakage.COMMANDS,
        *(case["command"] for case in every(test_leakage.test_a_corpus_that_leaks_is_refused)),
    ]
    disguises = {
        case["how"] for case in every(test_leakage.test_the_same_content_in_two_roles_is_refused) if "how" in case
    }
    peak = (ROOT / "tests/figures/test_resources.py").read_text(encoding="utf-8")
    (band,) = re.findall(r"assert ([\d.]+) < predicted / found < ([\d.]+)", peak)
    return {
        1: [f"{len(test_no_code.READ_BY)} kinds of file, {payloads} payloads in each"],
        2: [f"{max(flips):,} flipped bytes in each of {len(test_broken_checkpoints.KINDS)} kinds of file"],
        4: [f"{kills} kills of {len(test_kills_of_every_command.LONG)} commands",
            f"up to {kills_of_processes()} of processes",
            f"up to {len(long_form(folder)) * (early + among + late)} of a bare run folder"],
        5: [f"{len(test_full_disk.SHORT + test_full_disk.LONG)} commands"],
        6: [f"{at_once[0]} starts at once", f"{max(starts)} starts during one run"],
        8: [f"{examples(cut_2000_times):,} drawn ways", f"{examples(shaped_1000_times):,} drawn shapes"],
        11: ["{} to {}".format(*band)],
        12: [f"{len(set(broken))} broken texts"],
        13: [f"{len(set(leaks))} commands, 6 pairs of roles, {len(disguises)} disguises"],
        17: [f"{sum(case['times'] for case in stops)} interrupts", f"of {len(test_ctrl_c.LONG)} commands",
             f"{len(test_offline.commands(tmp_path, ()))} commands, 0 connections"],
        18: [f"{len(test_made_by.SHORT + test_made_by.LONG)} commands"],
        19: ["{}, {}, {} and {},".format(*sorted({words[0] for words in COMMANDS.values()}))],
    }  # fmt: skip


def every(function):
    """The cases of a test that has one parametrisation for each of its arguments."""
    marks = [mark for mark in function.pytestmark if mark.name == "parametrize"]
    return [{mark.args[0]: value} for mark in marks for value in mark.args[1]]


def examples(function):
    """How often hypothesis draws."""
    return function._hypothesis_internal_use_settings.max_examples


def test_the_numbers_told_are_those_of_the_tests(tmp_path):
    figures = {each.number: each.figure for each in PROMISES}
    for number, told in told_by(tmp_path).items():
        for words in told:
            assert words in figures[number], number
