"""Test the record of planted faults: a second run goes on, and what rests on other files now is tried again."""

import pytest

from tests.mutations import record as module
from tests.mutations.copies import Outcome
from tests.mutations.faults import Fault
from tests.mutations.record import Record

CAUGHT = Fault("a", "spectra/x.py", "1", "2", "it is two", ("tests/test_x.py",))
SLOW = Fault("b", "spectra/x.py", "1", "3", "it is three", ("tests/test_y.py::test_y",))


class Stub:
    """Stands in for a copy; keeps what was asked of it."""

    def __init__(self, folder):
        self.folder, self.asked, self.word = folder, [], "caught"
        for file in ("ns/mambascope/spectra/x.py", "tests/test_x.py", "tests/test_y.py", "pyproject.toml"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text("1")

    def source(self, file):
        return self.folder / "ns/mambascope" / file

    def run(self, tests, *, limit_s):
        self.asked.append(tests)
        return Outcome("missed", "all tests passed", 2.0)

    def run_changed(self, file, old, new, tests):
        self.asked.append(new)
        return Outcome(self.word, "test_x: assert 1 == 2", 1.0)


@pytest.fixture
def copy(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "faults", lambda: (CAUGHT, SLOW))
    return Stub(tmp_path / "copy")


def asked(folder, copy):
    """Go through everything once, as a new run would; return what had to be run."""
    copy.asked.clear()
    record = Record(folder, copy)
    assert record.unchanged().word == "missed"
    for fault in (CAUGHT, SLOW):
        record.found(fault)
    return list(copy.asked)


def test_what_is_settled_is_not_run_again_until_a_file_of_its_own_changes(tmp_path, copy):
    both = ("tests/test_x.py", "tests/test_y.py::test_y")
    assert asked(tmp_path / "parts", copy) == [both, "2", "3"]
    assert asked(tmp_path / "parts", copy) == []
    (copy.folder / "tests/test_y.py").write_text("2")
    assert asked(tmp_path / "parts", copy) == [both, "3"]
    copy.source("spectra/x.py").write_text("1 ")
    copy.word = "timeout"  # may come out otherwise another time
    assert asked(tmp_path / "parts", copy) == [both, "2", "3"]
    assert asked(tmp_path / "parts", copy) == ["2", "3"]


def test_the_table_has_a_line_for_every_fault(tmp_path, copy):
    record = Record(tmp_path / "parts", copy)
    record.found(CAUGHT)
    told = record.write().splitlines()
    assert told == ["spectra/x.py  1 caught, 1 not run", "", "2 faults: 1 caught, 1 not run; 1 s"]
    lines = (tmp_path / "parts/mutations.md").read_text().splitlines()
    assert lines[-2:] == [
        "| spectra/x.py | it is two | caught | 1.0 | test_x |",
        "| spectra/x.py | it is three | not run | 0.0 |  |",
    ]
