"""Test ``mambascope.simulate.verdict``: false alarms as rare as promised, power as computed, words from data alone."""

import math

import numpy as np
import pytest
from scipy import stats

from mambascope.simulate.verdict import FAMILY_ERROR, Comparison, Sample, Verdict, chance_each, exactly

RNG = np.random.default_rng(5)


def comparison(value, corrected, printed=None, error=0.01, **changes):
    settings = {"rival": printed, "freedom": 10_000} | changes
    return Comparison("test", value, error, printed, corrected, settings.pop("rival"), **settings)


def verdict(comparisons, controls=None, unconfirmed=(), chance=1e-8):
    controls = [comparison(2.0, 1.0)] if controls is None else controls
    return Verdict("claim", tuple(comparisons), tuple(controls), tuple(unconfirmed), chance)


def test_critical_distance_is_that_of_the_normal_law():
    c = comparison(1.0, 1.0, freedom=10**7)
    for chance in (0.05, 1e-3, 1e-8):
        assert c.critical(chance) == pytest.approx(stats.norm.isf(chance / 2), rel=2e-3)


def test_skewness_and_few_trials_widen_it():
    plain = comparison(1.0, 1.0).critical(1e-8)
    assert comparison(1.0, 1.0, skewness=0.03).critical(1e-8) > plain + 0.1
    assert comparison(1.0, 1.0, freedom=20).critical(1e-8) > plain + 3
    assert comparison(1.0, 1.0, skewness=2.0).critical(1e-8) == math.inf  # such a mean cannot reject anything


@pytest.mark.parametrize("skewed", [False, True])
def test_false_alarms_are_as_rare_as_promised(skewed):
    """10,000 samples of 200 from the truth at a chance of 1e-3: 10 alarms expected; 30 has a chance below 1e-6."""
    draws = RNG.exponential(1.0, (10_000, 200)) if skewed else RNG.standard_normal((10_000, 200)) + 1
    alarms = 0
    for row in draws:
        c = Sample(row[:, None]).against("mean of 1", 1.0)
        alarms += c.rejects(1.0, 1e-3)
    assert alarms < 30


def test_the_power_that_is_computed_is_the_power_there_is():
    draws = RNG.standard_normal((3000, 100)) + 1.0
    found = [Sample(row[:, None]).against("mean", 1.0, 1.45) for row in draws]
    rejected = np.mean([c.rejects(1.45, 1e-3) for c in found])
    assert np.mean([c.power(1e-3) for c in found]) == pytest.approx(rejected, abs=0.04)
    assert 0.5 < rejected < 0.99


def test_sample_standardises_a_column():
    values = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 60.0]])
    c = Sample(values).against("x", corrected=3.0, column=1, unit=10.0, rival=2.0)
    assert c.value == pytest.approx(3.0)
    assert c.error == pytest.approx(np.std([1, 2, 6], ddof=1) / np.sqrt(3))
    assert c.freedom == 2
    assert c.printed is None
    assert c.rival == 2.0
    assert c.skewness > 0


def test_what_lies_furthest_may_lie_below():
    assert Sample(np.array([[1.0, 2.0], [-9.0, 3.0]])).furthest(0.0) == -9.0
    found = verdict([comparison(0.5, 1.0, 2.0), comparison(1.01, 1.0, 2.0)]).to_dict()
    assert found["z_corrected"] == pytest.approx(-50)


def test_words_follow_from_the_data():
    truth, far = comparison(1.001, 1.0, 2.0), comparison(1.001, 1.0, 1.0, rival=2.0)
    assert verdict([truth]).printed == "fails"
    assert verdict([truth]).corrected == "holds"
    assert verdict([truth]).decisive
    assert verdict([far]).printed == "holds"
    assert verdict([far]).decisive
    assert verdict([truth, far]).printed == "holds in part"
    assert verdict([comparison(2.0, 1.0, 2.0)]).corrected == "fails"  # the correction is what is wrong
    assert not verdict([comparison(2.0, 1.0, 2.0)]).decisive


def test_without_power_nothing_is_decided():
    weak = comparison(1.0, 1.0, 1.02)
    assert weak.power(1e-8) < 0.01
    assert verdict([weak]).printed == "undecided"
    assert verdict([weak]).corrected == "undecided"
    assert not verdict([weak]).decisive
    assert verdict([comparison(1.0, 1.0, None)]).printed == "undecided"


def test_power_is_that_of_the_simulation_and_of_what_was_printed():
    """Numbers computed without noise have a power of their own, and an unrelated one lends none to the printed form."""
    computed = exactly("unrelated", 1.0, 1.0, rival=2.0, bound=1e-9)
    weak = comparison(1.0, 1.0, 1.0, rival=1.02)
    found = verdict([weak, computed])
    assert found.power < 0.01
    assert found.power_computed == 1.0
    assert found.printed == "undecided"
    assert not found.decisive
    assert verdict([weak, comparison(1.0, 1.0, None, rival=2.0)]).printed == "undecided"


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["value", "error", "corrected"])
def test_nothing_follows_from_a_comparison_that_is_not_a_number(broken, field):
    import dataclasses

    good = comparison(1.001, 1.0, 2.0)
    bad = dataclasses.replace(good, **{field: broken})
    found = verdict([good, bad])
    assert found.printed == found.corrected == "undecided"
    assert not found.decisive
    assert not verdict([good], controls=[bad]).control_failed


def test_a_sample_too_skewed_to_reject_anything_is_no_evidence():
    skewed = comparison(1.0, 1.0, 2.0, skewness=0.9)
    assert skewed.critical(1e-8) == math.inf
    assert verdict([comparison(1.001, 1.0, 2.0), skewed]).corrected == "undecided"


def test_a_constant_sample_needs_a_rival_that_differs():
    column = Sample(np.ones((500, 1)))
    assert column.against("one", 1.0, 1.0).power(1e-8) == 0.0
    assert column.against("one", 1.0, 1.5).power(1e-8) == 1.0
    assert column.against("one", 1.0, 1.5).rejects(1.5, 1e-8)


def test_the_chance_of_a_false_alarm_is_computed_from_the_comparison():
    for c in (comparison(1.0, 1.0), comparison(1.0, 1.0, skewness=0.03), comparison(1.0, 1.0, freedom=50)):
        assert c.false_alarm(1e-8) == pytest.approx(1e-8, rel=1e-4)
    assert exactly("x", 1.0, 1.0, bound=1.0).false_alarm(1e-8) == 0.0


def test_far_tails_of_a_skewed_mean_stay_below_the_chance():
    """Exact tails of a mean of 4096 exponentials, by tilting each draw: what a run of few trials promises holds.

    Under exponential tilting by theta the mean moves to the tail; the likelihood ratio undoes it (Siegmund 1976).
    """
    n, chance, total, runs = 4096, 1e-8, 0.0, 400
    rng = np.random.default_rng(2)
    theta = -6.5 / np.sqrt(n)  # the lower tail: there a studentised mean of a skewed law lies too far out
    for _ in range(runs):
        values = rng.exponential(1 / (1 - theta), n)
        weight = np.exp(-theta * values.sum() - n * np.log1p(-theta))
        total += weight * Sample(values[:, None]).against("mean", 1.0).rejects(1.0, chance)
    assert total / runs < chance


def test_a_control_that_passes_or_is_missing_spoils_the_verdict():
    good = [comparison(1.001, 1.0, 2.0)]
    assert not verdict(good, controls=[comparison(1.001, 1.0)]).decisive
    assert not verdict(good, controls=[]).decisive
    assert not verdict(good, controls=[comparison(2.0, 1.0), comparison(1.001, 1.0)]).decisive


def test_a_step_that_is_not_confirmed_spoils_the_verdict():
    found = verdict([comparison(1.001, 1.0, 2.0)], unconfirmed=["an integral"])
    assert not found.derived
    assert not found.decisive
    assert found.to_dict()["unconfirmed_steps"] == ["an integral"]


def test_computed_numbers_have_a_bound_and_no_chance():
    right = exactly("identity", 1.0 + 1e-14, 1.0, 1.5, bound=1e-12)
    assert not right.rejects(1.0, 1e-300)
    assert right.rejects(1.5, 1e-300)
    assert right.power(1e-300) == 1.0
    assert exactly("identity", 1.0, 1.0, 1.0 + 1e-13, bound=1e-12).power(1.0) == 0.0
    assert exactly("zero error", 1.0, 1.0, 2.0, bound=0.0).rejects(2.0, 0.5)
    assert not exactly("zero error", 1.0, 1.0, 2.0, bound=0.0).rejects(1.0, 0.5)


def test_an_infinite_printed_form_is_rejected_and_written_as_nothing():
    found = verdict([comparison(1.0, 1.0, math.inf)])
    assert found.printed == "fails"
    row = found.to_dict()["comparisons"][0]
    assert row["printed"] is None
    assert row["z_printed"] is None


def test_the_family_shares_its_chance():
    random = [comparison(1.0, 1.0)] * 40 + [exactly("x", 1.0, 1.0, bound=0.1)] * 10
    assert chance_each(random) == pytest.approx(FAMILY_ERROR / 40)
    assert chance_each([]) == FAMILY_ERROR
