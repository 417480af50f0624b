"""Derivations that a machine checks step by step and a person can read.

A step states a relation between two expressions. ``=`` is checked by doing every integral, sum, limit and derivative
that stands in it and simplifying the difference to zero (numbers without symbols: by arithmetic and quadrature to 20
digits); ``!=`` and ``<=`` at the points given, to 30 digits. Nothing
is taken on trust: a step that sympy cannot confirm does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import sympy

Relation = Literal["=", "!=", "<="]
Points = tuple[Mapping[sympy.Symbol, Any], ...]

_DIGITS = 30


@dataclass(frozen=True)
class Step:
    """One line of a derivation."""

    says: str
    """What is done, in a sentence."""
    left: sympy.Expr
    """Left side, with integrals, sums and limits unevaluated where they are to be shown."""
    right: sympy.Expr
    """Right side."""
    relation: Relation = "="
    """What is claimed of the two."""
    at: Points = ()
    """Values of the symbols at which ``!=`` and ``<=`` are checked; for ``=`` further numerical evidence."""

    def holds(self) -> bool:
        """Return whether the relation is confirmed."""
        if self.relation == "=":
            return _equal(self.left, self.right) and all(self._numbers_agree(at) for at in self.at)
        if not self.at:
            raise ValueError(f"step {self.says!r}: {self.relation} needs points to be checked at")
        return all(self._numbers_obey(at) for at in self.at)

    def _numbers(self, at: Mapping[sympy.Symbol, Any]) -> tuple[Any, Any]:
        # doit first: a limit or a sum is not changed by substituting into it beforehand, but may not be doable then
        left, right = (sympy.sympify(side).subs(at).doit().evalf(_DIGITS) for side in (self.left, self.right))
        if not (left.is_number and right.is_number):
            raise ValueError(f"step {self.says!r}: {at} leaves symbols free")
        return left, right

    def _numbers_agree(self, at: Mapping[sympy.Symbol, Any]) -> bool:
        left, right = self._numbers(at)
        return bool(abs(left - right) <= sympy.Float(10) ** -20 * (1 + abs(right)))

    def _numbers_obey(self, at: Mapping[sympy.Symbol, Any]) -> bool:
        left, right = self._numbers(at)
        if self.relation == "<=":
            return bool(left <= right)
        return bool(abs(left - right) > sympy.Float(10) ** -6 * (1 + abs(right)))


@dataclass(frozen=True)
class Derivation:
    """A proof, or a refutation, in steps."""

    steps: tuple[Step, ...]
    """In order."""
    concludes: str
    """What follows, in a sentence."""
    symbols: Mapping[sympy.Symbol, str] = field(default_factory=dict)
    """What each symbol stands for."""

    def failures(self) -> list[str]:
        """Return the sentences of the steps that could not be confirmed; empty if the derivation holds."""
        return [step.says for step in self.steps if not step.holds()]

    def text(self) -> str:
        """Return the derivation for a terminal."""
        lines = [f"    {symbol}  {meaning}" for symbol, meaning in self.symbols.items()]
        signs = {"=": "=", "!=": "≠", "<=": "≤"}
        for number, step in enumerate(self.steps, 1):
            lines += ["", f"({number}) {step.says}"]
            row = sympy.pretty(_Row(step.left, signs[step.relation], step.right), use_unicode=True, wrap_line=False)
            lines += [f"      {line}" for line in row.splitlines()]
            lines += [f"      checked at {_points(step.at)}"] if step.relation != "=" else []
        return "\n".join([*lines, "", f"Therefore: {self.concludes}"])

    def latex(self) -> str:
        """Return the derivation as LaTeX: an enumeration with one formula a step."""
        signs = {"=": "=", "!=": r"\neq", "<=": r"\leq"}
        lines = [r"\begin{enumerate}"]
        for step in self.steps:
            formula = f"{sympy.latex(step.left)} {signs[step.relation]} {sympy.latex(step.right)}"
            checked = f" (checked at {_points(step.at)})" if step.relation != "=" else ""
            lines += [rf"\item {step.says}{checked}", rf"\[ {formula} \]"]
        return "\n".join([*lines, r"\end{enumerate}", f"Therefore: {self.concludes}"])


def _points(at: Points) -> str:
    return "; ".join(
        ", ".join(f"{symbol} = {value}" for symbol, value in point.items()) or "no symbols" for point in at
    )


def _equal(left: sympy.Expr, right: sympy.Expr) -> bool:
    if not (sympy.sympify(left).free_symbols | sympy.sympify(right).free_symbols):
        one, other = _number(left), _number(right)
        return bool(abs(one - other) <= sympy.Float(10) ** -20 * (1 + abs(other)))
    left, right = sympy.sympify(left).doit(), sympy.sympify(right).doit()
    if left == right:
        return True
    difference = sympy.simplify(left - right)
    if difference != 0:
        difference = sympy.simplify(sympy.expand_log(sympy.expand(difference.rewrite(sympy.exp))))
    return bool(difference == 0)


def _number(expression: sympy.Expr) -> sympy.Expr:
    """Return an expression without symbols as a number; an integral by quadrature, not by its own antiderivative."""
    value = sympy.N(expression, _DIGITS)
    return value if value.is_Float or value.is_Integer else sympy.N(sympy.sympify(expression).doit(), _DIGITS)


class _Row:
    """Two pretty forms with a sign between them on the centre line."""

    def __init__(self, left: sympy.Expr, sign: str, right: sympy.Expr) -> None:
        self.parts = (left, sign, right)

    def _pretty(self, printer: Any) -> Any:
        from sympy.printing.pretty.stringpict import prettyForm

        left, sign, right = self.parts
        form = printer._print(left)
        form = prettyForm(*form.right(f" {sign} "))
        return prettyForm(*form.right(printer._print(right)))
