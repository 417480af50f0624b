"""Test ``mambascope.analysis.rule_choice``: the criterion, on tables made by hand."""

import pytest

from mambascope.analysis.rule_choice import DEFAULT, LOST_INSIDE_BITS, choose_rule
from mambascope.analysis.rule_table import RuleTable


def table(rules, model="m"):
    """Rules as name: (harm in a, harm in b, lost inside, bakes)."""
    texts, memory = [], []
    for rule, (*harms, inside, bakes) in rules.items():
        row = {"model": model, "rule": rule, "length": 64}
        texts += [row | {"corpus": c, "harm": h, "inside": inside} for c, h in zip("ab", harms, strict=True)]
        memory.append(row | {"bakes": bakes, "energy_older_after": 0.5})
    return RuleTable(model, 16, texts, memory)


RULES = {
    DEFAULT: (0.010, 0.020, 0.001, "yes"),
    "mean-is-less": (-0.1, 0.030, 0.0, "yes"),
    "not-baked": (0.0, 0.001, 0.0, "no"),
    "loses-inside": (0.0, 0.0, 2 * LOST_INSIDE_BITS, "yes"),
    "none": (0.0, 0.0, 0.0, "yes"),
}


def test_the_least_worst_harm_wins_among_those_that_bake_and_lose_nothing_inside():
    choice = choose_rule([table(RULES)])
    assert choice.qualified == [DEFAULT, "mean-is-less"]
    assert choice.best == DEFAULT
    assert set(choice.better_but()) == {"not-baked", "loses-inside", "none"}
    assert choice.row("mean-is-less")["harm_mean"] == pytest.approx(-0.035)
    assert choice.row("mean-is-less")["harm_worst"] == 0.030


def test_over_several_models_the_worst_counts_and_a_rule_bakes_in_all_of_them():
    other = RULES | {DEFAULT: (0.0, 0.05, 0.0, "yes"), "mean-is-less": (0.0, 0.0, 0.0, "no")}
    other["only-here"] = (0.0, 0.0, 0.0, "yes")
    choice = choose_rule([table(RULES), table(other, "n")])
    assert choice.qualified == [DEFAULT]
    assert choice.row(DEFAULT)["harm_worst"] == 0.05
    assert "only-here" not in {row["rule"] for row in choice.rows}


def test_where_nothing_qualifies_nothing_is_chosen():
    choice = choose_rule([table({"none": RULES["none"], "not-baked": RULES["not-baked"]})])
    assert choice.best is None
    assert choice.qualified == []
