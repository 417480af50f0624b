"""What a model's modes do on real text, inside and beyond the training length.

Two measurements on calibration text: step sizes on windows of the training length (the model as it was trained), which
give every mode its horizon; and state norms out to the target length, which show whether states really leave the range
that training showed. No loss is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambascope.simulate import overshoot
from mambascope.spectra.dynamics import Observer
from mambascope.spectra.eigenvalues import Spectrum, spectrum
from mambascope.spectra.errors import TextError
from mambascope.spectra.model import Model, Tokens
from mambascope.spectra.norms import StateNorms, state_norms

Floats = npt.NDArray[np.float64]

WINDOWS = 64
"""Windows of the training length on which step sizes are measured. Ours: between two halves from different books the
mean step sizes of heads then differ by less than 5 % (RMS; tests/analysis/test_diagnosis.py)."""

LONG_HORIZON = 1.0
"""A mode with tau above this many training lengths is not yet saturated at T: it grows by e/(e-1) more if coherent."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Horizons of all modes, and how far their states grow."""

    spectrum: Spectrum
    """Measured on windows of the training length."""
    norms: StateNorms
    """State norms at the training length, at the target length and between."""
    train_length: int
    """T in tokens."""
    target_length: int
    """L in tokens."""

    def long_share(self) -> Floats:
        """Return the share of modes whose horizon exceeds T, one number a layer."""
        return np.array([(tau > LONG_HORIZON * self.train_length).mean() for tau in self.spectrum.horizons_tokens()])

    def growth(self) -> Floats:
        """Return RMS norm at the target length over RMS norm at the training length, one number a layer."""
        rms, at = self.norms.rms(), self.norms.lengths_tokens
        return np.asarray(rms[at.index(self.target_length)] / rms[at.index(self.train_length)])

    def predicted_growth(self) -> tuple[Floats, ...]:
        """Return by how much each mode's RMS would grow from T to L if its input were constant (theory, coherent)."""
        return tuple(
            np.sqrt(overshoot(1 / tau, self.train_length, self.target_length))
            for tau in self.spectrum.horizons_tokens()
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a layer."""
        taus, predicted = self.spectrum.horizons_tokens(), self.predicted_growth()
        return [
            {
                "layer": layer,
                "modes": taus[layer].size,
                "share_horizon_beyond_training": float(self.long_share()[layer]),
                "horizon_median_tokens": float(np.median(taus[layer])),
                "horizon_max_tokens": float(taus[layer].max()),
                "state_growth_measured": float(self.growth()[layer]),
                "mode_growth_predicted_median": float(np.median(predicted[layer])),
                "mode_growth_predicted_max": float(predicted[layer].max()),
            }
            for layer in range(self.spectrum.n_layer)
        ]


def training_windows(tokens: Tokens, train_length: int, windows: int = WINDOWS) -> npt.NDArray[np.integer]:
    """Cut windows of the training length, evenly spread over the documents.

    Args:
        tokens: ids, (documents, length).
        train_length: T.
        windows: how many at most, but at least one of each document.

    Returns:
        Ids, (windows, train_length).

    Raises:
        TextError: the documents are shorter than one window.
    """
    ids = np.asarray(tokens)
    room = ids.shape[1] // train_length
    if room == 0:
        raise TextError(f"calibration text of {ids.shape[1]} tokens is shorter than the training length {train_length}")
    each = max(1, min(room, windows // len(ids)))
    starts = [k * room // each * train_length for k in range(each)]
    return np.concatenate([ids[:, s : s + train_length] for s in starts])[: max(windows, len(ids))]


def diagnose(
    model: Model,
    tokens: Tokens,
    *,
    train_length: int,
    target_length: int,
    observers: Sequence[Observer] = (),
) -> Diagnosis:
    """Measure a model's modes on calibration text.

    Args:
        model: a loaded model.
        tokens: calibration ids, (documents, length), length at least the target length.
        train_length: T.
        target_length: L, above T.
        observers: see every layer's work on the way.

    Returns:
        The diagnosis.

    Raises:
        TextError: the text is shorter than the target length, or the target is not beyond T.
    """
    if target_length <= train_length:
        raise TextError(f"target length {target_length} must be beyond the training length {train_length}")
    found = spectrum(model, training_windows(tokens, train_length), observers=observers)
    lengths = [train_length]
    while lengths[-1] * 2 < target_length:
        lengths.append(lengths[-1] * 2)
    norms = state_norms(model, tokens, [*lengths, target_length], observers=observers)
    return Diagnosis(found, norms, train_length, target_length)
