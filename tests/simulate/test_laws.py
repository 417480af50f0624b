"""Test ``mambascope.simulate.laws``: draws follow the law, and quadrature is exact where sampling fails."""

import mpmath
import numpy as np
import pytest
from scipy import stats

from mambascope.simulate.laws import Beta, Listed, LogUniform, Uniform, point, two_point, uniform
from mambascope.simulate.modes import energy_gain


def level(a):
    return energy_gain(a, np.inf)


def grid(n=200_001):
    return (np.arange(n) + 0.5) / n


@pytest.mark.parametrize("eps", [0.5, 1e-2, 1e-4, 1e-6, 1e-8, 1e-12])
def test_uniform_level_is_exact_for_every_distance_from_1(eps):
    """Bar: 1e-10 at eps = 1e-8. The reference has 40 digits; eps is the argument, never the rounded decay."""
    with mpmath.workdps(40):
        e = mpmath.mpf(eps)
        exact = mpmath.log((2 - e) / e) / 2 / (1 - e)
        assert abs(Uniform(0.0, eps).expect(level) / exact - 1) < 1e-12


def test_gauss_legendre_in_the_decay_itself_is_the_control_that_fails():
    nodes, weights = np.polynomial.legendre.leggauss(64)
    eps = 1e-8
    x = (nodes + 1) / 2 * (1 - eps)
    plain = float(weights @ (1 / (1 - x**2))) / 2
    exact = Uniform(0.0, eps).expect(level)
    assert plain / exact < 0.6


@pytest.mark.parametrize("steps", [1, 10, 200, 10**6])
def test_a_finite_horizon_up_to_a_decay_of_1(steps):
    """U[0, 1]: sum of 1 / (2 k + 1) over k < T, through digamma; eps = 1e-15 stands for 0."""
    with mpmath.workdps(30):
        exact = (mpmath.digamma(steps + 0.5) - mpmath.digamma(0.5)) / 2
        found = Uniform(0.0, 1e-15).expect(lambda a: energy_gain(a, steps))
        assert abs(found / exact - 1) < 1e-9


@pytest.mark.parametrize(
    ("law", "exact"),
    [
        (uniform(0.5, 0.6), (np.arctanh(0.6) - np.arctanh(0.5)) / 0.1),
        (uniform(0.2, 0.95), (np.arctanh(0.95) - np.arctanh(0.2)) / 0.75),
        (point(0.9), 1 / 0.19),
        (two_point(0.3, 0.95), 0.5 / (1 - 0.09) + 0.5 / (1 - 0.9025)),
        (two_point(0.3, 0.95, 0.25), 0.25 / (1 - 0.09) + 0.75 / (1 - 0.9025)),
        (Listed((np.inf, 0.5)[1:]), 1 / (1 - np.exp(-1))),
        # log-uniform rates: int dr / (r (1 - e^{-2r})) has no closed form; ends by series, see the next test
    ],
)
def test_levels_by_hand(law, exact):
    assert law.expect(level) == pytest.approx(exact, rel=1e-11)


def test_a_beta_law_has_mass_1_and_its_mean_whatever_its_shapes():
    for a, b in ((0.1, 2.0), (0.5, 0.5), (0.5, 3.0), (0.45, 0.45), (3.0, 0.2), (1.0, 0.05), (80.0, 200.0), (2.0, 2.0)):
        law = Beta(a, b, 0.1, 0.2)
        assert law.expect(np.ones_like) == pytest.approx(1, rel=1e-10)
        assert law.expect(lambda rate: np.exp(-rate)) == pytest.approx(0.1 + 0.7 * a / (a + b), rel=1e-10)


@pytest.mark.parametrize(
    "law", [Beta(2, 2, 0.1, 0.1), Beta(2, 2, 0, 0), Beta(0.7, 0.6, 0.0, 1e-6), LogUniform(1e-6, 1)]
)
def test_quadrature_agrees_with_another_route(law):
    """mpmath in the natural variable, 30 digits."""
    with mpmath.workdps(30):
        if isinstance(law, LogUniform):
            low, high = map(mpmath.log, (law.low, law.high))
            value = mpmath.quad(lambda y: 1 / -mpmath.expm1(-2 * mpmath.exp(y)), mpmath.linspace(low, high, 20))
            value /= high - low
        else:
            a, b, width = mpmath.mpf(law.a), mpmath.mpf(law.b), 1 - mpmath.mpf(law.eps) - mpmath.mpf(law.low)

            def density(y):
                distance = law.eps + width * y
                return (1 - y) ** (a - 1) * y ** (b - 1) / mpmath.beta(a, b) / (distance * (2 - distance))

            value = mpmath.quad(density, [0, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-2, 0.5, 1])
        assert abs(law.expect(level) / value - 1) < 1e-10


@pytest.mark.parametrize(
    ("law", "cdf"),
    [
        (uniform(0.2, 0.95), lambda x: (x - 0.2) / 0.75),
        (Beta(2, 3, 0.1, 0.2), lambda x: stats.beta.cdf((x - 0.1) / 0.7, 2, 3)),
        (LogUniform(1e-3, 2.0), lambda x: 1 - np.log(-np.log(x) / 1e-3) / np.log(2000)),
    ],
)
def test_draws_follow_the_law(law, cdf):
    """Rates of evenly spaced uniforms are quantiles: the law's own distribution function returns the uniforms."""
    u = grid(999)
    np.testing.assert_allclose(cdf(np.exp(-law.rates(u))), u, atol=1e-9)


def test_draws_of_listed_rates_have_their_weights():
    rates = Listed((0.1, 0.2, 0.3), (0.5, 0.2, 0.3)).rates(grid(1000))
    values, counts = np.unique(rates, return_counts=True)
    assert values.tolist() == [0.1, 0.2, 0.3]
    assert counts.tolist() == [500, 200, 300]


def test_a_law_stated_for_another_step_has_its_decays_there():
    law = uniform(0.0, 0.9, step=0.1)
    assert np.exp(-0.1 * law.rates(np.array([1 - 1e-12]))) == pytest.approx(0.9)


def test_draws_keep_their_distance_from_1():
    slowest = Uniform(0.5, 1e-13).rates(np.array([1 - 1e-16]))
    assert slowest == pytest.approx(1e-13, rel=0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda: uniform(0.5, 0.4),
        lambda: uniform(-0.1, 0.5),
        lambda: uniform(0, 1),
        lambda: Uniform(0, 0.5, step=0),
        lambda: Beta(0, 1, 0, 0.1),
        lambda: LogUniform(1, 1),
        lambda: Listed(()),
        lambda: Listed((0.1, 0.2), (0.5, 0.6)),
        lambda: point(0),
        lambda: point(1.5),
    ],
)
def test_impossible_laws_are_refused(make):
    with pytest.raises(ValueError, match=r"expected|needs"):
        make()
