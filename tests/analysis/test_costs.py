"""analysis/costs.py: seconds and memory of a piece of work, kept apart from results."""

import time
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.costs import Cost, CostBook, measured
from mambascope.analysis.runs import RunFolder


def test_work_is_timed_and_its_tokens_are_counted_and_passed_on():
    ticks = []

    def work(tick):
        time.sleep(0.05)
        tick(3)
        tick(4)
        return "done"

    found, cost = measured(work, ticks.append)
    assert (found, cost.tokens, ticks, cost.resumed) == ("done", 7, [3, 4], False)
    assert 0.05 <= cost.seconds < 5


def test_memory_is_not_measured_where_it_is_not_wanted():
    assert measured(lambda tick: tick(3), memory=False)[1].peak_bytes is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
def test_memory_is_the_growth_of_this_work_and_not_of_any_before():
    def work(megabytes):
        return lambda _: float(np.ones(megabytes * 2**17).sum())  # 8 bytes each

    measured(work(256))
    _, small = measured(work(8))
    _, large = measured(work(128))
    assert small.peak_bytes < 64 * 2**20
    assert 120 * 2**20 < large.peak_bytes < 200 * 2**20


def test_costs_are_read_again_by_a_later_session(tmp_path):
    for k in range(2):
        with RunFolder.open(tmp_path / "run", command={"v": 1}, seed=0) as run, CostBook.open(run) as book:
            if k == 0:
                book.note("fit/heads", Cost(1.5, 10, 100, resumed=True))
            assert book.of("fit/heads") == Cost(1.5, 10, 100, resumed=True)
            assert book.of("fit/none") is None
    assert "costs.jsonl" in run.manifest.outputs
    assert len(run.journal) == 0  # results are elsewhere


def test_without_a_run_folder_costs_last_as_long_as_the_book():
    with CostBook.open(None) as book:
        book.note("a", Cost(1.0, None, 5))
        assert book.of("a") == Cost(1.0, None, 5)
