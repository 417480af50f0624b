"""Test the table of planted faults itself, and how the outcome of a run is told."""

import ast
import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.mutations.copies import ROOT, outcome_of
from tests.mutations.faults import faults

FAULTS = faults()


def test_faults_are_many_and_have_names_of_their_own():
    assert f"plants {len(FAULTS)} small faults" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert max(Counter(fault.name for fault in FAULTS).values()) == 1
    assert {fault.file.split("/")[0] for fault in FAULTS} == {"spectra", "simulate", "analysis"}


def test_every_fault_has_its_place_and_changes_the_program():
    for fault in FAULTS:
        text = (ROOT / fault.file).read_text(encoding="utf-8")
        assert text.count(fault.old) == 1, fault.name
        changed = text.replace(fault.old, fault.new)
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text)), fault.name


def test_every_named_test_is_there():
    for fault in FAULTS:
        assert fault.tests, fault.name
        for test in fault.tests:
            file, _, function = test.partition("::")
            text = (ROOT / file).read_text(encoding="utf-8")
            assert f"def {function.partition('[')[0]}(" in text if function else "def test_" in text, fault.name


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("def test_a(): assert 1 == 1", "missed"),
        ("def test_a(): assert 1 == 2", "caught"),
        ("def test_a(): raise ValueError('assert')", "raised"),
        ("import nothing_of_this_name\ndef test_a(): pass", "broken"),
        ("import pytest\n@pytest.fixture\ndef f(): assert False\ndef test_a(f): pass", "broken"),
    ],
    ids=["passes", "asserts", "raises", "cannot be imported", "fixture"],
)
def test_only_a_failed_assertion_counts_as_caught(tmp_path, source, word):
    (tmp_path / "test_x.py").write_text(source)
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--junitxml=report.xml"]
    quiet = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([*command, "test_x.py"], cwd=tmp_path, env=quiet, capture_output=True, check=False)
    assert outcome_of(done.returncode, tmp_path / "report.xml", 0.0).word == word
    assert outcome_of(None, tmp_path / "report.xml", 0.0).word == "timeout"
    assert outcome_of(1, tmp_path / "none.xml", 0.0).word == "broken"  # died before it could report
