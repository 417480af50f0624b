"""Test ``mambascope.simulate.norm_law`` against chi-square laws, 40-digit quadrature and the stepped recurrence."""

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from mambascope.simulate.modes import energy_gain
from mambascope.simulate.norm_law import (
    NormLaw,
    ensemble_mean,
    ensemble_second_moment,
    norm_law,
    state_covariance,
)


@pytest.fixture
def layer():
    rng = np.random.default_rng(0)
    return -np.log(rng.uniform(0.3, 0.99, 5)), rng.normal(size=(5, 7))


@pytest.mark.parametrize("steps", [1, 2, 20, 300])
def test_covariance_equals_the_recurrence(layer, steps):
    rates, B = layer
    S, decay = np.zeros((5, 5)), np.exp(-rates)
    for _ in range(steps):
        S = decay[:, None] * S * decay + B @ B.T
    np.testing.assert_allclose(state_covariance(rates, B, steps), S, rtol=1e-11)
    law = norm_law(rates, B, steps)
    assert law.mean == pytest.approx(np.trace(S), rel=1e-12)
    assert law.variance == pytest.approx(2 * np.trace(S @ S), rel=1e-11)
    if steps > 1:  # negative control: one rate for all is another layer
        assert norm_law(rates.mean(), B, steps).mean != pytest.approx(law.mean, rel=1e-3)


def test_one_decay_stretches_the_law_of_the_input(layer):
    _, B = layer
    once, long = norm_law(0.01, B, 1), norm_law(0.01, B, 500)
    gain = float(energy_gain(0.01, 500))
    np.testing.assert_allclose(long.weights, gain * once.weights, rtol=1e-12)
    np.testing.assert_allclose(long.cdf(np.array([1.0, 20, 90]) * gain), once.cdf([1.0, 20, 90]), rtol=1e-11)


def test_slow_decays_keep_their_digits():
    B = np.eye(2) + 0.5
    S = state_covariance([1e-17, 3e-17], B, 1e9)
    np.testing.assert_allclose(S, 1e9 * B @ B.T, rtol=1e-7)
    limit = state_covariance([1e-17, 3e-17], B, np.inf)
    np.testing.assert_allclose(limit, B @ B.T / np.array([[2e-17, 4e-17], [4e-17, 6e-17]]), rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 64, 300])
def test_equal_weights_are_a_chi_square_law(n):
    """Relative error below 1e-11 in both tails, down to 1e-100."""
    law, share = NormLaw(np.full(n, 2.5)), np.array([1e-30, 1e-9, 0.01, 0.3, 0.5, 0.9, 1 - 1e-9])
    x = 2.5 * scipy.stats.chi2.ppf(share, n)
    np.testing.assert_allclose(law.cdf(x), scipy.stats.chi2.cdf(x / 2.5, n), rtol=1e-11)
    far = 2.5 * scipy.stats.chi2.isf([0.5, 1e-5, 1e-20, 1e-100], n)
    np.testing.assert_allclose(law.sf(far), scipy.stats.chi2.sf(far / 2.5, n), rtol=1e-11)
    middle = np.array([1e-6, 0.05, 0.5, 0.99])
    np.testing.assert_allclose(law.quantile(middle), 2.5 * scipy.stats.chi2.ppf(middle, n), rtol=1e-9)
    wrong = scipy.stats.norm.cdf(x, law.mean, np.sqrt(law.variance))  # negative control: not the normal law
    assert np.abs(wrong - law.cdf(x)).max() > 1e-3


@pytest.mark.parametrize("n", [150, 198, 252, 264, 600])
def test_no_point_of_a_large_law_is_missed(n):
    """Every point around the mean, where a path too bent would pass a pole of order n/2 unseen by the nodes."""
    law, x = NormLaw(np.ones(n)), n * np.linspace(0.97, 1.03, 25)
    np.testing.assert_allclose(law.cdf(x), scipy.stats.chi2.cdf(x, n), rtol=1e-11)
    np.testing.assert_allclose(law.sf(x), scipy.stats.chi2.sf(x, n), rtol=1e-11)


def test_quantiles_far_out_and_next_to_0():
    for n in (1, 3, 300):
        share = np.array([1e-60, 1e-12, 0.3, 0.9, 1 - 1e-12])
        np.testing.assert_allclose(NormLaw(np.ones(n)).quantile(share), scipy.stats.chi2.ppf(share, n), rtol=1e-10)
    near = np.array([1e-200, 1e-20, 1e-16, 1e-15])
    np.testing.assert_allclose(NormLaw(np.ones(3)).cdf(near), scipy.stats.chi2.cdf(near, 3), rtol=1e-12)


@pytest.mark.parametrize("second", [1e-6, 0.01, 0.4, 0.999])
def test_two_weights_against_quadrature(second):
    """P = int over the second normal of the first one's chi-square law, at 40 digits."""
    law = NormLaw(np.array([second, 1.0]))
    for x in (1e-4, 0.3, 1.0, 4.0, 60.0):
        with mpmath.workdps(40):
            top = mpmath.pi / 2

            def integrand(t, x=x):  # angle in the plane: Q = radius^2 (cos^2 + second sin^2)
                return mpmath.exp(-x / (2 * (mpmath.cos(t) ** 2 + mpmath.mpf(second) * mpmath.sin(t) ** 2)))

            above = mpmath.quad(integrand, [0, top / 4, top / 2, 3 * top / 4, 0.97 * top, 0.999 * top, top]) / top
        assert float(law.sf(x)) == pytest.approx(float(above), rel=1e-10)
        assert float(law.cdf(x)) == pytest.approx(float(1 - above), rel=1e-9)


def test_pairs_of_weights_have_an_elementary_law():
    """Weights in pairs: P(Q > x) = sum_i e^{-x/(2 w_i)} prod_{j != i} w_i / (w_i - w_j), at 60 digits."""
    w = [1.0, 0.7, 0.31, 0.05, 0.001]
    law = NormLaw(np.sort(np.repeat(w, 2)))
    for x in (1e-3, 0.2, 2.0, 4.0, 9.0, 40.0, 300.0):
        with mpmath.workdps(60):
            v = [mpmath.mpf(z) for z in w]
            above = sum(mpmath.exp(-x / (2 * a)) * mpmath.fprod(a / (a - b) for b in v if b != a) for a in v)
            below = 1 - above
        assert float(law.sf(x)) == pytest.approx(float(above), rel=1e-10)
        assert float(law.cdf(x)) == pytest.approx(float(below), rel=1e-10)


@pytest.mark.parametrize(
    "weights",
    [np.geomspace(1e-10, 1, 40), np.append(np.full(500, 1e-3), 1.0), np.append(np.full(40, 1e-7), [1.0, 1.0, 1.0])],
)
def test_spread_weights_are_a_law(weights):
    law = NormLaw(weights)
    x = law.mean * np.geomspace(1e-3, 30, 30)
    below, above = law.cdf(x), law.sf(x)
    np.testing.assert_allclose(below + above, 1, atol=1e-12)
    assert np.all(np.diff(below) >= 0)
    assert np.all(np.diff(above) <= 0)
    if weights.size > 100:
        return
    grid = np.linspace(0, law.mean + 30 * np.sqrt(law.variance), 801)
    sf = law.sf(grid)
    step = grid[1]
    mean = step * (sf.sum() - 0.5)  # E Q = int P(Q > x) dx
    assert mean == pytest.approx(law.mean, rel=5e-3)


def test_next_to_0_unequal_weights_have_the_volume_of_an_ellipsoid():
    """Two independent normals have density 1 / (2 pi) at 0: P = x / (2 sqrt(w_1 w_2)), here x / 3."""
    x = np.array([1e-20, 1e-60])
    np.testing.assert_allclose(NormLaw(np.array([0.25, 9.0])).cdf(x), x / 3, rtol=1e-12)


def test_edges_of_the_law(layer):
    law = norm_law(*layer, 50)
    assert law.cdf([-1.0, 0.0, np.inf]).tolist() == [0, 0, 1]
    assert law.sf([-1.0, 0.0, np.inf]).tolist() == [1, 1, 0]
    assert law.cdf(np.ones((2, 3))).shape == (2, 3)
    assert law.cdf(law.quantile([0.001, 0.5, 0.999])) == pytest.approx([0.001, 0.5, 0.999], rel=1e-8)
    with pytest.raises(ValueError, match="expected"):
        law.quantile([0.0])
    with pytest.raises(ValueError, match="B is 0"):
        norm_law(0.1, np.zeros((3, 2)), 5)


def test_the_recurrence_and_the_sampler_follow_the_law(layer):
    """2,000 states stepped 40 times and 2,000 draws: Kolmogorov-Smirnov at a false-alarm rate of 1e-6 each."""
    rates, B = layer
    law, rng = norm_law(rates, B, 40), np.random.default_rng(5)
    h = np.zeros((2000, 5))
    for _ in range(40):
        h = np.exp(-rates) * h + rng.standard_normal((2000, 7)) @ B.T
    for norms in (np.square(h).sum(1), law.sample(2000, rng)):
        assert scipy.stats.kstest(norms, law.cdf).pvalue > 1e-6
    early = norm_law(rates, B, 4)  # negative control: the law of a shorter text
    assert scipy.stats.kstest(np.square(h).sum(1), early.cdf).pvalue < 1e-6


@pytest.mark.parametrize("steps", [1, 10, np.inf])
def test_ensemble_moments_of_two_decays_exactly(steps):
    """d = 2, decays from two points: the average over the four layers, each with E over B by Isserlis, m = 3."""
    rates, variance, m = np.array([0.02, 0.9]), 0.7, 3
    g = np.array([[float(energy_gain((a + b) / 2, steps)) for b in rates] for a in rates])
    mean = second = 0.0
    for i in range(2):
        for j in range(2):
            G = g[np.ix_([i, j], [i, j])]
            trace, square = G[0, 0] + G[1, 1], (G**2).sum()
            # rows b of variance s: E|b|^4 = s^2 m (m+2), E|b|^2 |c|^2 = s^2 m^2, E(b.c)^2 = s^2 m
            own = G[0, 0] ** 2 + G[1, 1] ** 2
            cross_trace, cross_square = trace**2 - own, square - own
            mean += variance * m * trace / 4
            second += variance**2 * (3 * m * (m + 2) * own + m**2 * cross_trace + 2 * m * cross_square) / 4
    diagonal = np.diag(g)
    assert float(ensemble_mean(2, m, variance, diagonal.mean())) == pytest.approx(mean, rel=1e-13)
    found = ensemble_second_moment(2, m, variance, diagonal.mean(), (diagonal**2).mean(), (g**2).mean())
    assert float(found) == pytest.approx(second, rel=1e-13)


def test_ensemble_moments_by_simulation():
    """100,000 fresh layers, x drawn too, lam = .1 or .9: both moments within 6 standard errors (false alarm 2e-9)."""
    rng, d, m, trials, steps = np.random.default_rng(6), 6, 8, 100_000, 8
    values = np.array([0.1, 0.9])
    decay = rng.choice(values, (trials, d))
    B, h = rng.normal(0, 0.8, (trials, d, m)), np.zeros((trials, d))
    for _ in range(steps):
        h = decay * h + np.einsum("tdm,tm->td", B, rng.standard_normal((trials, m)))
    g = sum(np.multiply.outer(values, values) ** k for k in range(steps))
    eg, eg2, pair = np.diag(g).mean(), (np.diag(g) ** 2).mean(), (g**2).mean()
    norms = np.square(h).sum(1)
    error = (norms**2).std() / np.sqrt(trials)
    assert abs(norms.mean() - float(ensemble_mean(d, m, 0.64, eg))) < 6 * norms.std() / np.sqrt(trials)
    assert abs((norms**2).mean() - float(ensemble_second_moment(d, m, 0.64, eg, eg2, pair))) < 6 * error
    wrong = ensemble_second_moment(d, m, 0.64, eg, eg2, eg2)  # negative control: all entries share one decay
    assert abs((norms**2).mean() - float(wrong)) > 6 * error


def test_square_gain_of_uniform_decays():
    """E g^2 = [x / (1 - x^2) + artanh x] / (2 (b - a)) at T = inf."""
    low, high = 0.2, 0.95
    primitive = [x / (1 - x * x) + np.arctanh(x) for x in (low, high)]
    expected = (primitive[1] - primitive[0]) / (2 * (high - low))
    found, _ = scipy.integrate.quad(lambda x: float(energy_gain(-np.log(x), np.inf)) ** 2 / (high - low), low, high)
    assert found == pytest.approx(expected, rel=1e-10)
