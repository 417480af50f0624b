"""All figures of a study with captions and texts for those who cannot see them, both computed from the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mambascope.analysis.calibration.plan import GRADIENT_PASSES
from mambascope.analysis.forecast import HARM_BITS
from mambascope.analysis.forecast_check import Checked
from mambascope.analysis.goals import GOALS
from mambascope.analysis.rule_table import RuleTable
from mambascope.analysis.runs import RunFolder
from mambascope.analysis.study import Study
from mambascope.analysis.study_calibration import Refined
from mambascope.spectra.norms import StateNorms

from .calibration import calibration_figure
from .curves import curves_figure, models_figure, tail_figure
from .forecast import outcome_figure
from .horizons import horizons_figure
from .lengths import tokens_text
from .norms import norms_figure, vector_norms_figure
from .rules import rules_figure
from .scales import constants_figure, factors_of, scales_figure
from .spectrum import MOST_COLUMNS, mode_word, spectrum_figure
from .style import save, slugs
from .verdict import harm_text, signed


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure with its words."""

    key: str
    """Short name, part of the file name."""
    figure: Figure
    """What is drawn."""
    caption: str
    """How to read it."""
    alt: str
    """What it shows, in numbers."""


def drawings(study: Study) -> dict[str, Drawing]:
    """Draw all figures of a study.

    Args:
        study: a finished study.

    Returns:
        Drawings by key, in the order of the story.
    """
    made = (
        _spectrum(study),
        _horizons(study),
        _norms(study),
        _vector_norms(study),
        _curves(study),
        *([_forecast(study.forecast)] if study.forecast else []),
        _tail(study),
        _scales(study),
        _constants(study),
        *([_rules(study.rules)] if study.rules else []),
        *([_calibration(study, study.refined)] if study.refined else []),
    )
    return {drawing.key: drawing for drawing in made}


def story_drawing(studies: Sequence[Study]) -> Drawing:
    """Draw all models' breakdown, without scales and with them."""
    told = []
    for study in studies:
        none, ours = (harm_text(study.row(method, study.target_length)) for method in ("none", "spectrum"))
        scaled = f", {ours} scaled" if study.proposal.acts else ""
        told.append(f"{study.name} at {study.target_length:,} tokens {none} bits unscaled{scaled}")
    return Drawing(
        "models",
        models_figure(studies),
        "How many bits more a token costs than with the same model started fresh, by how far into the text it "
        "stands. Shaded: beyond the training length.",
        "; ".join(told) + ".",
    )


def write_figures(
    run: RunFolder, studies: Sequence[Study], drawn: Sequence[Mapping[str, Drawing]] | None = None
) -> tuple[Path, ...]:
    """Write every figure of every study as PNG and PDF.

    Args:
        run: the folder; it records the files as its own.
        studies: finished studies.
        drawn: their drawings, where they were made before.

    Returns:
        The paths.
    """
    names = slugs([study.name for study in studies])
    pairs = zip(names, drawn or [drawings(study) for study in studies], strict=True)
    return tuple(path for slug, of_study in pairs for path in write_drawings(run, slug, of_study))


def write_drawings(run: RunFolder, prefix: str, drawn: Mapping[str, Drawing]) -> tuple[Path, ...]:
    """Write drawings as ``figures/<prefix>-<key>.png`` and ``.pdf`` into a run folder; return the paths."""
    return tuple(path for drawing in drawn.values() for path in save(drawing.figure, run, f"{prefix}-{drawing.key}"))


def _spectrum(study: Study) -> Drawing:
    found = study.proposal.diagnosis.spectrum
    static, effective = (np.stack(found.eigenvalues(which)) for which in ("static", "effective"))
    modes = found.rates[0].size
    some = f" {MOST_COLUMNS} evenly spaced ranks of {modes} are shown." if modes > MOST_COLUMNS else ""
    return Drawing(
        "spectrum",
        spectrum_figure(found, study.train_length),
        f"One row a layer, its modes (one a {mode_word(study.arch)}) sorted from the largest, each panel by itself. "
        "Left: what a step of size 1 would keep. Middle: what a token of text really keeps, as the step dt is mostly "
        f"small. Right: the same as a memory in tokens; red is longer than training.{some}",
        f"Heatmaps of {found.n_layer} layers. Median static eigenvalue {np.median(static):.4f}, median effective "
        f"eigenvalue {np.median(effective):.6f}.",
    )


def _horizons(study: Study) -> Drawing:
    before = np.concatenate([tau.ravel() for tau in study.proposal.diagnosis.spectrum.horizons_tokens()])
    after = np.concatenate([tau.ravel() for tau in study.scaled_spectrum.horizons_tokens()])
    alt = f"Longest horizon {before.max():,.0f} tokens"
    alt += f" without scales, {after.max():,.0f} with them." if study.proposal.acts else "; the model is left alone."
    caption = (
        "A mode above T is still filling when the texts of training end; beyond T it goes on, to sizes never seen. "
        + ("The scales draw exactly these modes in." if study.proposal.acts else "No scales were proposed.")
    )
    return Drawing("horizons", horizons_figure(study), caption, alt)


def _both_norms(study: Study) -> tuple[StateNorms, StateNorms | None, int, int]:
    scaled = study.scaled_norms if study.proposal.acts else None
    return study.norms, scaled, study.train_length, study.target_length


def _norms(study: Study) -> Drawing:
    lengths = study.norms.lengths_tokens
    at_train, at_target = (lengths.index(n) for n in (study.train_length, study.target_length))
    growth = study.norms.rms()[at_target] / study.norms.rms()[at_train]
    scaled = study.scaled_norms.rms()[at_target] / study.scaled_norms.rms()[at_train]
    worst = int(growth.argmax())
    alt = f"From T to L the state of layer {worst} grows {growth[worst]:.1f} times unscaled, the most of all layers"
    alt += f"; with the scales it grows {scaled[worst]:.1f} times." if study.proposal.acts else "."
    return Drawing(
        "norms",
        norms_figure(*_both_norms(study)),
        "Each layer's state after so many tokens of test text, unscaled (solid)"
        + (" and with the scales (dashed)" if study.proposal.acts else "")
        + ". Dotted guides: the growth of a mode without decay under a constant input (x2 per doubling) "
        "and under noise (x1.41).",
        alt,
    )


def _vector_norms(study: Study) -> Drawing:
    last = len(study.norms.lengths_tokens) - 1
    length = tokens_text(study.norms.lengths_tokens[last])
    alt = f"At {length} tokens the largest state vector has norm {study.norms.vector_l2[last].max():.4g} unscaled"
    alt += f" and {study.scaled_norms.vector_l2[last].max():.4g} with the scales." if study.proposal.acts else "."
    return Drawing(
        "vector-norms",
        vector_norms_figure(*_both_norms(study)),
        "Largest and smallest vector norm of the layer cache with the widest range at each length, of one document, "
        "as in Table 1 of the paper; the layer may change along the curve.",
        alt,
    )


def _curves(study: Study) -> Drawing:
    documents = len(next(iter(study.bits.values())))
    band = f"Bands: one standard error over {documents} documents." if documents > 1 else "One document: no bands."
    none, ours = (study.row(method, study.target_length) for method in ("none", "spectrum"))
    alt = f"At L the unscaled model has {none.tail_bits_per_token:.3f} tail bits per token"
    alt += f", the spectrum-guided {ours.tail_bits_per_token:.3f}." if study.proposal.acts else "."
    return Drawing(
        "curves",
        curves_figure(study),
        "Above: bits of the next token, averaged over bins of position. Below: the same less the fresh-window control "
        f"on the same tokens; this axis is linear within 0.01 bits of zero and logarithmic beyond. {band}",
        alt,
    )


def _forecast(found: Checked) -> Drawing:
    last = found.measured[-1]
    return Drawing(
        "forecast",
        outcome_figure(found),
        "The line was made from calibration text, the points from test text: other documents, which may be harder or "
        f"easier. Dashed: {HARM_BITS:g} bits, from where a model counts as broken down. The axis is linear within 0.01 "
        "bits of zero and logarithmic beyond.",
        f"At {last.length:,} tokens {signed(found.forecast.harm(last.length))} bits of harm were foretold and "
        f"{harm_text(last)} measured.",
    )


def _tail(study: Study) -> Drawing:
    none = study.row("none", study.target_length)
    return Drawing(
        "tail",
        tail_figure(study),
        "Left: bits per token over the second half of each length. Right: harm, the same less the control, with paired "
        "95 % intervals over documents (same axis as above: linear near zero, logarithmic beyond).",
        f"Unscaled harm at L: {harm_text(none)} bits.",
    )


def _scales(study: Study) -> Drawing:
    factors = factors_of(study)
    words = f"from {factors.min():.4g} to {factors.max():.4g}, median {np.median(factors):.4g}"
    caption = f"How many times faster each mode forgets (rule: {study.proposal.rule})."
    if not study.proposal.acts:
        caption = "The model is left alone: every factor is 1."
    return Drawing("scales", scales_figure(study), caption, f"Factors {words}.")


def _constants(study: Study) -> Drawing:
    best = study.best_constant
    gain = study.constants[best] - study.constants[min(study.constants)]
    return Drawing(
        "constants",
        constants_figure(study),
        "The baseline: one factor for every mode of every layer, chosen on validation text.",
        f"Best of {len(study.constants)} constants is {best:g}, {signed(gain)} bits against the smallest factor.",
    )


def _rules(table: RuleTable) -> Drawing:
    rows = {row["rule"]: row for row in table.summary(table.lengths[-1])}
    told = [
        f"{goal.rule} ({goal.name}): harm {signed(row['harm_mean'])} bits, {row['energy_older']:.1%} kept"
        for goal in GOALS.values()
        if (row := rows.get(goal.rule))
    ]
    if "none" in rows:
        told.append(f"none: harm {signed(rows['none']['harm_mean'])}, {rows['none']['energy_older']:.1%}")
    right = " Right: bits that a passage saves when it is read again, with standard errors." if table.gaps else ""
    return Drawing(
        "rules",
        rules_figure(table),
        "One point a rule, on validation text; best is low and to the right. Up: harm at the longest length, mean over "
        "corpora (linear within 0.01 bits of zero, logarithmic beyond). Across: memory kept; left, the share of a "
        f"state's energy that is older than training.{right} Hollow points cannot be baked into this model's weights.",
        "; ".join(told) + ".",
    )


def _calibration(study: Study, refined: Refined) -> Drawing:
    found = refined.found
    return Drawing(
        "calibration",
        calibration_figure(study),
        f"Left: bits of the selection windows (validation text) as {found.plan.method} goes on; a gradient counts as "
        f"{GRADIENT_PASSES:g} forward passes. Right: what became of the factors; on the line they stayed as proposed.",
        f"Selection tail bits {found.start_bits.tail:.4f} at the start, {found.bits.tail:.4f} at step {found.step} of "
        f"{found.plan.steps}, {found.passes:,.0f} passes.",
    )
