"""Test ``mambascope.simulate.montecarlo``, ``exact`` and ``near_one``: error bars, flags, quadrature beside them."""

import numpy as np
import pytest

from mambascope.simulate import exact, montecarlo
from mambascope.simulate.laws import Beta, Listed, LogUniform, Uniform, point, uniform
from mambascope.simulate.montecarlo import Paths, blocks, estimate, summarise
from mambascope.simulate.near_one import coverage
from mambascope.simulate.recurrence import Recurrence
from mambascope.simulate.step_laws import Constant, InputLaw, Markov, SoftplusNormal, Trace
from mambascope.simulate.step_transforms import Gamma
from mambascope.simulate.threefry import key_words

STICKY = Markov((0.01, 0.5), ((0.99, 0.01), (0.02, 0.98)))


def recurrence(law=None, channels=2, **changes):
    return Recurrence("diagonal", channels, law or uniform(0, 0.9), **changes)


@pytest.mark.parametrize(
    "chosen",
    [
        recurrence(),
        recurrence(Beta(2, 2, 0.1, 0.1)),
        recurrence(mixing=3, inputs=InputLaw(2.0, 0.3, -0.5)),
        recurrence(steps=Constant(0.3), discretisation="zoh"),
        recurrence(steps=Gamma(1.5, 0.5), inputs=InputLaw(1.0, 0.5)),
        recurrence(steps=SoftplusNormal(-1, 1), inputs=InputLaw(1.0, 0.5)),
        recurrence(steps=STICKY, inputs=InputLaw(2.0, 0.3)),
        Recurrence("scalar_identity", 3, LogUniform(0.01, 1)),
        recurrence(point(1.0), inputs=InputLaw(0.5, 0.1)),
    ],
)
def test_simulation_agrees_with_quadrature(chosen):
    """Three times each; |z| > 5.5 has a chance of 4e-8. A form 10 % off is rejected: the control."""
    found = estimate(chosen, [2, 9, 60], 40_000, 11)
    assert np.abs((found.mean - found.exact) / found.se).max() < 5.5
    assert np.abs((found.mean - 1.1 * found.exact) / found.se).max() > 5.5


def test_values_of_the_theory_notes():
    """Reference values, to the digits that are printed there."""
    one = {
        "gamma": (recurrence(point(np.exp(-1)), 1, steps=Gamma(0.5, 0.1)), 0.0860792),
        "sticky": (recurrence(point(np.exp(-1)), 1, steps=STICKY), 0.219714),
        "rho .8": (recurrence(point(0.97), 1, inputs=InputLaw(1.0, 0.0, 0.8)), 134.155),
        "mean .3": (recurrence(point(0.97), 1, inputs=InputLaw(1.0, 0.3)), 116.9205),
    }
    for chosen, value in one.values():
        (found,) = exact.exact_second_moment(chosen, [100_000])
        assert found == pytest.approx(value, rel=5e-6)


def test_where_no_closed_form_is_known_nothing_is_claimed():
    rows = ((0.1, 0.2, 0.3),)
    for chosen in (
        recurrence(steps=Trace(rows)),
        recurrence(steps=Gamma(1, 1), discretisation="zoh"),
        recurrence(steps=Gamma(1, 1), inputs=InputLaw(1.0, 0.0, 0.5)),
        recurrence(redraw=False),
    ):
        assert exact.exact_second_moment(chosen, [3]) is None
        assert exact.skewness_of_levels(chosen, [3], 10) is None
        found = estimate(chosen, 3, 100)
        assert found.rows()[0]["exact"] is None
        assert found.rows()[0]["z"] is None
    with pytest.raises(ValueError, match="no closed form"):
        exact.quasi_second_moment(recurrence(steps=Trace(rows)), 3, 64)


def test_blocks_do_not_change_a_bit(monkeypatch):
    chosen, key = recurrence(mixing=2), key_words(3)
    whole = estimate(chosen, [4, 40], 3000, key)
    ticks = []
    monkeypatch.setattr(montecarlo, "BLOCK_UPDATES", 7 * 40 * 2)
    parts = estimate(chosen, [4, 40], 3000, key, tick=ticks.append)
    assert sum(ticks) == 3000 * 80
    assert len(ticks) == -(-3000 // 7)
    for name in ("mean", "se", "quantiles", "skewness"):
        assert getattr(parts, name).tobytes() == getattr(whole, name).tobytes()


def test_blocks_cover_all_trials_once():
    cut = list(blocks(2**20, 1000))
    assert [first for first, _ in cut] == list(range(0, 1000, 64))
    assert sum(count for _, count in cut) == 1000
    assert list(blocks(2**40, 2)) == [(0, 1), (1, 1)]


def test_error_bars_cover_as_promised():
    """200 estimates: a 95 % interval should miss 10; more than 24 has a chance of 4e-5, the same as fewer than 1."""
    chosen = recurrence(channels=4)
    misses = 0
    for seed in range(200):
        found = estimate(chosen, 20, 400, seed)
        misses += abs(found.mean[0] - found.exact[0]) > 1.96 * found.se[0]
    assert 1 <= misses <= 24


def test_quantiles_are_of_one_trial():
    norms = np.arange(101.0)[:, None]
    found = summarise(recurrence(), [5], norms)
    assert found.quantiles[0].tolist() == [5, 25, 50, 75, 95]
    assert found.mean[0] == 50
    assert found.se[0] == pytest.approx(norms.std(ddof=1) / np.sqrt(101))


def test_rare_slow_modes_are_flagged_by_the_law_not_by_the_sample():
    """With decays up to 1 - 1e-8 the sample shows nothing wrong; the flag knows. An easy law has none."""
    near = estimate(recurrence(Uniform(0.0, 1e-8)), 1000, 2000, 1)
    assert not near.covered[0]
    assert near.skewness_expected[0] > 0.1
    assert estimate(recurrence(uniform(0, 0.9)), 1000, 8000, 1).covered[0]
    assert exact.skewness_of_levels(recurrence(point(0.999)), [10**6], 1)[0] == 0


def test_skewness_of_a_mean_over_two_values():
    """f is 0 or 1, the latter with probability q: (1 - 2 q) / sqrt(q (1 - q) n), whatever its sign."""
    for q in (0.1, 0.7):
        found = exact.skewness_of_mean(Listed((1.0, 2.0), (1 - q, q)), lambda a: a - 1, 25)
        assert found == pytest.approx(abs(1 - 2 * q) / np.sqrt(25 * q * (1 - q)), rel=1e-12)


@pytest.mark.parametrize("eps", [1e-2, 1e-4, 1e-6])
def test_flag_is_about_n_eps_of_100(eps):
    (skewness,) = exact.skewness_of_levels(recurrence(Uniform(0.0, eps)), [10**10], 1)
    assert (skewness / montecarlo.MOST_SKEWED) ** 2 * eps == pytest.approx(100, rel=0.35)


def test_plain_monte_carlo_fails_near_1_and_is_flagged_there():
    fair, bad = coverage(0.1, 4000, 150), coverage(1e-8, 4000, 150)
    assert fair.trusted
    assert not bad.trusted
    assert fair.interval_covers > 0.88  # 150 intervals of 95 %: 132 or fewer has a chance of 3e-4
    assert bad.interval_covers < 0.6
    assert bad.below > 0.7
    assert bad.median_ratio < 0.9 < fair.median_ratio < 1.1


def test_sobol_points_help_where_the_law_is_smooth():
    chosen = recurrence(uniform(0, 0.99), channels=1)
    mean, error = exact.quasi_second_moment(chosen, 2000, 1024)
    (value,) = exact.exact_second_moment(chosen, [2000])
    assert abs(mean - value) < 1e-3 * value
    assert error < 1e-3 * value
    plain = estimate(chosen, 2000, 1024)
    assert plain.se[0] > 20 * error


def test_sobol_points_count_every_channel():
    chosen = recurrence(uniform(0, 0.9), channels=3)
    mean, error = exact.quasi_second_moment(chosen, 50, 512)
    (value,) = exact.exact_second_moment(chosen, [50])
    assert abs(mean - value) < max(6 * error, 1e-6 * value)


def test_entries_that_share_a_rate_are_one_mode():
    """A head of four entries draws one eigenvalue a trial, a diagonal layer four: its mean is half as skewed."""
    norms = np.arange(100.0)[:, None]
    head, layer = (
        summarise(Recurrence(kind, 4, uniform(0, 0.9)), [5], norms).skewness_expected[0]
        for kind in ("scalar_identity", "diagonal")
    )
    assert head == pytest.approx(2 * layer, rel=1e-12)


def test_numpy_integers_do_as_well():
    found = estimate(recurrence(), np.int64(8), 100, np.int64(3))
    assert found.mean.tobytes() == estimate(recurrence(), 8, 100, 3).mean.tobytes()


def test_one_trial_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        estimate(recurrence(), 3, 1)


def test_paths_say_what_they_cost():
    paths = Paths(recurrence(channels=3), (2, 10))
    assert paths.updates() == 30
    assert paths.run(key_words(0), 0, 4).shape == (4, 2)
