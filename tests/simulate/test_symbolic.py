"""Test ``mambascope.simulate.symbolic``: true steps hold, false ones do not, whatever their form."""

import pytest
import sympy

from mambascope.simulate.symbolic import Derivation, Step

x, y = sympy.symbols("x y", positive=True)
n = sympy.symbols("n", integer=True, positive=True)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (sympy.Integral(1 / (1 - x**2), (x, 0, sympy.Rational(1, 2))), sympy.atanh(sympy.Rational(1, 2))),
        (sympy.Limit((1 - y ** (2 * 3)) / (1 - y**2), y, 1), sympy.Integer(3)),
        (sympy.Derivative(sympy.atanh(x), x), 1 / (1 - x**2)),
        (sympy.Sum(n, (n, 1, 10)), sympy.Integer(55)),
        ((x + y) ** 2, x**2 + 2 * x * y + y**2),
        (sympy.exp(x) * sympy.exp(y), sympy.exp(x + y)),
        (sympy.Subs(x**2, x, 3), sympy.Integer(9)),
    ],
)
def test_equalities_are_checked_by_doing_the_work(left, right):
    assert Step("true", left, right).holds()
    assert not Step("false", left, right * sympy.Rational(1001, 1000)).holds()
    assert not Step("false", left, right + sympy.Rational(1, 10**9)).holds()


def test_differences_and_bounds_need_points():
    at = ({x: sympy.Rational(1, 3)}, {x: sympy.Rational(1, 2)})
    assert Step("differ", x, x**2, "!=", at).holds()
    assert not Step("equal after all", x, x + x**2 - x**2, "!=", at).holds()
    assert Step("below", x**2, x, "<=", at).holds()
    assert not Step("above", x, x**2, "<=", at).holds()
    with pytest.raises(ValueError, match="needs points"):
        Step("nowhere", x, x**2, "!=").holds()
    with pytest.raises(ValueError, match="leaves symbols free"):
        Step("half", x * y, x, "<=", at).holds()


def test_no_step_is_confirmed_by_force():
    """log(y^2) = 2 log y is false for y < 0; expanding logarithms by force would let it pass."""
    real = sympy.symbols("r", real=True)
    assert not Step("false for negative numbers", sympy.log(real**2), 2 * sympy.log(real)).holds()
    assert Step("true", sympy.log(x**2), 2 * sympy.log(x)).holds()


def test_an_equality_must_hold_at_its_points_too():
    assert Step("so", (x + 1) ** 2, x**2 + 2 * x + 1, at=({x: 2},)).holds()


def test_a_derivation_names_the_steps_that_fail():
    right, wrong = Step("two and two", sympy.Integer(2) + 2, sympy.Integer(4)), Step("oops", x, x + 1)
    derivation = Derivation((right, wrong), "nothing follows", {x: "a number"})
    assert derivation.failures() == ["oops"]


def test_text_and_latex_show_every_step():
    derivation = Derivation(
        (
            Step("An integral.", sympy.Integral(x, (x, 0, 1)), sympy.Rational(1, 2)),
            Step("A bound.", x**2, x, "<=", ({x: sympy.Rational(1, 2)},)),
            Step("A difference.", x, 2 * x, "!=", ({x: 1},)),
        ),
        "all is well.",
        {x: "a number"},
    )
    text, latex = derivation.text(), derivation.latex()
    for said in ("An integral.", "A bound.", "A difference.", "all is well."):
        assert said in text
        assert said in latex
    assert "checked at x = 1/2" in text
    assert "checked at x = 1/2" in latex
    assert "⌠" in text
    assert "≤" in text
    assert "≠" in text
    assert r"\int" in latex
    assert r"\leq" in latex
    assert r"\neq" in latex
