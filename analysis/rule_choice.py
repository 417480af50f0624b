"""Which rule the evidence favours, by a criterion that is stated before the table is read, and what it gives up.

A rule may be the default if its factors can be baked into the model and it loses at most ``LOST_INSIDE_BITS`` inside
the training length on every corpus. Of those the one with the least harm wins, harm being the worst over all corpora
and lengths: the default must hold for texts nobody has tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .goals import GOALS
from .rule_table import Rows, RuleTable

LOST_INSIDE_BITS = 0.005
"""Bits per token that may be lost inside T: 0.35 % of perplexity. Ours."""
DEFAULT = next(iter(GOALS.values())).rule
"""The rule of the first goal."""


@dataclass(frozen=True, slots=True)
class RuleChoice:
    """What a table says of the default."""

    rows: Rows
    """One row a rule, the least worst harm first: ``RuleTable.summary`` with ``qualifies``."""

    @property
    def qualified(self) -> list[str]:
        """Rules that may be the default, best first."""
        return [row["rule"] for row in self.rows if row["qualifies"]]

    @property
    def best(self) -> str | None:
        """The rule that the criterion chooses; None if no rule qualifies."""
        return next(iter(self.qualified), None)

    def row(self, rule: str) -> dict[str, Any]:
        """Return the row of a rule."""
        return next(row for row in self.rows if row["rule"] == rule)

    def better_but(self) -> list[str]:
        """Return rules with less harm than the best one that do not qualify, best first."""
        names = [row["rule"] for row in self.rows]
        return names[: names.index(self.best)] if self.best else names


def choose_rule(tables: Sequence[RuleTable]) -> RuleChoice:
    """Apply the criterion to one model or to several at once.

    Args:
        tables: one a model. Over several models harm and loss are the worst, memory is the mean, and a rule bakes if it
            does into each of them.

    Returns:
        The choice among the rules that all tables have.
    """
    by_model = [{row["rule"]: row for row in table.summary()} for table in tables]
    common = [rule for rule in by_model[0] if all(rule in of for of in by_model)]
    rows = []
    for rule in common:
        of = [rows_of[rule] for rows_of in by_model]
        bakes = all(row["bakes"] == "yes" for row in of)
        inside = max(row["inside_worst"] for row in of)
        rows.append({
            "rule": rule,
            "bakes": "yes" if bakes else "no",
            "harm_mean": sum(row["harm_mean"] for row in of) / len(of),
            "harm_worst": max(row["harm_worst"] for row in of),
            "inside_worst": inside,
            "energy_older": sum(row["energy_older"] for row in of) / len(of),
            "qualifies": bakes and inside <= LOST_INSIDE_BITS and rule != "none",
        })
    return RuleChoice(sorted(rows, key=lambda row: row["harm_worst"]))
