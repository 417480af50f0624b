"""What the numbers of a study say, in words. Every word is computed from them; none is written down beforehand."""

from __future__ import annotations

from dataclasses import dataclass

from mambascope.analysis.evaluate.perplexity import PerplexityRow
from mambascope.analysis.forecast import HARM_BITS
from mambascope.analysis.study import Study

from .lengths import tokens_text

TOLERANCE_BITS = HARM_BITS
"""Harm up to here counts as none, measured or foretold."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a model."""

    word: str
    """In a few words, for a table."""
    sentences: tuple[str, ...]
    """With the numbers behind them."""


def signed(value: float) -> str:
    """Return a difference in bits with its sign and as many digits as mean something.

    >>> signed(12.0643), signed(0.4761), signed(-0.00024)
    ('+12.06', '+0.476', '−0.0002')
    """
    digits = 4 if abs(value) < 0.1 else 3 if abs(value) < 1 else 2
    text = f"{value:+.{digits}f}"
    return f"{0:.{digits}f}" if not text.strip("+-0.") else text.replace("-", "\N{MINUS SIGN}")


def harm_text(row: PerplexityRow) -> str:
    """Return a row's harm with its 95 % interval, where it has one."""
    if row.harm is None:
        return "not measured"
    if row.harm_ci_low is None or row.harm_ci_high is None:
        return f"{signed(row.harm)} [one document: no interval]"
    return f"{signed(row.harm)} [{signed(row.harm_ci_low)}, {signed(row.harm_ci_high)}]"


def measured_harm(row: PerplexityRow) -> float:
    """Return a row's harm.

    Args:
        row: of a study, which always runs the control.

    Returns:
        Bits.

    Raises:
        ValueError: the control was not run.
    """
    if row.harm is None:
        raise ValueError(f"the row of {row.method!r} at {row.length} has no harm: the fresh-window control was not run")
    return row.harm


def breaks_down(row: PerplexityRow) -> bool:
    """Return whether a row's harm is more than we tolerate, and more than chance where chance can be told."""
    return measured_harm(row) > TOLERANCE_BITS and (row.harm_ci_low is None or row.harm_ci_low > 0)


def judge(study: Study) -> Verdict:
    """Say what became of a model.

    Args:
        study: a finished study.

    Returns:
        A few words, and sentences with their numbers.
    """
    length = study.target_length
    none, ours = study.row("none", length), study.row("spectrum", length)
    broken, acts = breaks_down(none), study.proposal.acts
    before, after = measured_harm(none), measured_harm(ours)
    at = f"At {tokens_text(length)} tokens ({length / study.train_length:g} times its training length)"
    unscaled = f"{at} the unscaled model costs {harm_text(none)} bits per token more than the fresh-window control"
    if before < 0 and none.harm_ci_high is not None and none.harm_ci_high < 0:
        unscaled += ": it gains from reading further than it was trained to"
    if not acts:
        word = "breaks down, left alone" if broken else "left alone"
        then = (
            "Its states stay in the range that training showed, so no scales were proposed; it breaks down otherwise."
            if broken
            else "It does not break down and its states stay in range: it is left as it is."
        )
        return Verdict(word, (f"{unscaled}.", then))
    scaled = f"With the spectrum-guided scales it is {harm_text(ours)}"
    if broken:
        gone = 1 - after / before
        if after <= TOLERANCE_BITS:
            word = "breaks down, mended"
        elif gone >= 0.5:
            word = "breaks down, partly mended"
        else:
            word = "breaks down, not mended"
        gain = _gain(gone)
    else:
        worse = after > before + TOLERANCE_BITS
        word = "does not break down, harmed by the scales" if worse else "does not break down"
        gain = ": leave it as it is" if worse else ": there was little to mend"
    return Verdict(word, (f"{unscaled}.", f"{scaled}{gain}.", _against_constant(study)))


def _gain(gone: float) -> str:
    """Say what share of the harm is gone; 99.96 % is not told as 100.0 %."""
    if gone >= 1:
        return " (all of the harm is gone)"
    if gone > 0.999:
        return " (over 99.9% of the harm is gone)"
    return f" ({gone:.1%} of the harm is gone)" if gone > 0 else " (nothing is gained)"


def _against_constant(study: Study) -> str:
    constant, ours = (study.row(method, study.target_length) for method in ("constant", "spectrum"))
    less = measured_harm(ours) < measured_harm(constant)
    words = (
        f"The best constant on A ({study.best_constant:g}) leaves {harm_text(constant)}, "
        f"{'more' if less else 'no more'} than the spectrum-guided scales"
    )
    ends = (constant.harm_ci_low, constant.harm_ci_high, ours.harm_ci_low, ours.harm_ci_high)
    low, high, our_low, our_high = ends
    if low is None or high is None or our_low is None or our_high is None:
        return words + "."
    apart = low > our_high or our_low > high
    return f"{words}; the intervals {'do not overlap' if apart else 'overlap'}."


def constants_words(study: Study) -> str:
    """Say which constant won, and that a larger one may win where it is the last of the grid."""
    tried, best = sorted(study.constants), study.best_constant
    words = (
        f"Of the constant factors {', '.join(f'{s:g}' for s in tried)} on A, {best:g} has the fewest validation bits "
        f"({study.constants[best]:.4f} tail bits per token)"
    )
    if best == tried[-1] and len(tried) > 1:
        words += f". It is the largest of the grid tried: a constant above {best:g} may do better still"
    return words + ". mambascope compare tries constants on A_log and dt, too: a power of |A| may do better."
