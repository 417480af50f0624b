"""What the tables of rules say, in sentences: the choice, how sure it is, and what is given up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mambascope.analysis.evaluate.intervals import FEWEST
from mambascope.analysis.goals import GOALS
from mambascope.analysis.rule_choice import LOST_INSIDE_BITS, RuleChoice, inside_settled, worst_cell
from mambascope.analysis.rule_table import DEFAULT, Rows, RuleTable
from mambascope.analysis.rules import find_rule

from .lengths import tokens_text
from .rules import passage_gap
from .verdict import signed

NAMED = 4
"""Rules that a sentence names."""


def what_was_read(found: RuleTable) -> str:
    """Say on what the rules were judged."""
    corpora = ", ".join(f"{name} ({documents_text(n)})" for name, n in found.documents().items())
    lengths = ", ".join(tokens_text(n) for n in found.lengths)
    left = "".join(f" {name} was left out: {why}." for name, why in found.left_out.items())
    count = len({row["rule"] for row in found.memory})
    return (
        f"{count} rules, judged on validation text that no scale was made from: {corpora}, the first {lengths} tokens "
        f"of each document.{left}"
    )


def documents_text(n: int) -> str:
    """Return a count of documents."""
    return "1 document" if n == 1 else f"{n} documents"


def interval_text(row: dict[str, Any], name: str) -> str:
    """Return a value with its interval in brackets, where it has one.

    >>> interval_text({"harm": 0.125, "harm_ci_low": -0.25, "harm_ci_high": 0.5}, "harm")
    '+0.125 [−0.250, +0.500]'
    """
    low, high = row[f"{name}_ci_low"], row[f"{name}_ci_high"]
    return signed(row[name]) + ("" if low is None or high is None else f" [{signed(low)}, {signed(high)}]")


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
        "token inside the training length on every corpus, by the mean over documents; of those the one with the "
        "least worst harm, over all corpora and lengths, is the choice. Intervals over documents do not move this "
        "choice: they say how sure it is."
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
        but = f" {names[0]} rests on measured writes, which the default does without." if needs else ""
        verdict = f"The default, {DEFAULT}, is not the first of these: {names[0]} has {abs(behind):.4f} bits less.{but}"
    else:
        verdict = f"The default does not meet the criterion here: {_why_not(choice.row(DEFAULT))}."
    ahead = names[: names.index(DEFAULT)] if DEFAULT in names else names[:1]  # of a default that fails, the choice
    apart = [
        apart_words(choice.row(name), models) for name in ahead[:NAMED] if "against_default_worst" in choice.row(name)
    ]
    better = [_why_not(choice.row(name)) for name in choice.better_but() if name != DEFAULT][:NAMED]
    others = [f"Less worst harm, but not eligible: {'; '.join(better)}."] if better else []
    return [criterion, told, verdict, *apart, *others]


def apart_words(row: dict[str, Any], models: int = 1) -> str:
    """Say whether a rule is told apart from the default by the paired intervals, and in whose favour.

    Args:
        row: the rule's, of a choice.
        models: how many the choice is over.

    Returns:
        A sentence.
    """
    rule, cells, better, worse = (row[name] for name in ("rule", "cells", "cells_better", "cells_worse"))
    a_cell = "a corpus at a length" if models == 1 else "a model on a corpus at a length"
    if better or worse:
        told = (
            f"is told apart from the default in {better + worse} of {cells} cells ({a_cell}), {better} in its own "
            f"favour and {worse} in the default's"
        )
    else:
        told = f"is told apart from the default in none of {cells} cells ({a_cell})"
    return (
        f"Document by document, {rule} {told}; the difference is {interval_text(row, 'against_default_there')} bits "
        f"where the default leaves most harm, and {interval_text(row, 'against_default_worst')} where it speaks most "
        f"against {rule}."
    )


def few_words(tables: Sequence[RuleTable]) -> str:
    """Say how much intervals from so few documents are worth."""
    counts = sorted({n for table in tables for n in table.documents().values()})
    many = documents_text(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]} documents"
    if counts[0] < FEWEST:
        return (
            f"Cells have {many}: such intervals are wide and rest on differences being normal, cells of one corpus "
            "share their documents, and one cell in twenty is told apart by chance; not told apart is not the same."
        )
    return (
        f"Cells have {many}; cells of one corpus share their documents, and one cell in twenty is told apart by chance."
    )


def worst_words(found: RuleTable) -> list[str]:
    """Say where the default leaves most harm and loses most inside T, and how sure that is."""
    of_default = [row for row in found.texts if row["rule"] == DEFAULT]
    if not of_default:
        return []
    worst = worst_cell(of_default, "harm")
    trained = [row for row in found.texts if row["rule"] == "none" and _cell(row) == _cell(worst)]
    beside = "".join(f"; as trained it is {signed(row['harm'])} there" for row in trained)
    words = [f"The default leaves most harm on {_place(worst)}: {_sure(worst, 'harm')}{beside}."]
    inside = worst_cell(of_default, "inside")
    loses = "loses most" if inside["inside"] > 0 else "loses on no corpus; it gains least"
    place = _scales_place(inside, of_default)
    return [*words, f"Inside the training length it {loses} on {place}: {_inside_told(inside)}."]


def _inside_told(row: dict[str, Any]) -> str:
    side = "more than" if row["inside"] > LOST_INSIDE_BITS else "within"
    sure = "and the interval settles that" if inside_settled([row]) else "but the interval does not settle that"
    return f"{_sure(row, 'inside')}, {side} the {LOST_INSIDE_BITS:g} that a default may lose, {sure}"


def _sure(row: dict[str, Any], name: str) -> str:
    """Return a value with the words for its interval."""
    low, high = row[f"{name}_ci_low"], row[f"{name}_ci_high"]
    sure = "no interval" if low is None or high is None else f"95 % interval {signed(low)} to {signed(high)}"
    return f"{signed(row[name])} bits ({sure}, {documents_text(row['documents'])})"


def _place(row: dict[str, Any]) -> str:
    return f"{row['corpus']} at {tokens_text(row['length'])} tokens"


def _scales_place(row: dict[str, Any], of_rule: Rows) -> str:
    """Return a row's corpus, and the length that scales are for where that makes a difference inside T."""
    lost = {other["inside"] for other in of_rule if other["corpus"] == row["corpus"]}
    scales = f" with the scales for {tokens_text(row['length'])} tokens" if len(lost) > 1 else ""
    return f"{row['corpus']}{scales}"


def _cell(row: dict[str, Any]) -> tuple[str, int]:
    return row["corpus"], row["length"]


def _worst(choice: RuleChoice, rule: str) -> str:
    row = choice.row(rule)
    unsure = "" if row["inside_settled"] else ", loss inside not settled"
    return f"{signed(row['harm_worst'])}{unsure}"


def _why_not(row: dict[str, Any]) -> str:
    reasons = ["cannot be baked"] if row["bakes"] == "no" else []
    if row["inside_worst"] > LOST_INSIDE_BITS:
        settled = "" if row["inside_settled"] else ", not settled"
        reasons.append(f"loses {interval_text(row, 'inside_worst')} inside{settled}")
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
