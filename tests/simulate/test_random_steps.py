"""Test ``mambascope.simulate.random_steps`` against stepped moments, simulation and 60-digit arithmetic."""

import mpmath
import numpy as np
import pytest
import scipy.special

from mambascope.simulate.modes import second_moment
from mambascope.simulate.random_steps import TokenMoments, effective_rate, iid_moments, independent_inputs
from mambascope.simulate.step_transforms import (
    DiscreteSteps,
    Gamma,
    constant_steps,
    recorded_steps,
    softplus_normal_steps,
    two_point_steps,
)

GAMMA = Gamma(0.5, 0.1)


def stepped(token, steps):
    mean, second = np.zeros_like(np.asarray(token.write_mean, float)), 0.0
    for _ in range(steps):
        second = (1 - token.loss_second) * second + 2 * np.sum(token.write_cross * mean) + token.write_square
        mean = (1 - token.loss_first) * mean + token.write_mean
    return mean, second


def dependent_token():
    """A = 1, gamma steps, u = .3 + 4 dt + z: moments E dt^k e^{-s dt} from the gamma density itself."""

    def moment(k, s):
        shape, scale = 0.5, 0.1
        ratio = scipy.special.gamma(shape + k) / scipy.special.gamma(shape)
        return ratio * scale**k / (1 + s * scale) ** (shape + k)

    return TokenMoments(
        1 - moment(0, 1),
        1 - moment(0, 2),
        0.09 * moment(2, 0) + 2.4 * moment(3, 0) + 16 * moment(4, 0) + moment(2, 0),
        0.3 * moment(1, 1) + 4 * moment(2, 1),
        0.3 * moment(1, 0) + 4 * moment(2, 0),
    )


def test_gamma_steps_by_hand():
    assert float(iid_moments(independent_inputs(GAMMA, 1.0), np.inf).second) == pytest.approx(0.0860792, abs=5e-8)
    assert float(effective_rate(GAMMA.laplace_loss(2.0))) == pytest.approx(0.0455804, abs=5e-8)
    assert -np.log1p(-float(GAMMA.laplace_loss(1.0))) == pytest.approx(0.0476551, abs=5e-8)
    assert float(effective_rate(GAMMA.laplace_loss(2.0))) < GAMMA.mean  # Jensen
    with_mean = iid_moments(independent_inputs(GAMMA, 1.0, mean=0.5), 300).second
    assert float(with_mean) == pytest.approx(0.3748, abs=5e-5)
    assert float(iid_moments(dependent_token(), 300).second) == pytest.approx(1.0793, abs=5e-5)


def test_the_mean_step_in_the_constant_formula_is_wrong():
    """Negative control: three times too low, though every number in it is right."""
    plug_in = GAMMA.mean**2 * float(second_moment(GAMMA.mean, np.inf))
    assert plug_in == pytest.approx(0.0263, abs=1e-4)
    assert float(iid_moments(independent_inputs(GAMMA, 1.0), np.inf).second) / plug_in > 3


@pytest.mark.parametrize("steps", [1, 2, 3, 30, 400])
@pytest.mark.parametrize(
    "token",
    [
        dependent_token(),
        independent_inputs(GAMMA, 1e-9, mean=0.5),
        TokenMoments(0.01, 0.01, 1.25, -0.3, -0.2),  # phi(a) = phi(2a): a step now and then that empties the state
        independent_inputs(softplus_normal_steps(-4, 2), 5.0, mean=0.3, variance=0.0),
        independent_inputs(constant_steps(0.3), 2.0, mean=1.0),
    ],
)
def test_moments_equal_the_stepped_ones(token, steps):
    mean, second = stepped(token, steps)
    found = iid_moments(token, steps)
    assert float(found.second) == pytest.approx(float(second), rel=1e-10)
    assert float(found.mean) == pytest.approx(float(mean), rel=1e-10)
    if steps > 1:  # negative control: without the cross term
        alone = iid_moments(TokenMoments(token.loss_first, token.loss_second, token.write_square, 0.0, 0.0), steps)
        assert abs(float(alone.second / found.second) - 1) > 1e-3


def test_vector_state():
    """Entries of a matrix state share the step: the cross term is an inner product, the mean stays a matrix."""
    rng = np.random.default_rng(0)
    write, weights = rng.normal(size=(5, 3, 2)), np.full(5, 0.2)  # five equally likely (dt, matrix) pairs
    dt = rng.uniform(0, 0.4, 5)
    decay = np.exp(-dt)
    token = TokenMoments(
        weights @ (1 - decay),
        weights @ (1 - decay**2),
        weights @ np.square(write).sum((1, 2)),
        np.einsum("k,k,kij->ij", weights, decay, write),
        np.einsum("k,kij->ij", weights, write),
        entry_axes=2,
    )
    mean, second = stepped(token, 40)
    found = iid_moments(token, 40)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    assert float(found.second) == pytest.approx(float(second), rel=1e-12)
    square = np.zeros((3, 2))  # every entry on its own, summed
    entry_mean = np.zeros((3, 2))
    for _ in range(40):
        square = (
            np.einsum("k,k,ij->ij", weights, decay**2, square)
            + 2 * token.write_cross * entry_mean
            + np.einsum("k,kij->ij", weights, write**2)
        )
        entry_mean = (weights @ decay) * entry_mean + token.write_mean
    assert float(found.second) == pytest.approx(square.sum(), rel=1e-12)


def test_dependent_steps_against_simulation():
    """40,000 runs of 60 tokens: E h^2 within 6 standard errors (false alarm 2e-9); independent inputs are rejected."""
    rng = np.random.default_rng(1)
    h = np.zeros(40_000)
    for _ in range(60):
        dt = rng.gamma(0.5, 0.1, h.size)
        h = np.exp(-dt) * h + dt * (0.3 + 4 * dt + rng.standard_normal(h.size))
    error = np.std(h**2) / 200
    assert abs(np.mean(h**2) - float(iid_moments(dependent_token(), 60).second)) < 6 * error
    mean_u, variance_u = 0.3 + 4 * 0.05, 1 + 16 * 0.005
    independent = iid_moments(independent_inputs(GAMMA, 1.0, variance=variance_u, mean=mean_u), 60)
    assert abs(np.mean(h**2) - float(independent.second)) > 6 * error


@pytest.mark.parametrize("a", [1e-16, 1e-11, 1e-6, 1.0])
@pytest.mark.parametrize("steps", [7, 10**6, 10**9])
def test_slow_modes_and_long_horizons_keep_their_digits(a, steps):
    found = float(iid_moments(independent_inputs(GAMMA, a, mean=0.7), steps).second)
    with mpmath.workdps(80):
        shape, scale, rate, mu = mpmath.mpf(1) / 2, mpmath.mpf(0.1), mpmath.mpf(a), mpmath.mpf(0.7)
        x, y = (1 + 2 * rate * scale) ** -shape, (1 + rate * scale) ** -shape
        mean = shape * scale * mu / (1 - y)
        c2 = shape * (shape + 1) * scale**2 * (1 + mu**2)
        c11 = shape * scale * (1 + rate * scale) ** (-shape - 1) * mu
        exact = (c2 + 2 * c11 * mean) * (1 - x**steps) / (1 - x)
        exact -= 2 * c11 * mean * (y**steps - x**steps) / (y - x)
    assert found == pytest.approx(float(exact), rel=1e-12)


def test_constant_steps_are_the_plain_mode():
    rates = np.array([1e-14, 1e-6, 0.01, 3.0])
    for steps in (1, 100, 10**9, np.inf):
        found = iid_moments(
            independent_inputs(constant_steps(0.25), rates / 0.25, mean=0.4, variance=2.0), steps
        ).second
        np.testing.assert_allclose(found, second_moment(rates, steps, mean=0.4, variance=2.0) / 16, rtol=1e-13)


def test_rare_steps_leave_the_level_and_stretch_the_time():
    """dt = D with probability p, else 0: the level does not depend on p, the time to reach it is 1/p."""
    levels = [
        float(iid_moments(independent_inputs(two_point_steps(0.3, 0.0, p), 1.0), np.inf).second) for p in (1, 0.1, 0.01)
    ]
    assert levels == pytest.approx([0.09 / -np.expm1(-0.6)] * 3, rel=1e-12)
    rates = [float(effective_rate(two_point_steps(0.3, 0.0, p).laplace_loss(2e-6))) for p in (1, 0.01)]
    assert rates[0] / rates[1] == pytest.approx(100, rel=1e-5)


@pytest.mark.parametrize(("mu", "sd"), [(-4, 2), (-7, 4), (1, 0.5)])
def test_softplus_quadrature(mu, sd):
    """Against 30-digit quadrature, relative to 1e-12, also where the loss is 1e-14."""
    law = softplus_normal_steps(mu, sd)
    with mpmath.workdps(30):

        def expect(f):
            points = [-14, -9, -6, -4, -2, 0, 2, 4, 6, 9, 14]
            return mpmath.quad(lambda z: mpmath.npdf(z) * f(mpmath.log1p(mpmath.exp(mu + sd * z))), points)

        assert law.mean == pytest.approx(float(expect(lambda d: d)), rel=1e-12)
        assert law.mean_square == pytest.approx(float(expect(lambda d: d * d)), rel=1e-12)
        for s in (1e-14, 0.1, 10.0, 1000.0):
            loss = float(expect(lambda d, s=s: -mpmath.expm1(-s * d)))
            discounted = float(expect(lambda d, s=s: d * mpmath.exp(-s * d)))
            assert float(law.laplace_loss(s)) == pytest.approx(loss, rel=1e-12)
            assert float(law.discounted(s)) == pytest.approx(discounted, rel=1e-11)


def test_effective_rate_by_hand():
    law = softplus_normal_steps(-4, 2)
    assert law.mean == pytest.approx(0.086, abs=5e-4)
    assert float(effective_rate(law.laplace_loss(10.0))) == pytest.approx(0.180712, abs=5e-7)
    assert float(effective_rate(1e-17)) == 5e-18
    assert np.isfinite(effective_rate(1.0))


def test_recorded_steps_and_refusals():
    law = recorded_steps([[0.1, 0.3], [0.1, 0.3]])
    assert float(law.laplace_loss(2.0)) == pytest.approx(float(two_point_steps(0.1, 0.3, 0.5).laplace_loss(2.0)))
    assert law.laplace_loss(np.ones((2, 3))).shape == (2, 3)
    for steps, weights in [([-1.0], [1.0]), ([1.0], [0.9]), ([1.0, 2.0], [1.0]), ([], [])]:
        with pytest.raises(ValueError, match="expected"):
            DiscreteSteps(np.array(steps), np.array(weights))
