"""The report in short: five questions that every reader has, answered from the numbers of the run."""

from __future__ import annotations

import numpy as np

from mambascope.analysis.breakdown import Breakdown, breakdown
from mambascope.analysis.forecast import HARM_BITS
from mambascope.analysis.proposal import growth_to_act
from mambascope.analysis.rule_table import DEFAULT
from mambascope.analysis.study import Study
from mambascope.analysis.theory import Theory

from .claim_words import in_plain_words
from .lengths import tokens_text
from .markup import definitions, escape, paragraph
from .rules import passage_gap
from .scales import factors_of
from .verdict import TOLERANCE_BITS, breaks_down, harm_text, judge, measured_harm, signed

NAMED = 4
"""Heads or channels that are named; the report's tables have all."""

Answers = list[tuple[str, str]]
Listed = list[tuple[str, list[str]]]

LEVEL = (
    "A decay lambda is the share of a state that a token leaves; the level of a state is its mean square, over that of "
    "one token's write, when it has stopped growing. A claim fails where derivation and simulation both reject what is "
    "printed. Formulas and evidence are in the part on theory."
)
"""What the words in the list of claims mean."""


def answers(study: Study) -> Answers:
    """Answer where a model breaks, why, which heads, and what the scales change and give up.

    Args:
        study: a finished study.

    Returns:
        Questions with their answers, in plain text.
    """
    found = breakdown(study.proposal.diagnosis) if study.proposal.diagnosis.writes is not None else None
    broken = breaks_down(study.row("none", study.target_length))
    pairs = [("Where does it break?", _where(study)), ("Why?" if broken else "Why not?", _why(study))]
    if found is not None:
        pairs.append((f"Which {found.unit}s?", _which(found) + _without_memory(found)))
    return [*pairs, ("What do the scales change?", _change(study)), ("What do they give up?", _give_up(study))]


def card(study: Study, anchor: str) -> str:
    """Return a model's answers as a part of the page."""
    head = f'<h3><a href="#{escape(anchor)}">{escape(study.name)}</a>: {escape(judge(study).word)}</h3>'
    return f'<section class="short">{head}{definitions(answers(study))}</section>'


def claims_card(theory: Theory, anchor: str) -> str:
    """Return what became of the paper's claims as a part of the page."""
    head = f'<h3><a href="#{escape(anchor)}">The paper\'s claims</a></h3>'
    return f'<section class="short">{head}{paragraph(LEVEL)}{definitions(claim_answers(theory))}</section>'


def claim_answers(theory: Theory) -> Listed:
    """List the claims that fail as printed, that hold in part, and that hold, each with what is wrong or what it is on.

    Args:
        theory: with verdicts.

    Returns:
        A word and its claims.
    """
    found = theory.verification
    pairs = []
    for word in ("fails", "holds in part", "holds", "not settled"):
        pairs_of = zip(found.claims, found.verdicts, strict=True)
        lines = [f"{in_plain_words(claim, verdict)}." for claim, verdict in pairs_of if verdict.printed == word]
        if lines:
            pairs.append((f"{word[:1].upper()}{word[1:]} as printed: {len(lines)}", lines))
    return pairs


def _where(study: Study) -> str:
    L, T = study.target_length, study.train_length
    none = study.row("none", L)
    at_target = f"At {L:,} tokens ({L / T:g} times training) it costs {harm_text(none)} bits per token"
    if not breaks_down(none):
        return f"Nowhere up to {L:,} tokens, {L / T:g} times its training length: harm there is {harm_text(none)} bits."
    onset = study.forecast.onset() if study.forecast else None
    if onset is not None:
        first = f"From about {onset:,.0f} tokens on, {onset / T:.1f} times its training length of {T:,}"
    else:
        lengths = sorted({row.length for row in study.rows})
        over = next(n for n in lengths if measured_harm(study.row("none", n)) > TOLERANCE_BITS)
        first = f"By {over:,} tokens, {over / T:g} times its training length of {T:,}"
    return f"{first} (harm above {HARM_BITS:g} bits). {at_target}."


def _why(study: Study) -> str:
    found, T = study.proposal.diagnosis, study.train_length
    tau = np.concatenate([values.ravel() for values in found.spectrum.horizons_tokens()])
    share, growth = float((tau > T).mean()), found.growth()
    worst = int(growth.argmax())
    at = f"by {study.target_length:,} tokens of calibration text"
    grown = f"{at} the state of layer {worst} has grown {_times(growth[worst])}"
    if not share:
        return (
            f"None of its modes remembers more than {T:,} tokens: all were full at the end of training texts; {at} no "
            f"layer's state has grown more than {growth.max():.2f} times."
        )
    still = f"{share:.0%} of its modes remember more than the {T:,} tokens of training"
    if not breaks_down(study.row("none", study.target_length)):
        enough = growth_to_act(study.train_length, study.target_length)
        bears = "which stays in range" if growth.max() < enough else "which the layers after it bear"
        return f"{still}, but {grown}, {bears}."
    return (
        f"{still} (the longest {tau.max():,.0f}). They are still filling when a training text ends and go on filling "
        f"after it: {grown}, to sizes that the layers after it never saw."
    )


def _which(found: Breakdown) -> str:
    growth, enough = found.growth(), growth_to_act(found.train_length, found.target_length)
    out = growth >= enough
    if not out.any():
        most = f"no {found.unit}'s state grows {enough:.3g} times, the most is {growth.max():.2f}"
        return f"None of {growth.size:,}: {most}."
    order = np.argsort(growth, axis=None)[::-1][: min(NAMED, int(out.sum()))]
    named = [np.unravel_index(k, growth.shape) for k in order]
    told = ", ".join(
        f"layer {layer} {found.unit} {unit} ({_times(float(growth[layer, unit]))})" for layer, unit in named
    )
    layers = ", ".join(f"{int(of.sum()):,} in layer {layer}" for layer, of in enumerate(out) if of.any())
    return (
        f"{int(out.sum()):,} of {growth.size:,} grow {enough:.3g} times or more from {found.train_length:,} to "
        f"{found.target_length:,} tokens ({layers}); most: {told}."
    )


def _without_memory(found: Breakdown) -> str:
    """Say why heads may grow in a model none of whose modes outlives training."""
    enough = growth_to_act(found.train_length, found.target_length)
    layers, _ = found.layer_growth()
    if found.horizon_tokens.max() > found.train_length or layers.max() >= enough or found.growth().max() < enough:
        return ""
    return (
        f" As none of them remembers more than {found.train_length:,} tokens, this is not memory that piles up: "
        f"more is written at those places of the texts. No layer as a whole grows {enough:.3g} times."
    )


def _times(growth: float) -> str:
    return f"{growth:.0f} times" if growth >= 10 else f"{growth:.1f} times"


def _change(study: Study) -> str:
    if not study.proposal.acts:
        return f"Nothing: no scales were proposed. {study.proposal.reason[:1].upper()}{study.proposal.reason[1:]}."
    factors, L = factors_of(study), study.target_length
    ours = study.row("spectrum", L)
    after = max(row["horizon_max_after_tokens"] for row in study.proposal.rows())
    words = (
        f"|A| is multiplied by {factors.min():.3g} to {factors.max():,.4g} (median {np.median(factors):.3g}), so that "
        f"every mode fades to 1/e within {after:,.0f} tokens. Harm at {tokens_text(L)} goes from "
        f"{signed(measured_harm(study.row('none', L)))} to {harm_text(ours)} bits"
    )
    if study.refined is not None:
        words += f"; refined on text it is {harm_text(study.row('calibrated', L))}"
    constant = study.row("constant", L)
    words += (
        f". The best of {len(study.constants)} constants on A ({study.best_constant:g}) leaves {harm_text(constant)}."
    )
    return words + _elsewhere(study)


def _elsewhere(study: Study) -> str:
    """Name the corpora on which harm remains, where other corpora were read."""
    if study.rules is None:
        return ""
    length = study.rules.lengths[-1]
    rows = {(row["rule"], row["corpus"]): row["harm"] for row in study.rules.texts if row["length"] == length}
    left = [corpus for rule, corpus in rows if rule == DEFAULT and rows[rule, corpus] > TOLERANCE_BITS]
    told = [
        f"on {corpus} {signed(rows[DEFAULT, corpus])} bits remain"
        + (f" of {signed(rows['none', corpus])}" if ("none", corpus) in rows else "")
        for corpus in left
    ]
    return f" Not everywhere: {'; '.join(told)} (validation text, {tokens_text(length)} tokens)." if told else ""


def _give_up(study: Study) -> str:
    if not study.proposal.acts:
        return "Nothing."
    T = study.train_length
    change = study.proposal.memory()
    inside = float((study.bits["spectrum"] - study.bits["none"])[:, : T - 1].mean())
    return (
        f"Memory: of a state's energy {change.energy_before.mean():.0%} is older than {T:,} tokens unscaled, "
        f"{change.energy_after.mean():.0%} with the scales (mean over modes).{_within(study)} On test text the first "
        f"{T:,} tokens cost {signed(inside)} bits per token against the unscaled model."
    )


def _within(study: Study) -> str:
    """Say what becomes of memory within the training length, where repeated passages were read."""
    table = study.rules
    gap = passage_gap(table) if table else None
    if table is None or gap is None or gap > table.train_length:
        return ""
    rows = {row["rule"]: row for row in table.summary(table.lengths[-1])}
    saved, error = f"saved_at_{gap}", f"saved_at_{gap}_se"
    before, after = rows.get("none"), rows.get(DEFAULT)
    if not before or not after or before[saved] < 2 * before[error]:
        return ""
    return (
        f" Within the training length: a passage read again after {gap:,} tokens is cheaper by {before[saved]:.4f} "
        f"bits a token unscaled, by {after[saved]:.4f} with them."
    )
