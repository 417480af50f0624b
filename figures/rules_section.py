"""The report's part on rules: which one the evidence favours, and what it gives up. Every word follows from a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mambascope.analysis.goals import GOALS
from mambascope.analysis.rule_choice import choose_rule
from mambascope.analysis.rule_table import DEFAULT, RuleTable
from mambascope.analysis.rules import find_rule
from mambascope.analysis.study import Study

from .gallery import Drawing
from .lengths import tokens_text
from .markup import Cell, Number, coded, figure, folded, paragraph, paragraphs, table
from .rules_words import (
    choice_words,
    documents_text,
    few_words,
    interval_text,
    memory_words,
    what_was_read,
    worst_words,
)
from .verdict import signed

ANCHOR = "rules"
RULE = (
    "A rule turns the diagnosis into factors, with no loss evaluated; a goal names the rule that serves it. What was "
    "proposed above is the default rule's."
)
AGAINST = "against the default, worst cell (bits)"
"""Heading of a rule's paired difference from the default where it is largest."""


def rules_section(study: Study, drawn: Mapping[str, Drawing]) -> str:
    """Return the section of one model.

    Args:
        study: a finished study.
        drawn: its drawings by key.

    Returns:
        HTML; empty if rules were not asked for.
    """
    found = study.rules
    if found is None:
        return ""
    criterion, *chosen = choice_words(choose_rule([found]))
    return "".join([
        "<h3>Which rule, and what it gives up</h3>",
        paragraph(RULE),
        paragraphs(memory_words(found)),
        figure(drawn["rules"]),
        paragraphs(worst_words(found)),
        folded(
            "How a rule is chosen, and how sure that is",
            paragraphs([what_was_read(found), criterion]) + paragraphs([*chosen, few_words([found])]),
        ),
        folded("What each rule does", _what_they_do(found)),
        folded("All rules", _rules_table(found)),
        folded("Harm of every rule on every corpus", _cells_table(found)),
    ])


def _rules_table(found: RuleTable) -> str:
    choice, length = choose_rule([found]), found.lengths[-1]
    goals = {goal.rule: goal.name for goal in GOALS.values()}
    columns = ["rule", "bakes", f"mean harm at {tokens_text(length)} (bits)", "worst harm (bits)", AGAINST]
    columns += ["most lost inside T (bits)", "energy older than T (%)"]
    columns += [f"saved on a passage {gap:,} back (bits)" for gap in found.gaps]
    details = {row["rule"]: row for row in found.summary()}
    rows: list[list[Cell]] = []
    for row in choice.rows:
        rule, of = row["rule"], details[row["rule"]]
        name = f"{rule} (goal {goals[rule]})" if rule in goals else rule
        rows.append([
            name,
            Number(float(row["bakes"] == "yes"), row["bakes"]),
            _bits(row["harm_mean"]),
            _sure(row, "harm_worst"),
            _against(row),
            _sure(row, "inside_worst"),
            Number(100 * row["energy_older"], f"{100 * row['energy_older']:.2f}"),
            *(
                Number(of[f"saved_at_{gap}"], f"{of[f'saved_at_{gap}']:.4f} ± {of[f'saved_at_{gap}_se']:.4f}")
                for gap in found.gaps
            ),
        ])
    caption = "Rules by their worst harm over corpora and lengths, validation text (click a heading to sort)"
    return table(caption, columns, rows, sortable=True)


def _what_they_do(found: RuleTable) -> str:
    """Return every rule in a line."""
    rows = []
    for name in dict.fromkeys(row["rule"] for row in found.memory):
        rule = find_rule(name)
        rows.append([name, rule.description, rule.source])
    return table("tau is a horizon, T the training length, L the target length", ["rule", "does", "source"], rows)


def _bits(value: float) -> Number:
    return Number(value, signed(value))


def _sure(row: dict[str, Any], name: str) -> Number:
    return Number(row[name], interval_text(row, name))


def _against(row: dict[str, Any]) -> Cell:
    if "against_default_worst" not in row:
        return "not scored"
    return Number(0.0, "is the default") if row["rule"] == DEFAULT else _sure(row, "against_default_worst")


def _cells_table(found: RuleTable) -> str:
    """Return the harm of every rule on every corpus at every length."""
    documents = found.documents()
    cells = {(row["rule"], row["corpus"], row["length"]): row["harm"] for row in found.texts}
    rules = [row["rule"] for row in choose_rule([found]).rows]
    places = [(corpus, n) for corpus in documents for n in found.lengths]
    columns = ["rule", *(f"{corpus} {tokens_text(n)}, {documents_text(documents[corpus])}" for corpus, n in places)]
    rows: list[list[Cell]] = [[rule, *(_bits(cells[rule, corpus, n]) for corpus, n in places)] for rule in rules]
    return table("Harm in bits per token by corpus and length, validation text", columns, rows, sortable=True)


def across_models(studies: Sequence[Study]) -> str:
    """Return the section that holds the default against all models at once; empty for fewer than two."""
    tables = [study.rules for study in studies if study.rules]
    if len(tables) < 2:
        return ""
    choice = choose_rule(tables)
    criterion, *chosen = choice_words(choice, len(tables))
    columns = ["rule", "bakes into all", "worst harm (bits)", "mean harm (bits)", AGAINST]
    columns += ["most lost inside T (bits)", "energy older than T (%)", "may be the default"]
    rows: list[list[Cell]] = [
        [
            row["rule"],
            Number(float(row["bakes"] == "yes"), row["bakes"]),
            _sure(row, "harm_worst"),
            _bits(row["harm_mean"]),
            _against(row),
            _sure(row, "inside_worst"),
            Number(100 * row["energy_older"], f"{100 * row['energy_older']:.2f}"),
            Number(float(row["qualifies"]), "yes" if row["qualifies"] else "no"),
        ]
        for row in choice.rows
    ]
    names = ", ".join(found.model for found in tables)
    caption = f"Rules on {names}: worst over models, corpora and lengths; means over models (click a heading to sort)"
    return "".join([
        f'<section id="{ANCHOR}"><h2>Which rule is the default</h2>',
        paragraph(criterion),
        paragraphs(chosen[:2]),
        table(caption, columns, rows, sortable=True),
        folded("How sure that is", paragraphs([*chosen[2:], few_words(tables)])),
        paragraph("What each goal is for:"),
        "<ul>",
        *(f"<li>{coded(f'{goal.name} ({goal.rule}): {goal.why}.')}</li>" for goal in GOALS.values()),
        "</ul></section>",
    ])


def navigation() -> str:
    """Return the section's link."""
    return f'<a href="#{ANCHOR}">Which rule</a>'
