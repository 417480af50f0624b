"""Verification killed again and again, on one worker and on two: every block, table and figure comes out the same."""

import pytest

pytestmark = pytest.mark.timeout(7200)  # of the long forms

CLAIMS = ("eq-6", "theorem-4.2", "corollary-4.4", "theorem-b.1")


@pytest.mark.soak
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_verification_ends_up_the_same(kill_and_resume, jobs):
    """The run that is not killed uses one worker."""
    words = ["verify", *CLAIMS, "--trials", "16384", "--jobs"]
    kill_and_resume([*words, str(jobs)], 60, files=40, whole_words=[*words, "1"])


@pytest.mark.soak
def test_a_killed_simulation_ends_up_the_same(kill_and_resume):
    words = ["simulate", "--law", "uniform:0,0.99", "--channels", "64", "--times", "16,1k", "--trials", "20000"]
    kill_and_resume([*words, "--jobs", "1"], 60, files=20)
