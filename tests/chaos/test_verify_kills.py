"""Verification killed again and again, on one worker and on two: every block, table and figure comes out the same."""

import pytest

pytestmark = pytest.mark.timeout(7200)  # of the long forms

FEW = ("eq-6", "theorem-4.2")
CLAIMS = (*FEW, "corollary-4.4", "theorem-b.1")


@pytest.mark.parametrize(
    ("claims", "trials", "jobs", "kills"),
    [(FEW, 16_384, 2, 2)] + [pytest.param(CLAIMS, 65_536, jobs, 60, marks=pytest.mark.soak) for jobs in (1, 2)],
)
def test_a_killed_verification_ends_up_the_same(kill_and_resume, claims, trials, jobs, kills):
    """The run that is not killed uses one worker."""
    words = ["verify", *claims, "--trials", str(trials), "--jobs"]
    kill_and_resume([*words, str(jobs)], kills, files=10 * len(claims), whole_words=[*words, "1"])


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.soak)])
def test_a_killed_simulation_ends_up_the_same(kill_and_resume, kills):
    words = ["simulate", "--law", "uniform:0,0.99", "--channels", "64", "--times", "16,1k", "--trials", "20000"]
    kill_and_resume([*words, "--jobs", "1"], kills, files=20)
