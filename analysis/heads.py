"""Theory against the heads of a real model: predicted and measured norms, and one factor a head on recorded inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales
from mambascope.spectra.tokens import Document

from .arrays import Arrays, kept_arrays
from .head_norms import HeadNorms, Inputs, measure_head_norms
from .norm_forms import DEFAULT_FORM, FORMS
from .runs import RunFolder
from .scaled_heads import ScaledHead, ScaledHeads, scaled_heads
from .trace_replay import Selection
from .write_statistics import write_moments

Ids = npt.NDArray[np.integer]
Tick = Callable[[int], None]

SEGMENTS = 8
"""Texts of the target length, each from a fresh state, over which norms are averaged."""
MOST_MODES = 65_536
"""Replaying every mode costs as much as running the model for each; models with more modes are left out."""
CHANNELS_OF_A_LAYER = 40
"""Mamba-1: channels of a layer that the scale rule is tried on, evenly spaced; of Mamba-2 all heads."""


@dataclass(frozen=True, slots=True)
class Heads:
    """What theory says of each head of a model, and what the head does."""

    own: HeadNorms
    """Predicted and measured norms in the model's own run."""
    replayed: HeadNorms
    """The same on inputs that stayed in range: recorded while the model ran with its proposed scales."""
    scaled: ScaledHeads
    """One factor a head, on the same recorded inputs."""

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a measurement: share of heads within reach and median errors."""
        rows = []
        for norms in (self.own, self.replayed):
            of = norms.by_channel()
            rows.append({
                "model": of.name,
                "inputs": of.inputs,
                "unit": of.unit,
                "measured": of.measured.size,
                **{f"median_error_{form}": of.median_error(form) for form in FORMS},
            })
        return rows


def can_replay(model: Model) -> bool:
    """Return whether a model is small enough to replay every mode of it."""
    return sum(layer.mixer.A_log.numel() for layer in model.layers()) <= MOST_MODES


def segments(documents: Sequence[Document], length: int, count: int = SEGMENTS) -> Ids:
    """Cut disjoint texts of one length, as evenly from the documents as they allow.

    Args:
        documents: texts.
        length: tokens of each segment.
        count: how many at most.

    Returns:
        Ids, (segments, length).
    """
    room = [len(d) // length for d in documents]
    order = [(k, i) for k in range(max(room, default=0)) for i, n in enumerate(room) if k < n]
    return np.stack([documents[i].ids[k * length : (k + 1) * length] for k, i in order[:count]])


def study_heads(
    model: Model,
    documents: Sequence[Document],
    scales: Scales,
    *,
    train_length: int,
    target_length: int,
    run: RunFolder,
    key: str,
    tick: Tick = lambda _: None,
) -> Heads:
    """Predict and measure the norm of every head far beyond the training length.

    Args:
        model: a loaded model.
        documents: calibration texts, at least one of the target length.
        scales: of kind ``a``; what keeps the inputs of deeper layers in range while they are recorded.
        train_length: T.
        target_length: L.
        run: keeps the results.
        key: what the run files them under.
        tick: called with tokens as they are done.

    Returns:
        The results.
    """
    texts = segments(documents, target_length)

    def measure() -> Arrays:
        shortest = min(len(d) for d in documents)
        moments = write_moments(model, np.stack([d.ids[:shortest] for d in documents]), train_length)
        own = measure_head_norms(model, texts, moments, target_length)
        tick(texts.size)
        replayed = measure_head_norms(model, texts, moments, target_length, intervention=scales, inputs="replay")
        tick(texts.size)
        tried = scaled_heads(model, texts, moments, target_length, selection=_selection(model), upstream=scales)
        tick(texts.size)
        return _norm_arrays("own", own) | _norm_arrays("replayed", replayed) | _head_arrays(tried)

    found = kept_arrays(run, f"{key}/heads", measure)
    lengths = (train_length, target_length)
    return Heads(
        _norms_of("own", "model", found, model, lengths),
        _norms_of("replayed", "replay", found, model, lengths),
        _heads_of(found, model, lengths),
    )


def _selection(model: Model) -> Selection:
    if model.config.arch != "mamba":
        return dict.fromkeys(range(model.config.n_layer))
    step = max(1, model.config.d_inner // CHANNELS_OF_A_LAYER)
    return {layer: tuple(range(0, model.config.d_inner, step)) for layer in range(model.config.n_layer)}


def planned_tokens(documents: Sequence[Document], target_length: int) -> int:
    """Return the tokens that ``study_heads`` reports to ``tick``."""
    return 3 * segments(documents, target_length).size


def _norm_arrays(name: str, norms: HeadNorms) -> Arrays:
    arrays = {f"{name}-{part}": getattr(norms, part) for part in ("trained", "measured", "error")}
    return arrays | {f"{name}-predicted-{form}": values for form, values in norms.predicted.items()}


def _norms_of(name: str, inputs: Inputs, found: Arrays, model: Model, lengths: tuple[int, int]) -> HeadNorms:
    trained, measured, error = (found[f"{name}-{part}"] for part in ("trained", "measured", "error"))
    predicted = {form: found[f"{name}-predicted-{form}"] for form in FORMS}
    unit: Literal["head", "mode"] = "head" if trained.ndim == 2 else "mode"
    return HeadNorms(model.name, unit, *lengths, inputs, trained, measured, error, predicted)


def _head_arrays(tried: ScaledHeads) -> Arrays:
    columns = {f"heads-{f.name}": np.array([getattr(head, f.name) for head in tried.heads]) for f in fields(ScaledHead)}
    return columns | {"modes-within": np.array([tried.modes_within])}


def _heads_of(found: Arrays, model: Model, lengths: tuple[int, int]) -> ScaledHeads:
    columns = [found[f"heads-{f.name}"].tolist() for f in fields(ScaledHead)]
    heads = tuple(ScaledHead(*row) for row in zip(*columns, strict=True))
    return ScaledHeads(model.name, *lengths, DEFAULT_FORM, heads, float(found["modes-within"][0]))
