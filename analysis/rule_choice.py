"""Which rule the evidence favours, by a criterion that is stated before the table is read, and what it gives up.

A rule may be the default if its factors can be baked into the model and it loses at most ``LOST_INSIDE_BITS`` inside
the training length on every corpus, by the mean over documents. Of those the one with the least harm wins, harm being
the worst over all corpora and lengths: the default must hold for texts nobody has tried.

Why the mean decides and not an end of its interval: a default is used by people who do not measure, and inside T the
model was right before it was touched, so the default must do no harm there as far as the texts can tell. To disqualify
only what is lost for sure (lower end above the limit) would reward small corpora: with three documents the interval is
so wide that nothing would ever be lost, and a default that fails could be kept by reading less. To ask that the loss be
excluded (upper end within the limit) would punish them: with few documents nothing would qualify, whatever the rules
do. The mean is the best guess either way; the interval does not move the decision, it says whether the texts settle it
(``inside_settled``).

In the same way the order is by means, and whether two rules are told apart is a question of its own. A rule is told
apart from the default in a cell (model, corpus, length) where the 95 % interval of the paired difference leaves out 0.
Cells of one corpus share their documents, and one cell in twenty would be told apart by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .rule_table import DEFAULT, Rows, RuleTable

LOST_INSIDE_BITS = 0.005
"""Bits per token that may be lost inside T: 0.35 % of perplexity. Ours."""
ENDS = ("", "_ci_low", "_ci_high")
"""What follows the name of a value: nothing, and for the ends of its interval."""


@dataclass(frozen=True, slots=True)
class RuleChoice:
    """What a table says of the default."""

    rows: Rows
    """One row a rule, the least worst harm first: ``bakes``; harm, loss inside and difference from the default, each of
    its worst cell with the interval; the difference where the default leaves most harm (``there``);
    ``inside_settled``; ``cells``, and how many tell the rule apart from the default in its favour (``cells_better``)
    and in the default's (``cells_worse``); ``energy_older``; ``qualifies``. Without the default among the rules there
    are no differences and no cells."""

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
    of_default = [row for table in tables for row in table.texts if row["rule"] == DEFAULT]
    hardest = worst_cell(of_default, "harm") if DEFAULT in common else None
    rows = []
    for rule in common:
        of = [rows_of[rule] for rows_of in by_model]
        cells = [row for table in tables for row in table.texts if row["rule"] == rule]
        bakes = all(row["bakes"] == "yes" for row in of)
        inside = worst_cell(cells, "inside")
        rows.append({
            "rule": rule,
            "bakes": "yes" if bakes else "no",
            "harm_mean": sum(row["harm_mean"] for row in of) / len(of),
            **_worst("harm", cells),
            **_worst("inside", cells),
            "inside_settled": inside_settled(cells),
            **(_against(cells, hardest) if hardest else {}),
            "energy_older": sum(row["energy_older"] for row in of) / len(of),
            "qualifies": bakes and inside["inside"] <= LOST_INSIDE_BITS and rule != "none",
        })
    return RuleChoice(sorted(rows, key=lambda row: row["harm_worst"]))


def worst_cell(cells: Rows, name: str) -> dict[str, Any]:
    """Return the row with the largest value; of equal ones that with most documents."""
    return max(cells, key=lambda row: (row[name], row["documents"]))


def _worst(name: str, cells: Rows) -> dict[str, float | None]:
    row = worst_cell(cells, name)
    return {f"{name}_worst{end}": row[f"{name}{end}"] for end in ENDS}


def _against(cells: Rows, hardest: dict[str, Any]) -> dict[str, Any]:
    """Hold a rule against the default: counts, the worst cell, and that where the default leaves most harm."""
    place = ("model", "corpus", "length")
    there = next(row for row in cells if all(row[name] == hardest[name] for name in place))
    name = "against_default"
    return {f"{name}_there{end}": there[f"{name}{end}"] for end in ENDS} | _worst(name, cells) | told_apart(cells)


def inside_settled(cells: Rows) -> bool:
    """Say whether the intervals settle on which side of the limit a rule's loss inside T is.

    Args:
        cells: its rows.

    Returns:
        A loss within the limit is settled if every interval ends within it, one beyond if some interval begins beyond;
        no interval, of a single document, settles nothing.
    """
    if worst_cell(cells, "inside")["inside"] > LOST_INSIDE_BITS:
        return any(low > LOST_INSIDE_BITS for row in cells if (low := row["inside_ci_low"]) is not None)
    return all(high is not None and high <= LOST_INSIDE_BITS for row in cells for high in [row["inside_ci_high"]])


def told_apart(cells: Rows) -> dict[str, int]:
    """Count the cells where a rule's paired interval against the default leaves out 0, by whom they favour.

    Args:
        cells: its rows.

    Returns:
        ``cells``, how many there are; ``cells_better``, where the rule has fewer bits; ``cells_worse``, where it has
        more.
    """
    ends = [(row["against_default_ci_low"], row["against_default_ci_high"]) for row in cells]
    return {
        "cells": len(ends),
        "cells_better": sum(high is not None and high < 0 for _, high in ends),
        "cells_worse": sum(low is not None and low > 0 for low, _ in ends),
    }
