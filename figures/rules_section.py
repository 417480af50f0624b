"""The report's part on rules: which one the evidence favours, and what it gives up. Every word follows from a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mambascope.analysis.goals import GOALS
from mambascope.analysis.rule_choice import DEFAULT, LOST_INSIDE_BITS, RuleChoice, choose_rule
from mambascope.analysis.rule_table import RuleTable
from mambascope.analysis.rules import find_rule
from mambascope.analysis.study import Study

from .gallery import Drawing
from .lengths import tokens_text
from .markup import Cell, Number, escape, figure, paragraph, paragraphs, table
from .rules import passage_gap
from .verdict import signed

ANCHOR = "rules"
NAMED = 4
"""Rules that a sentence names."""


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
    return "".join([
        "<h3>Which rule, and what it gives up</h3>",
        paragraphs([what_was_read(found), *choice_words(choose_rule([found])), *worst_words(found)]),
        figure(drawn["rules"]),
        paragraphs(memory_words(found)),
        _rules_table(found),
        _cells_table(found),
    ])


def what_was_read(found: RuleTable) -> str:
    """Say on what the rules were judged."""
    corpora = ", ".join(f"{name} ({_documents(n)})" for name, n in found.documents().items())
    lengths = ", ".join(tokens_text(n) for n in found.lengths)
    left = "".join(f" {name} was left out: {why}." for name, why in found.left_out.items())
    count = len({row["rule"] for row in found.memory})
    return (
        f"{count} rules, judged on validation text that no scale was made from: {corpora}, the first {lengths} tokens "
        f"of each document.{left}"
    )


def _documents(n: int) -> str:
    return "1 document" if n == 1 else f"{n} documents"


def choice_words(choice: RuleChoice, models: int = 1) -> list[str]:
    """Say what the criterion chooses, and how far behind the default is where it is not that.

    Args:
        choice: of one model or of several.
        models: how many.

    Returns:
        Sentences.
    """
    where = "this model" if models == 1 else f"all {models} models"
    criterion = (
        f"A rule may be the default if it can be baked into {where} and loses at most {LOST_INSIDE_BITS:g} bits per "
        "token inside the training length on every corpus; of those the one with the least worst harm, over all "
        "corpora and lengths, is the choice."
    )
    if choice.best is None:
        return [criterion, "No rule meets that here."]
    best, names = choice.row(choice.best), choice.qualified
    first = ", ".join(f"{name} ({_worst(choice, name)})" for name in names[:NAMED])
    rest = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
    told = f"{len(names)} of {len(choice.rows)} rules may, with a worst harm of: {first}{rest}."
    if names[0] == DEFAULT:
        verdict = f"The default, {DEFAULT}, has the least worst harm of these."
    elif DEFAULT in names:
        behind = choice.row(DEFAULT)["harm_worst"] - best["harm_worst"]
        needs = find_rule(names[0]).needs_writes and not find_rule(DEFAULT).needs_writes
        but = " It rests on measured writes, which the default does without." if needs else ""
        verdict = f"The default, {DEFAULT}, is not the first of these: {names[0]} has {abs(behind):.4f} bits less.{but}"
    else:
        verdict = f"The default does not meet the criterion here: {_why_not(choice.row(DEFAULT))}."
    better = [_why_not(choice.row(name)) for name in choice.better_but() if name != DEFAULT][:NAMED]
    others = [f"Less worst harm, but not eligible: {'; '.join(better)}."] if better else []
    return [criterion, told, verdict, *others]


def worst_words(found: RuleTable) -> list[str]:
    """Say where the default leaves most harm, and how sure that is."""
    of_default = [row for row in found.texts if row["rule"] == DEFAULT]
    if not of_default:
        return []
    worst = max(of_default, key=lambda row: row["harm"])
    low, high = worst["harm_ci_low"], worst["harm_ci_high"]
    sure = "no interval" if low is None or high is None else f"95 % interval {signed(low)} to {signed(high)}"
    where = f"{worst['corpus']} at {tokens_text(worst['length'])} tokens"
    trained = [row for row in found.texts if row["rule"] == "none" and _cell(row) == _cell(worst)]
    beside = "".join(f"; as trained it is {signed(row['harm'])} there" for row in trained)
    return [
        f"The default leaves most harm on {where}: {signed(worst['harm'])} bits ({sure}, "
        f"{_documents(worst['documents'])}){beside}."
    ]


def _cell(row: dict[str, Any]) -> tuple[str, int]:
    return row["corpus"], row["length"]


def _worst(choice: RuleChoice, rule: str) -> str:
    return signed(choice.row(rule)["harm_worst"])


def _why_not(row: dict[str, Any]) -> str:
    reasons = ["cannot be baked"] if row["bakes"] == "no" else []
    if row["inside_worst"] > LOST_INSIDE_BITS:
        reasons.append(f"loses {signed(row['inside_worst'])} inside")
    return f"{row['rule']} ({signed(row['harm_worst'])}; {', '.join(reasons)})"


def memory_words(found: RuleTable) -> list[str]:
    """Say what memory the goals' rules keep, and at what harm."""
    length, gap = found.lengths[-1], passage_gap(found)
    rows = {row["rule"]: row for row in found.summary(length)}
    if "none" not in rows:
        return []
    before = rows["none"]
    words = [
        f"What is given up, in a text of {tokens_text(length)} tokens: as trained {before['energy_older']:.1%} of a "
        f"state's energy is older than the {found.train_length:,} tokens of training (mean over modes); "
        + "; ".join(
            f"with {goal.rule} (goal {goal.name}) {row['energy_older']:.1%}, mean harm {signed(row['harm_mean'])}"
            for goal in GOALS.values()
            if (row := rows.get(goal.rule))
        )
        + "."
    ]
    if gap:
        saved, error = f"saved_at_{gap}", f"saved_at_{gap}_se"
        told = "; ".join(
            f"{goal.rule} {row[saved]:.4f} ± {row[error]:.4f}"
            for goal in GOALS.values()
            if (row := rows.get(goal.rule))
        )
        if before[saved] < 2 * before[error]:
            words.append(
                f"A passage read {gap:,} tokens before saves the model as trained {before[saved]:.4f} ± "
                f"{before[error]:.4f} bits a token when it is read again, no more than chance: what the rules cost "
                "there cannot be told."
            )
        else:
            words.append(
                f"A passage read {gap:,} tokens before saves the model as trained {before[saved]:.4f} ± "
                f"{before[error]:.4f} bits a token when it is read again (mean and standard error); {told}."
            )
    return words


def _rules_table(found: RuleTable) -> str:
    choice, length = choose_rule([found]), found.lengths[-1]
    goals = {goal.rule: goal.name for goal in GOALS.values()}
    columns = ["rule", "bakes", f"mean harm at {tokens_text(length)} (bits)", "worst harm (bits)"]
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
            *(_bits(row[key]) for key in ("harm_mean", "harm_worst", "inside_worst")),
            Number(100 * row["energy_older"], f"{100 * row['energy_older']:.2f}"),
            *(
                Number(of[f"saved_at_{gap}"], f"{of[f'saved_at_{gap}']:.4f} ± {of[f'saved_at_{gap}_se']:.4f}")
                for gap in found.gaps
            ),
        ])
    caption = "Rules by their worst harm over corpora and lengths, validation text (click a heading to sort)"
    return table(caption, columns, rows, sortable=True)


def _bits(value: float) -> Number:
    return Number(value, signed(value))


def _cells_table(found: RuleTable) -> str:
    """Return the harm of every rule on every corpus at every length, folded."""
    documents = found.documents()
    cells = {(row["rule"], row["corpus"], row["length"]): row["harm"] for row in found.texts}
    rules = [row["rule"] for row in choose_rule([found]).rows]
    places = [(corpus, n) for corpus in documents for n in found.lengths]
    columns = ["rule", *(f"{corpus} {tokens_text(n)}, {_documents(documents[corpus])}" for corpus, n in places)]
    rows: list[list[Cell]] = [[rule, *(_bits(cells[rule, corpus, n]) for corpus, n in places)] for rule in rules]
    shown = table("Harm in bits per token by corpus and length, validation text", columns, rows, sortable=True)
    return f"<details><summary>Harm of every rule on every corpus</summary>{shown}</details>"


def across_models(studies: Sequence[Study]) -> str:
    """Return the section that holds the default against all models at once; empty for fewer than two."""
    tables = [study.rules for study in studies if study.rules]
    if len(tables) < 2:
        return ""
    choice = choose_rule(tables)
    columns = ["rule", "bakes into all", "worst harm (bits)", "mean harm (bits)", "most lost inside T (bits)"]
    columns += ["energy older than T (%)", "may be the default"]
    rows: list[list[Cell]] = [
        [
            row["rule"],
            Number(float(row["bakes"] == "yes"), row["bakes"]),
            *(_bits(row[key]) for key in ("harm_worst", "harm_mean", "inside_worst")),
            Number(100 * row["energy_older"], f"{100 * row['energy_older']:.2f}"),
            Number(float(row["qualifies"]), "yes" if row["qualifies"] else "no"),
        ]
        for row in choice.rows
    ]
    names = ", ".join(found.model for found in tables)
    caption = f"Rules on {names}: worst over models, corpora and lengths; means over models (click a heading to sort)"
    return "".join([
        f'<section id="{ANCHOR}"><h2>Which rule is the default</h2>',
        paragraphs(choice_words(choice, len(tables))),
        table(caption, columns, rows, sortable=True),
        paragraph("What each goal is for:"),
        "<ul>",
        *(f"<li>{escape(f'{goal.name} ({goal.rule}): {goal.why}.')}</li>" for goal in GOALS.values()),
        "</ul></section>",
    ])


def navigation() -> str:
    """Return the section's link."""
    return f'<a href="#{ANCHOR}">Which rule</a>'
