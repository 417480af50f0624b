"""Promise 4 for every command with a run folder: kill -9 at random instants costs at most the step that was running.

Those that take long (report, calibrate, verify, compare, sweep) are also killed as processes of their own, with workers
where they have them, in the files beside this one; a sweep only there, as it journals nothing.
"""

import random
import signal
import time

import pytest

from mambascope.analysis.runs import read_manifest
from tests.attacks.commands import told
from tests.chaos.forked import USABLE, signalled
from tests.chaos.small_runs import hashes, lines, prepare, whole_so_far

pytestmark = pytest.mark.skipif(not USABLE, reason="needs fork, and no CUDA context that it would break")
SHORT = ("evaluate", "train", "bake", "simulate", "calibrate", "verify", "report")
FEW = {"report": 1, "verify": 1}
"""Kills in the short form, where a run takes longest."""
LONG = ("spectrum", "norms", "diagnose", "propose", "forecast", "starts", "compare", *SHORT)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "kills"),
    [(name, FEW.get(name, 3)) for name in SHORT] + [pytest.param(name, 30, marks=pytest.mark.soak) for name in LONG],
)
def test_killed_at_random_instants(tmp_path, name, kills):
    words = prepare(tmp_path)[name]
    began = time.monotonic()
    assert told(*words, "-o", tmp_path / "calm").code == 0
    takes_s = time.monotonic() - began
    expected, rng, killed, folders = hashes(tmp_path / "calm"), random.Random(name), 0, 0
    run = tmp_path / "run-0"
    while killed < kills:
        before = lines(run)
        goal = len(before) + rng.randrange(3) if killed % 2 else 0  # half of them aim at the journal, half at any time
        code = signalled(
            [*words, "-o", run],
            tmp_path / "told",
            signal.SIGKILL,
            lambda run=run, goal=goal: len(lines(run)) >= goal,
            rng.random() * takes_s * 0.8**folders / (8 if goal else 1),  # sooner, where it was done before
        )
        assert code in {-signal.SIGKILL, 0}, (tmp_path / "told").read_text()
        assert lines(run)[: len(before)] == before  # nothing that was finished is lost or done again
        whole_so_far(run, expected)
        if code == 0:
            assert hashes(run) == expected
            folders += 1
            run = tmp_path / f"run-{folders}"
        killed += code != 0
        assert folders < 3 * kills + 9, "the command ends before it can be killed"
    assert told(*words, "-o", run).code == 0
    assert hashes(run) == expected
    assert read_manifest(run).status == "finished"
    assert not list(run.rglob("*mambascope-tmp*"))
    print(f"{name}: {killed} kills, 0 lost")
