"""Test ``mambascope.analysis.rule_choice``: the criterion, on tables made by hand."""

import pytest

from mambascope.analysis.rule_choice import LOST_INSIDE_BITS, choose_rule
from mambascope.analysis.rule_table import DEFAULT, RuleTable


def sure(name, value, spread):
    low, high = (None, None) if spread is None else (value - spread, value + spread)
    return {name: value, f"{name}_ci_low": low, f"{name}_ci_high": high}


def table(rules, model="m", spread=0.001):
    """Rules as name: (harm in a, harm in b, lost inside, bakes); every interval is ``spread`` wide on either side."""
    default = rules[DEFAULT][:2] if DEFAULT in rules else None
    texts, memory = [], []
    for rule, (*harms, inside, bakes) in rules.items():
        row = {"model": model, "rule": rule, "length": 64}
        for k, corpus in enumerate("ab"):
            against = {"against_default": None} if default is None else {}
            against |= {} if default is None else sure("against_default", harms[k] - default[k], spread)
            values = sure("harm", harms[k], spread) | sure("inside", inside, spread) | against
            texts.append(row | {"corpus": corpus, "documents": 3} | values)
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


@pytest.mark.parametrize(
    ("lost", "spread", "qualifies", "settled"),
    [
        (0.8, 0.1, True, True),
        (0.8, 0.3, True, False),
        (1.2, 0.3, False, False),
        (1.2, 0.1, False, True),
        (0.8, None, True, False),
        (1.2, None, False, False),
    ],
)
def test_the_mean_decides_and_the_interval_says_whether_it_is_settled(lost, spread, qualifies, settled):
    """Losses and half-widths in limits; None: a single document."""
    rules = {DEFAULT: (0.0, 0.0, lost * LOST_INSIDE_BITS, "yes")}
    row = choose_rule([table(rules, spread=spread and spread * LOST_INSIDE_BITS)]).row(DEFAULT)
    assert (row["qualifies"], row["inside_settled"]) == (qualifies, settled)


def test_one_settled_loss_settles_it_and_one_open_corpus_leaves_it_open():
    found = table({DEFAULT: (0.0, 0.0, 0.0, "yes")})
    assert choose_rule([found]).row(DEFAULT)["inside_settled"]
    found.texts[0]["inside_ci_high"] = 2 * LOST_INSIDE_BITS
    assert not choose_rule([found]).row(DEFAULT)["inside_settled"]
    found.texts[0] |= sure("inside", 2 * LOST_INSIDE_BITS, 2 * LOST_INSIDE_BITS)
    assert not choose_rule([found]).row(DEFAULT)["inside_settled"]
    found.texts[1] |= sure("inside", 1.5 * LOST_INSIDE_BITS, 0.1 * LOST_INSIDE_BITS)
    assert choose_rule([found]).row(DEFAULT)["inside_settled"]


def test_rules_are_told_apart_from_the_default_by_whose_favour_and_where():
    rules = {DEFAULT: (0.010, 0.020, 0.0, "yes"), "mixed": (0.015, 0.0, 0.0, "yes"), "near": (0.0105, 0.0195, 0, "yes")}
    choice = choose_rule([table(rules), table(rules | {DEFAULT: (0.010, 0.030, 0.0, "yes")}, "n")])
    counts = {rule: [choice.row(rule)[f"cells{end}"] for end in ("", "_better", "_worse")] for rule in rules}
    assert counts == {DEFAULT: [4, 0, 0], "mixed": [4, 2, 2], "near": [4, 1, 0]}
    mixed = choice.row("mixed")
    assert mixed["against_default_there"] == pytest.approx(-0.030)  # in b of n
    assert mixed["against_default_there_ci_high"] == pytest.approx(-0.029)
    assert mixed["against_default_worst"] == pytest.approx(0.005)
    assert mixed["against_default_worst_ci_low"] == pytest.approx(0.004)


def test_without_the_default_nothing_is_held_against_it():
    choice = choose_rule([table({"none": RULES["none"]})])
    assert not [name for name in choice.row("none") if name.startswith(("against", "cells"))]
