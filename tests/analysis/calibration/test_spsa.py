"""Test ``mambascope.analysis.calibration.spsa`` and ``adam`` on quadratics, with numbers worked by hand."""

import math

import numpy as np
import pytest

from mambascope.analysis.calibration import spsa
from mambascope.analysis.calibration.adam import Adam
from mambascope.analysis.calibration.descent import half_cosine
from mambascope.analysis.calibration.spsa import PaperSpsa, ReleasedSpsa, Spsa, direction

LN2 = math.log(2)


class Quadratic:
    """Bits = weight * |u - goal|^2, or the same in ln u; selection bits are given."""

    def __init__(self, goal, *, weight=1.0, log=False, selection=0.0):
        self.goal, self.weight, self.log, self.fixed = np.asarray(goal, float), weight, log, selection
        self.least, self.most = np.full(self.goal.shape, 1e-3), np.full(self.goal.shape, 1e6)
        self.asked = []

    def loss(self, u, step):
        self.asked.append((step, u.copy()))
        gap = np.log(u / self.goal) if self.log else u - self.goal
        return self.weight * float(gap @ gap)

    def gradient(self, u, step):
        slope = 2 * np.log(u / self.goal) / u if self.log else 2 * (u - self.goal)
        return self.loss(u, step), self.weight * slope

    def selection(self, u):
        return self.fixed


@pytest.fixture
def along(monkeypatch):
    """Fix the directions, one list a step."""

    def fix(*each):
        monkeypatch.setattr(spsa, "direction", lambda seed, k, size: np.array(each[k], float))

    return fix


def test_directions_are_rademacher_and_depend_on_seed_and_step_alone():
    many = np.stack([direction(0, k, 50) for k in range(400)])
    assert set(np.unique(many)) == {-1.0, 1.0}
    assert abs(many.mean()) < 5 / math.sqrt(many.size)
    assert np.abs(np.corrcoef(many.T) - np.eye(50)).max() < 6 / math.sqrt(400)
    assert np.array_equal(direction(3, 7, 20), direction(3, 7, 20))
    assert not np.array_equal(direction(3, 7, 20), direction(4, 7, 20))


def test_the_papers_step_by_hand(make_plan_with, along):
    """u = (2, 3), goal (1, 1), c = 0.1, delta = (1, -1): l+ = 1.1^2 + 1.9^2, l- = 0.9^2 + 2.1^2, l+ - l- = -0.4."""
    along([1, -1])
    problem = Quadratic([1, 1])
    moved = PaperSpsa(make_plan_with(method="spsa-paper")).step(0, np.array([2.0, 3.0]), problem)
    assert [list(np.round(u, 12)) for _, u in problem.asked] == [[2.1, 2.9], [1.9, 3.1]]
    np.testing.assert_allclose(moved.u, [2 + 0.001 * LN2 * 2, 3 - 0.001 * LN2 * 2], rtol=1e-12)
    assert moved.bits == pytest.approx((4.82 + 5.22) / 2)


def test_the_papers_step_stops_at_0_001(make_plan_with, along):
    along([1.0])
    problem = Quadratic([-50])
    moved = PaperSpsa(make_plan_with(method="spsa-paper", learning_rate=0.1)).step(0, np.array([0.05]), problem)
    assert [u[0] for _, u in problem.asked] == [pytest.approx(0.15), 0.001]  # 0.05 - 0.1 would be negative
    assert moved.u[0] == 0.001


def test_the_released_step_by_hand(make_plan_with, along):
    """u = 1, bits = u^2: perplexities 2^1.21 and 2^0.81, so the new point is 1 - 0.001 * 0.5602 / 0.2 = 0.9972."""
    along([1.0])
    step = ReleasedSpsa(make_plan_with(method="spsa-released")).step
    new = 1 - 0.001 * (2**1.21 - 2**0.81) / 0.2
    assert step(0, np.array([1.0]), Quadratic([0], selection=0.80)).u[0] == pytest.approx(new, rel=1e-12)
    assert step(0, np.array([1.0]), Quadratic([0], selection=0.82)).u[0] == pytest.approx(0.9)  # the minus point
    assert new == pytest.approx(0.9972, abs=5e-5)


def test_the_released_schedules_and_bounds(make_plan_with, along):
    along(*[[1.0]] * 31)
    plan = make_plan_with(method="spsa-released")
    for k in (1, 30):
        problem = Quadratic([0], selection=-1.0)
        moved = ReleasedSpsa(plan).step(k, np.array([2.0]), problem)
        c, rate = 0.1 / (1 + k) ** 0.1, 0.001 * math.cos(k * math.pi / 198)
        assert [u[0] for _, u in problem.asked] == pytest.approx([2 + c, 2 - c])
        ends = 2 ** (2 + c) ** 2 - 2 ** (2 - c) ** 2
        assert moved.u[0] == pytest.approx(2 - rate * ends / (2 * c), rel=1e-12)
    problem = Quadratic([5], selection=99.0)
    assert ReleasedSpsa(plan, most=1.0).step(0, np.array([0.98]), problem).u[0] == 1.0  # the plus point, clipped
    assert ReleasedSpsa(plan).step(0, np.array([0.05]), Quadratic([-5], selection=99.0)).u[0] == 0.01


def test_our_first_steps_by_hand(make_plan_with, along):
    """In x = ln u the loss is x^2: slopes are 2 x, whatever c is. The first step has the length of the rate."""
    along([1.0], [-1.0])
    plan = make_plan_with(learning_rate=0.3, steps=10)
    method, problem = Spsa(plan, 1), Quadratic([1.0], log=True)
    first = method.step(0, np.exp([2.0]), problem)
    assert math.log(first.u[0]) == pytest.approx(2 - 0.3)
    second = method.step(1, first.u, problem)
    h1, h2 = 4.0, -3.4  # along -1, the slope at 1.7 has the other sign
    momentum = (0.8 * 0.2 * h1 - 0.2 * h2) / (1 - 0.8**2)
    size = math.sqrt((0.9 * 0.1 * h1**2 + 0.1 * h2**2) / (1 - 0.9**2))
    assert math.log(second.u[0]) == pytest.approx(1.7 - 0.3 * half_cosine(1, 10) * momentum / size)
    assert [k for k, _ in problem.asked] == [0, 0, 1, 1]  # both perturbations of a step read the same windows


def test_slopes_are_unbiased():
    """The mean of h delta over directions is the gradient: 2 (u - goal) in every entry."""
    problem, u = Quadratic([1.0, 2.0, 3.0]), np.array([2.0, 2.5, 2.0])
    each = []
    for k in range(4000):
        delta = direction(0, k, 3)
        each.append((problem.loss(u + 0.1 * delta, k) - problem.loss(u - 0.1 * delta, k)) / 0.2 * delta)
    error = np.std(each, axis=0) / math.sqrt(len(each))
    assert np.all(np.abs(np.mean(each, axis=0) - [2.0, 1.0, -2.0]) < 5 * error)


def run(method, u, problem, steps):
    for k in range(steps):
        u = method.step(k, u, problem).u
    return u


def test_ours_finds_the_goal_and_does_not_feel_the_size_of_the_loss(make_plan_with):
    goal = np.exp(np.linspace(-2, 5, 12))
    plan = make_plan_with(learning_rate=0.3, steps=400)
    ends = [run(Spsa(plan, 12), np.ones(12), Quadratic(goal, log=True, weight=w), 400) for w in (1.0, 1e-3)]
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-6)
    assert np.abs(np.log(ends[0] / goal)).max() < 0.2
    slow = run(PaperSpsa(make_plan_with(method="spsa-paper")), np.ones(12), Quadratic(goal, log=True), 400)
    assert np.abs(np.log(slow / goal)).max() > 1  # the published step sizes hardly move


def test_adam_by_hand_and_to_the_goal(make_plan_with):
    """The first step of Adam has the length of the rate in every entry, the second is worked out."""
    plan = make_plan_with(method="backprop", learning_rate=0.1, steps=10)
    method, problem = Adam(plan, 1), Quadratic([1.0], log=True)
    first = method.step(0, np.exp([2.0]), problem)
    assert math.log(first.u[0]) == pytest.approx(1.9, abs=1e-8)
    second = method.step(1, first.u, problem)
    g1, g2 = 4.0, 3.8
    m = (0.9 * 0.1 * g1 + 0.1 * g2) / (1 - 0.9**2)
    v = (0.999 * 0.001 * g1**2 + 0.001 * g2**2) / (1 - 0.999**2)
    assert math.log(second.u[0]) == pytest.approx(1.9 - 0.1 * half_cosine(1, 10) * m / math.sqrt(v), abs=1e-8)
    goal = np.exp(np.linspace(-2, 5, 12))
    plan = make_plan_with(method="backprop", learning_rate=0.3, steps=100)
    end = run(Adam(plan, 12), np.ones(12), Quadratic(goal, log=True), 100)
    assert np.abs(np.log(end / goal)).max() < 0.1


def test_factors_stay_within_their_bounds(make_plan_with):
    problem = Quadratic([1e-12, 1e12], log=True)
    for method in (Spsa(make_plan_with(learning_rate=9.0, steps=40), 2), Adam(make_plan_with(learning_rate=9.0), 2)):
        end = run(method, np.ones(2), problem, 30)
        assert np.all((end >= 1e-3 * (1 - 1e-12)) & (end <= 1e6 * (1 + 1e-12)))
