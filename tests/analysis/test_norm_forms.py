"""Test ``mambascope.analysis.norm_forms`` on heads with known inputs: a mean, white noise, noise with memory."""

import numpy as np
import pytest

from mambascope.analysis.norm_forms import FORMS, parts, scale_rule, second_moment
from mambascope.analysis.write_statistics import WriteMoments
from mambascope.simulate import energy_gain, mean_gain

T, L = 256, 16384
RATES = np.array([1e-9, 1e-4, 1 / 300, 0.05, 2.0])


def ideal(mean, noise, long_run=1.0):
    """Moments of heads with mean write ``mean`` and noise of energy ``noise``, whose sum varies ``long_run`` times."""

    def square(n):
        return mean**2 * mean_gain(RATES, n) ** 2 + long_run * noise * energy_gain(RATES, n)

    ones = np.ones_like(RATES)
    coherent = mean**2 * mean_gain(RATES, T) ** 2
    squares = np.stack([square(T // 4), square(T // 2), square(T)])
    return WriteMoments(T, 1, RATES, RATES, (mean**2 + noise) * ones, mean**2 * ones, coherent, squares), square(L)


@pytest.mark.parametrize(("mean", "noise"), [(0.3, 1.0), (0.0, 1.0), (0.02, 4.0)])
def test_a_mean_and_white_noise_are_predicted_exactly(mean, noise):
    moments, truth = ideal(mean, noise)
    for form in ("long_run", "anchored", "white", "fitted"):
        np.testing.assert_allclose(second_moment(moments, L, form=form), truth, rtol=1e-6, err_msg=form)
    if mean:
        for form in ("coherent", "noise"):  # negative control: each misses what the other would give
            assert np.abs(second_moment(moments, L, form=form)[0] / truth[0] - 1) > 0.03


def test_noise_with_memory_needs_its_long_run_variance():
    moments, truth = ideal(0.05, 1.0, long_run=6.0)
    for form in ("long_run", "fitted"):
        np.testing.assert_allclose(second_moment(moments, L, form=form), truth, rtol=1e-6)
    assert second_moment(moments, L, form="white")[2] < 0.7 * truth[2]


@pytest.mark.parametrize("form", FORMS)
def test_parts_are_never_negative_and_most_forms_pass_through_the_training_length(form):
    rng = np.random.default_rng(0)
    squares = np.exp(rng.normal(0, 1, (3, 5)))
    moments = WriteMoments(T, 1, RATES, RATES, np.ones(5), 0.3 * np.ones(5), rng.normal(0, 1, 5), squares)
    c, q = parts(moments, form)
    assert np.all(c >= 0)
    assert np.all(q >= 0)
    if form not in {"white", "fitted"}:
        np.testing.assert_allclose(second_moment(moments, T, form=form), squares[-1], rtol=1e-9)


def test_a_dead_head_stays_dead():
    zeros = np.zeros(5)
    moments = WriteMoments(T, 1, RATES, 0 * RATES, zeros, zeros, zeros, np.zeros((3, 5)))
    for form in FORMS:
        np.testing.assert_array_equal(second_moment(moments, L, form=form), zeros)


def test_the_rule_solves_its_equation():
    rate = np.array([0.0, 1e-9, 1e-4, 0.01, 0.3, 20.0])
    ones = np.ones(6)
    noise = WriteMoments(T, 1, rate, rate, ones, 0 * ones, 0 * ones, np.stack([ones, ones, 3 * ones]))
    for moments in (noise, WriteMoments(T, 1, rate, rate, ones, 0 * ones, 2.0 * ones, noise.squares)):
        s = scale_rule(moments, 64 * T)
        assert np.all(s >= 1)
        kept = second_moment(moments, 64 * T, factor=s)[1:]
        np.testing.assert_allclose(kept, second_moment(moments, T)[1:], rtol=1e-9)
    assert scale_rule(noise, 64 * T)[3:] == pytest.approx(-1 / np.expm1(-2 * T * rate[3:]), rel=0.05)
    assert scale_rule(noise, T) == pytest.approx(1)
