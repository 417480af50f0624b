"""One model's part of the report, in order: what it is, its spectrum, breakdown, forecast, scales, before and after."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mambascope.analysis.recipe import read_recipe
from mambascope.analysis.rules import find_rule
from mambascope.analysis.study import Study
from mambascope.spectra.checkpoint import bundled_models

from .breakdown_section import breakdown_words
from .calibration_section import calibration_section
from .forecast_section import forecast_section
from .gallery import Drawing
from .head_map import head_map
from .markup import Cell, Number, escape, facts, figure, paragraph, paragraphs, table
from .next_steps import next_steps
from .rules_section import rules_section
from .spectrum import mode_word
from .style import METHODS, method_style
from .verdict import constants_words, harm_text, judge, measured_harm

ARCHITECTURES = {"mamba": "Mamba-1", "mamba2": "Mamba-2"}


def model_section(study: Study, drawn: Mapping[str, Drawing], anchor: str, slug: str) -> str:
    """Return a model's section.

    Args:
        study: a finished study.
        drawn: its drawings by key.
        anchor: id of the section in the page.
        slug: the model's name as part of a file name.

    Returns:
        HTML.
    """
    parts = [
        f'<section id="{escape(anchor)}"><h2>{escape(study.name)}</h2>',
        f'<p class="verdict">{escape(judge(study).word)}</p>',
        paragraphs(judge(study).sentences),
        _what_it_is(study),
        _spectrum(study, drawn),
        _beyond(study, drawn),
        "<h3>Layer by layer, head by head</h3>" + head_map(study, anchor),
        forecast_section(study, drawn),
        _proposal(study, drawn),
        rules_section(study, drawn),
        calibration_section(study, drawn),
        _before_after(study, drawn),
        next_steps(study, slug),
        "</section>",
    ]
    return "\n".join(parts)


def _what_it_is(study: Study) -> str:
    spectrum = study.proposal.diagnosis.spectrum
    row = study.row("none", study.target_length)
    return "<h3>The model</h3>" + facts([
        ("architecture", ARCHITECTURES.get(study.arch, study.arch)),
        ("weights", f"{study.parameters:,}"),
        ("layers", f"{spectrum.n_layer}"),
        ("modes", f"{spectrum.rates[0].size:,} a layer, one a {mode_word(study.arch)}"),
        ("training length T", f"{study.train_length:,} tokens"),
        ("target length L", f"{study.target_length:,} tokens, {study.target_length / study.train_length:g} T"),
        *_how_it_came(study),
        ("test text", f"{row.documents} documents of {study.target_length:,} tokens, {row.tokens:,} tokens scored"),
    ])


def _how_it_came(study: Study) -> list[tuple[str, str]]:
    """Return what is known of a bundled model's training."""
    if study.argument not in bundled_models():
        return []
    return [("a token is", "one byte of text"), ("made", read_recipe(study.argument).why)]


def _spectrum(study: Study, drawn: Mapping[str, Drawing]) -> str:
    found = study.proposal.diagnosis.spectrum
    tau = np.concatenate([values.ravel() for values in found.horizons_tokens()])
    static, effective = (float(np.median(np.stack(found.eigenvalues(w)))) for w in ("static", "effective"))
    words = (
        f"Over a step of size 1 half of the modes would keep more than {static:.4f} of their state; over a token of "
        f"text, with its real step, half of them keep more than {effective:.6f}. "
        f"{(tau > study.train_length).mean():.1%} of all modes remember more than the {study.train_length:,} tokens "
        f"of training, {(tau > study.target_length).mean():.1%} more than {study.target_length:,}; the longest "
        f"horizon is {tau.max():,.0f} tokens, the median {np.median(tau):,.0f}."
    )
    return "<h3>Its spectrum</h3>" + paragraph(words) + figure(drawn["spectrum"])


def _beyond(study: Study, drawn: Mapping[str, Drawing]) -> str:
    diagnosis = study.proposal.diagnosis
    growth = diagnosis.growth()
    none = study.row("none", study.target_length)
    start = study.row("none", study.train_length)
    words = (
        f"On calibration text the state of layer {int(growth.argmax())} grows {growth.max():.2f} times from "
        f"{study.train_length:,} to {study.target_length:,} tokens, the most of all layers, and that of layer "
        f"{int(growth.argmin())} {growth.min():.2f} times, the least. On test text the unscaled perplexity is "
        f"{start.perplexity:,.4g} over the first {study.train_length:,} tokens and {none.perplexity:,.4g} over "
        f"{study.target_length:,}."
    )
    shown = "".join(figure(drawn[key]) for key in ("norms", "vector-norms", "curves"))
    return "<h3>Beyond the training length</h3>" + breakdown_words(study) + paragraph(words) + shown


def _tokens(value: float) -> Number:
    return Number(value, f"{value:,.0f}" if value >= 100 else f"{value:.3g}")


def _proposal(study: Study, drawn: Mapping[str, Drawing]) -> str:
    proposal = study.proposal
    reason = f"{proposal.reason[:1].upper()}{proposal.reason[1:]}."
    if not proposal.acts:
        return (
            "<h3>What was proposed</h3>"
            + paragraph(f"Nothing. {reason} So no rules were compared and no scales were refined on text.")
            + figure(drawn["horizons"])
            + _layers(study)
        )
    before = max(row["horizon_max_before_tokens"] for row in proposal.rows())
    after = max(row["horizon_max_after_tokens"] for row in proposal.rows())
    measured = max(float(tau.max()) for tau in study.scaled_spectrum.horizons_tokens())
    cost = (
        f"What it costs: the longest memory shrinks from {before:,.0f} to {after:,.0f} tokens by the rule "
        f"({measured:,.0f} as measured with the scales in place); what lies much further back has faded."
    )
    shown = "".join(figure(drawn[key]) for key in ("scales", "horizons"))
    rule = f"Rule: {proposal.rule} ({find_rule(proposal.rule).description}). {reason}"
    rule += " No loss was evaluated and nothing was trained."
    return "<h3>What was proposed, and why</h3>" + paragraph(rule) + shown + paragraph(cost) + _layers(study)


def _layers(study: Study) -> str:
    columns = ["layer", "modes beyond T (%)", "tau median (tokens)", "tau max (tokens)", "tau max, scaled (tokens)"]
    columns += ["state growth T to L (times)", "factor median (times)", "factor max (times)"]
    rows = []
    for found, proposed in zip(study.proposal.diagnosis.rows(), study.proposal.rows(), strict=True):
        share, growth = found["share_horizon_beyond_training"], found["state_growth_measured"]
        factors = [proposed["factor_median"], proposed["factor_max"]]
        rows.append([
            Number(found["layer"], str(found["layer"])),
            Number(100 * share, f"{100 * share:.1f}"),
            _tokens(found["horizon_median_tokens"]),
            _tokens(found["horizon_max_tokens"]),
            _tokens(proposed["horizon_max_after_tokens"]),
            Number(growth, f"{growth:.2f}"),
            *(Number(s, f"{s:,.4g}" if s < 1000 else f"{s:,.0f}") for s in factors),
        ])
    caption = "Layers: horizons tau, growth of the state on calibration text, factors (click a heading to sort)"
    return table(caption, columns, rows, sortable=True)


def _before_after(study: Study, drawn: Mapping[str, Drawing]) -> str:
    length = study.target_length
    names = {method: method_style(method).label for method in study.bits}
    names["constant"] = f"{METHODS['constant'].label} ({study.best_constant:g})"
    if not study.proposal.acts:
        names["spectrum"] += " (left alone: as without scaling)"
    rows: list[list[Cell]] = []
    for method, name in names.items():
        row = study.row(method, length)
        harm = Number(measured_harm(row), "0 by definition" if method == "fresh-window" else harm_text(row))
        bits = (row.tail_bits_per_token, row.bits_per_token)
        rows.append([
            name,
            *("" if b is None else Number(b, f"{b:.4f}") for b in bits),
            "beyond 2^1024" if row.perplexity is None else Number(row.perplexity, f"{row.perplexity:,.5g}"),
            harm,
        ])
    columns = ["method", "tail bits per token", "bits per token", "perplexity", "harm (bits) [95 % interval]"]
    others = [method for method in names if method != "fresh-window"]
    lengths = sorted({row.length for row in study.rows})
    by_length: list[list[Cell]] = [
        [
            Number(n, f"{n:,}"),
            *(Number(measured_harm(row), harm_text(row)) for row in (study.row(method, n) for method in others)),
        ]
        for n in lengths
    ]
    heads = ["length (tokens)", *(names[method] for method in others)]
    return "".join([
        "<h3>Before and after</h3>",
        table(f"Test text, {length:,} tokens of each document", columns, rows),
        figure(drawn["tail"]),
        table("Harm by length: bits more than the control [95 % interval]", heads, by_length),
        paragraph(constants_words(study)),
        figure(drawn["constants"]),
    ])


def summary_row(study: Study) -> list[Cell]:
    """Return a model's row of the summary across models."""
    length = study.target_length
    none, ours, constant = (study.row(method, length) for method in ("none", "spectrum", "constant"))
    edge = " (largest tried)" if study.best_constant == max(study.constants) and len(study.constants) > 1 else ""
    left = "left alone" if not study.proposal.acts else harm_text(ours)
    return [
        study.name,
        judge(study).word,
        f"{study.train_length:,}, {length:,}",
        Number(measured_harm(none), harm_text(none)),
        Number(measured_harm(ours), left),
        _calibrated_cell(study),
        f"{study.best_constant:g}{edge}",
        Number(measured_harm(constant), harm_text(constant)),
    ]


def _calibrated_cell(study: Study) -> Cell:
    if study.refined is None:
        return "" if study.proposal.acts else "left alone"
    row = study.row("calibrated", study.target_length)
    return Number(measured_harm(row), harm_text(row))
