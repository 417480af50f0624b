"""Test ``mambascope.analysis.longbench.tasks``: the official prompts, letter by letter, and how tasks are named."""

import hashlib

import pytest

from mambascope.analysis.longbench.tasks import TASKS, find_tasks
from mambascope.spectra.errors import RefusedInputError

OFFICIAL = {  # SHA-256 of the entries of config/dataset2prompt.json, and dataset2maxlen.json, of THUDM/LongBench
    "qasper": ("0fbdd123fe7f83d6", 128),
    "hotpotqa": ("9ec4ae308865bd0c", 32),
    "2wikimqa": ("9ec4ae308865bd0c", 32),
    "trec": ("0eff8bebdba99d91", 64),
    "triviaqa": ("00a802e6377e72fc", 32),
    "lcc": ("6a1f24cf0bb83cd9", 64),
    "repobench-p": ("ee9ec182ea5ffeb7", 64),
}


def test_prompts_and_limits_are_the_official_ones_in_the_order_of_the_papers_table():
    assert list(TASKS) == list(OFFICIAL)
    for name, task in TASKS.items():
        assert (hashlib.sha256(task.prompt.encode()).hexdigest()[:16], task.answer_tokens) == OFFICIAL[name]


def test_metrics_and_first_lines():
    assert [task.metric for task in TASKS.values()] == ["f1", "f1", "f1", "class", "f1", "edit", "edit"]
    assert [name for name, task in TASKS.items() if task.first_line] == ["trec", "triviaqa"]


def test_braces_in_a_text_are_no_places():
    assert TASKS["lcc"].filled("d = {input}{0}", "x") == (
        "Please complete the code given below. \nd = {input}{0}Next line of code:\n"
    )
    assert TASKS["trec"].filled("c", "q").endswith("questions.\n\nc\nq")


def test_tasks_come_in_the_papers_order_and_once():
    assert [task.name for task in find_tasks(["lcc", "qasper", "lcc"])] == ["qasper", "lcc"]
    with pytest.raises(RefusedInputError, match=r"'2wikimqu': did you mean 2wikimqa\? Expected some of qasper, "):
        find_tasks(["2wikimqu"])
