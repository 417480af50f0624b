"""Test that every promise is held by tests that exist and run, and that the README promises the same."""

import ast
from pathlib import Path

import pytest

from tests.attacks.promises import PROMISES, readme_table

ROOT = Path(__file__).parents[2]


def functions(path):
    """Test functions of a file, and the source of what is written above each."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {node.name: "\n".join(map(ast.unparse, node.decorator_list)) for node in found}


def test_they_are_numbered_without_a_gap():
    assert [each.number for each in PROMISES] == list(range(1, 21))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda each: str(each.number))
def test_its_tests_exist_and_run(promise):
    assert promise.short
    for name, long in [(test, False) for test in promise.short] + [(test, True) for test in promise.long]:
        path, _, function = name.partition("::")
        above = functions(path)[function]
        marks = [line for line in above.splitlines() if "soak" in line]
        always = any(line == "pytest.mark.soak" for line in marks)
        assert not (always and not long), f"{name} never runs in make test"
        assert marks or not long, f"{name} has no long form"


def test_every_attack_belongs_to_a_promise():
    """A file in one of the two folders holds some promise, so that no test of them is lost from the table."""
    named = {test.partition("::")[0] for each in PROMISES for test in each.short + each.long}
    for folder in ("attacks", "chaos"):
        for path in (ROOT / "tests" / folder).glob("test_*.py"):
            assert path == Path(__file__) or path.relative_to(ROOT).as_posix() in named, path


def test_the_readme_promises_the_same():
    assert readme_table() in (ROOT / "README.md").read_text(encoding="utf-8")
