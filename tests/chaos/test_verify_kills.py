"""Verification killed again and again, on one worker and on two: every block, table and figure comes out the same."""

import pytest

CLAIMS = ("eq-6", "theorem-4.2", "corollary-4.4", "theorem-b.1")


@pytest.mark.parametrize(
    ("jobs", "kills"),
    [(1, 3), (2, 2), pytest.param(1, 60, marks=pytest.mark.soak), pytest.param(2, 60, marks=pytest.mark.soak)],
)
def test_a_killed_verification_ends_up_the_same(kill_and_resume, jobs, kills):
    """The run that is not killed uses one worker."""
    words = ["verify", *CLAIMS, "--trials", "65536", "--jobs"]
    kill_and_resume([*words, str(jobs)], kills, files=40, whole_words=[*words, "1"])


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.soak)])
def test_a_killed_simulation_ends_up_the_same(kill_and_resume, kills):
    words = ["simulate", "--law", "uniform:0,0.99", "--channels", "64", "--times", "16,1k", "--trials", "20000"]
    kill_and_resume([*words, "--jobs", "1"], kills, files=20)
