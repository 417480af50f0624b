"""The report's part on the forecast: what windows of the training length said, and how well that came out."""

from __future__ import annotations

from collections.abc import Mapping

from mambascope.analysis.evaluate.perplexity import PerplexityRow
from mambascope.analysis.forecast import HARM_BITS
from mambascope.analysis.forecast_check import Checked
from mambascope.analysis.study import Study

from .gallery import Drawing
from .markup import Cell, Number, figure, folded, paragraph, table
from .verdict import harm_text, measured_harm, signed


def forecast_section(study: Study, drawn: Mapping[str, Drawing]) -> str:
    """Return the section of one model.

    Args:
        study: a finished study.
        drawn: its drawings by key.

    Returns:
        HTML; empty if nothing was foretold.
    """
    if study.forecast is None:
        return ""
    found = study.forecast
    windows, T = len(found.forecast.harm_by_age), study.train_length
    before = (
        f"Foretold from {windows} windows of {T:,} tokens of calibration text, before any test text was scored. "
        f"Theory tells what the states would be after more text, and the same windows are scored from such states. "
        f"{found.forecast.sentence()}"
    )
    return "".join([
        "<h3>Could it have been known?</h3>",
        paragraph(before),
        paragraph(f"{measured_words(found)} {judged_words(found)}"),
        figure(drawn["forecast"]),
        _by_length(found),
    ])


def measured_words(found: Checked) -> str:
    """Say what came, on which texts."""
    onset, T = found.onset(), found.forecast.train_length
    last = found.measured[-1]
    texts = "1 test document" if last.documents == 1 else f"{last.documents} test documents"
    passed = f"stays below {HARM_BITS:g} bits" if onset is None else f"passes {HARM_BITS:g} bits at {_at(onset, T)}"
    return f"On {texts}, each read once from its start, harm {passed} and is {harm_text(last)} at {last.length:,}."


def judged_words(found: Checked) -> str:
    """Say how well the forecast came out: whether, from where on, how much."""
    said, came = found.forecast.onset(), found.onset()
    if came is None:
        whether = "Foreseen: no harm up to L." if said is None else "A false alarm: none came up to L."
    elif said is None:
        whether = "Not foreseen: the forecast missed this breakdown."
    else:
        whether = (
            f"Foreseen; the first length with harm was put {_off(said, came)}, where a plain guess of 2 T would have "
            f"been {_off(2 * found.forecast.train_length, came)}."
        )
    return f"{whether} {_size_words(found)}"


def _at(length: float, train_length: int) -> str:
    return f"about {length:,.0f} tokens ({length / train_length:.1f} T)"


def _off(said: float, came: float) -> str:
    return f"a factor of {max(said / came, came / said):.2f} too {'late' if said > came else 'early'}"


def _size_words(found: Checked) -> str:
    """Say how far the size at L is off, and at how many lengths the forecast lies within the measured interval."""
    last = found.measured[-1]
    told, came = found.forecast.harm(last.length), measured_harm(last)
    words = f"At L the foretold {signed(told)}"
    if came > HARM_BITS:
        words += f" is {abs(told / came - 1):.0%} too {'much' if told > came else 'little'} and"
    gaps = [gap for row in found.measured[1:] if (gap := _outside(found, row)) is not None]
    if not gaps:
        return f"{words} cannot be held against an interval: there is one document."
    there = f"{signed(gaps[-1])[1:]} bits outside" if gaps[-1] else "inside"
    inside = f"it lies inside at {gaps.count(0)} of {len(gaps)} lengths beyond T"
    return f"{words} lies {there} the measured 95 % interval; {inside}."


def _outside(found: Checked, row: PerplexityRow) -> float | None:
    """Return how far the forecast lies outside the measured interval, in bits; None where there is none."""
    if row.harm_ci_low is None or row.harm_ci_high is None:
        return None
    told = found.forecast.harm(row.length)
    return max(row.harm_ci_low - told, told - row.harm_ci_high, 0.0)


def _by_length(found: Checked) -> str:
    rows: list[list[Cell]] = []
    for row in found.measured[1:]:
        told, error = found.forecast.harm(row.length), found.forecast.error(row.length)
        rows.append([
            Number(row.length, f"{row.length:,}"),
            Number(told, f"{signed(told)} \N{PLUS-MINUS SIGN} {2 * error:.2g}"),
            Number(measured_harm(row), harm_text(row)),
        ])
    columns = ["length (tokens)", "foretold (\N{PLUS-MINUS SIGN} 2 s.e.)", "measured [95 % interval]"]
    shown = table("Harm in bits per token by length", columns, rows)
    return folded("Foretold and measured harm by length", shown)
