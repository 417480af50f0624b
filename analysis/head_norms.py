"""Norms of real heads far beyond the training length: predicted from training-length windows, and measured.

Predictions are the closed forms of ``norm_forms``. They take a head's inputs to stay what they were within T tokens; in
a model that breaks down they do not stay so behind the first layer. Norms are therefore measured in two ways: in the
model's own run, and by replaying every head at the model's own rates on inputs recorded while the model ran with scales
that keep its states in range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from mambascope.spectra.dynamics import Intervention, Observation
from mambascope.spectra.model import Model, Tokens

from .norm_forms import DEFAULT_FORM, FORMS, Form, second_moment
from .trace_replay import Case, replayed_squares
from .write_statistics import WriteMoments

Floats = npt.NDArray[np.float64]
Inputs = Literal["model", "replay"]


@dataclass(frozen=True, slots=True, eq=False)
class HeadNorms:
    """RMS norms of all modes at the target length; arrays (n_layer, nheads) or (n_layer, d_inner, d_state)."""

    name: str
    """Model's name."""
    unit: Literal["head", "channel", "mode"]
    """What a number belongs to: a head of Mamba-2, a channel of Mamba-1 or one of its modes (channel and state)."""
    train_length: int
    """T in tokens."""
    target_length: int
    """L in tokens."""
    inputs: Inputs
    """``model``: measured in the model's own run; ``replay``: on inputs recorded while other scales ran upstream."""
    trained: Floats
    """Measured at T, in training windows."""
    measured: Floats
    """Measured near L."""
    error: Floats
    """Relative standard error of ``measured``, from the spread over rows."""
    predicted: dict[Form, Floats]
    """Near L, by closed form."""

    def ratio(self, form: Form = DEFAULT_FORM) -> Floats:
        """Return predicted over measured."""
        return self.predicted[form] / self.measured

    def by_layer(self, form: Form = DEFAULT_FORM) -> Floats:
        """Return the median error of each layer: half of its heads are predicted within a factor of 1 + error."""
        return np.array([np.expm1(np.median(np.abs(np.log(ratio)))) for ratio in self.ratio(form)])

    def median_error(self, form: Form = DEFAULT_FORM) -> float:
        """Return the median error over all heads, as ``by_layer``."""
        return float(np.expm1(np.median(np.abs(np.log(self.ratio(form))))))

    def by_channel(self) -> HeadNorms:
        """Return norms of Mamba-1's channels, each the norm of its d_state modes; Mamba-2's heads stay."""
        if self.unit != "mode":
            return self

        def norm(modes: Floats) -> Floats:
            return np.asarray(np.sqrt(np.square(modes).sum(-1)))

        weight = np.square(self.measured) / np.square(self.measured).sum(-1, keepdims=True)
        return HeadNorms(
            self.name,
            "channel",
            self.train_length,
            self.target_length,
            self.inputs,
            norm(self.trained),
            norm(self.measured),
            (weight * self.error).sum(-1),  # an upper bound: the modes of a channel share their inputs
            {form: norm(values) for form, values in self.predicted.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: errors by form and layer, and every head's numbers."""
        return {
            "name": self.name,
            "unit": self.unit,
            "train_length": self.train_length,
            "target_length": self.target_length,
            "inputs": self.inputs,
            "median_error": {form: self.median_error(form) for form in self.predicted},
            "median_error_by_layer": {form: self.by_layer(form).tolist() for form in self.predicted},
            "trained": self.trained.tolist(),
            "measured": self.measured.tolist(),
            "predicted": {form: values.tolist() for form, values in self.predicted.items()},
        }


class _StateSquares:
    """Observer that keeps the squared norms of all modes at some lengths, (stops, rows, modes)."""

    def __init__(self, stops_tokens: Sequence[int]) -> None:
        self.stops = tuple(sorted(set(stops_tokens)))
        self.found: dict[int, list[Floats]] = {}

    def boundaries(self) -> tuple[int, ...]:
        return self.stops

    def update(self, observation: Observation) -> None:
        if observation.stop in self.stops:
            state = observation.state.ssm.double()
            squares = state.square().sum((-1, -2)) if state.dim() == 4 else state.square()
            self.found.setdefault(observation.layer, []).append(squares.cpu().numpy())


def lengths_near(target_length: int, train_length: int) -> list[int]:
    """Return the lengths over which a norm "at L" is averaged: the last quarter, every T tokens, L included."""
    return list(range(target_length, target_length * 3 // 4, -train_length))[::-1]


def measure_head_norms(
    model: Model,
    tokens: Tokens,
    moments: Sequence[WriteMoments],
    target_length: int,
    *,
    intervention: Intervention | None = None,
    inputs: Inputs = "model",
) -> HeadNorms:
    """Compare predicted and measured RMS norms of all heads at the target length.

    Args:
        model: a loaded model.
        tokens: ids, (rows, at least the target length), each read from a fresh state.
        moments: from ``write_moments``; for inputs ``model`` with the same intervention.
        target_length: L.
        intervention: what the model runs with.
        inputs: ``model``: read the states of that run; ``replay``: record that run's traces and replay every head at
            the model's own rates on them.

    Returns:
        The norms, each averaged in the square over rows and over ``lengths_near`` L, predictions alike.
    """
    T = moments[0].train_length
    stops = lengths_near(target_length, T)
    if inputs == "replay":
        replayed = replayed_squares(model, tokens, {"own": Case()}, stops, upstream=intervention)["own"]
        squares = np.stack([replayed[layer] for layer in sorted(replayed)])
    else:
        observer = _StateSquares(stops)
        with torch.no_grad():
            ids = np.asarray(tokens)[:, :target_length]
            for _ in model.stream(ids, intervention=intervention, observers=[observer]):
                pass
        squares = np.stack([np.stack(observer.found[layer]) for layer in sorted(observer.found)])
    rows = squares.mean(1)  # (n_layer, rows, ...)
    mean = rows.mean(1)
    predicted = {
        form: np.stack([np.sqrt(np.mean([second_moment(m, n, form=form) for n in stops], axis=0)) for m in moments])
        for form in FORMS
    }
    spread = rows.std(1, ddof=1) / np.sqrt(rows.shape[1]) if rows.shape[1] > 1 else np.full(mean.shape, np.nan)
    trained = np.stack([m.trained_l2 for m in moments])
    unit: Literal["head", "mode"] = "head" if trained.ndim == 2 else "mode"
    return HeadNorms(model.name, unit, T, target_length, inputs, trained, np.sqrt(mean), spread / mean / 2, predicted)
