"""The report's part on calibrated scales: what text gained over the spectrum's proposal, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping

from mambascope.analysis.evaluate.perplexity import PerplexityRow
from mambascope.analysis.study import Study
from mambascope.analysis.study_calibration import Refined

from .gallery import Drawing
from .lengths import tokens_text
from .markup import figure, paragraph, paragraphs
from .verdict import signed

NO_WORSE_BITS = 0.002
"""Bits per token that calibrated scales may lose against their start and still count as no worse. Ours."""


def calibration_section(study: Study, drawn: Mapping[str, Drawing]) -> str:
    """Return the section of one model.

    Args:
        study: a finished study.
        drawn: its drawings by key.

    Returns:
        HTML; empty if scales were not refined.
    """
    refined = study.refined
    if refined is None:
        return ""
    return "".join([
        "<h3>The proposal refined on text</h3>",
        paragraphs([how_it_went(study, refined), gain_words(study, refined)]),
        figure(drawn["calibration"]),
        paragraph(f"What it gives up: {refined.memory.sentence()}; {_beside_the_start(study)}."),
    ])


def how_it_went(study: Study, refined: Refined) -> str:
    """Say what was done and what the selection text says of it."""
    found = refined.found
    plan, step = found.plan, found.step
    unit = "head" if study.arch == "mamba2" else "channel"
    kept = "the start itself was kept" if step == 0 else f"step {step} of {plan.steps} was kept"
    return (
        f"From the spectrum-guided scales on, {plan.method} moved one factor on A for every {unit} "
        f"in {plan.steps} steps over {plan.batch} windows of {plan.target_length:,} tokens of calibration text, at "
        f"the cost of {found.passes:,.0f} forward passes over such a window; {kept}, as validation text chose. There "
        f"it has {signed(found.bits.tail - found.start_bits.tail)} tail bits per token against the start, and "
        f"{signed(found.bits.inside - found.start_bits.inside)} inside the training length."
    )


def gain_words(study: Study, refined: Refined) -> str:
    """Say what was gained on test text, in paired intervals at the window's length and at L."""
    shown = sorted({_nearest(study, refined.found.plan.target_length), study.target_length})
    told = "; ".join(f"at {tokens_text(n)} tokens {difference_text(refined.gain(n))}" for n in shown)
    return f"On test text, tail bits less those of the start, by document: {told}. {_judged(refined.gain(shown[-1]))}"


def _nearest(study: Study, length: int) -> int:
    return min(sorted({row.length for row in study.rows}), key=lambda n: abs(n - length))


def difference_text(row: PerplexityRow) -> str:
    """Return a paired difference with its 95 % interval, where it has one."""
    assert row.harm is not None
    if row.harm_ci_low is None or row.harm_ci_high is None:
        return f"{signed(row.harm)} (one document: no interval)"
    return f"{signed(row.harm)} [{signed(row.harm_ci_low)}, {signed(row.harm_ci_high)}]"


def _judged(row: PerplexityRow) -> str:
    low, high = row.harm_ci_low, row.harm_ci_high
    assert row.harm is not None
    if low is None or high is None:
        return "One document decides nothing."
    if high < 0:
        return "Calibration gained: the whole interval lies below zero."
    if low > 0:
        return "Calibration lost: the whole interval lies above zero; use the scales as proposed."
    if high <= NO_WORSE_BITS:
        return f"The interval holds zero: no difference can be told; at most {NO_WORSE_BITS:g} bits may have been lost."
    return "The interval holds zero: no difference can be told."


def _beside_the_start(study: Study) -> str:
    change = study.proposal.memory()
    return f"as proposed, {change.energy_after.mean():.1%} of the energy stays"
