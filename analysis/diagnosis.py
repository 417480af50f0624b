"""What a model's modes do on real text, inside and beyond the training length.

Measurements on calibration text: step sizes on windows of the training length (the model as it was trained), which give
every mode its horizon; state norms out to the target length, which show whether states really leave the range that
training showed; and, where asked for, what is written into the states within those windows, which says how much of it
adds up. No loss is computed.
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
from mambascope.spectra.errors import RefusedInputError, TextError
from mambascope.spectra.foreign.forward import ForeignModel
from mambascope.spectra.foreign.measures import foreign_spectrum, foreign_state_norms
from mambascope.spectra.html_table import html_table
from mambascope.spectra.model import Model, Tokens
from mambascope.spectra.norms import StateNorms, state_norms

from .training_windows import WINDOWS, training_windows
from .write_statistics import WriteMoments, write_moments

__all__ = ["LONG_HORIZON", "WINDOWS", "Diagnosis", "diagnose", "training_windows"]

Floats = npt.NDArray[np.float64]

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
    writes: tuple[WriteMoments, ...] | None = None
    """What is written into the states in windows of T tokens, a layer each; None where it was not measured."""

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

    def _repr_html_(self) -> str:
        return html_table(
            self.rows(), f"{self.spectrum.name} from {self.train_length:,} to {self.target_length:,} tokens"
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


def diagnose(
    model: Model | ForeignModel,
    tokens: Tokens,
    *,
    train_length: int,
    target_length: int,
    writes: bool = False,
    observers: Sequence[Observer] = (),
) -> Diagnosis:
    """Measure a model's modes on calibration text.

    Args:
        model: a loaded model, or a watched one of transformers, whose Mamba layers are then counted among themselves.
        tokens: calibration ids, (documents, length), length at least the target length.
        train_length: T.
        target_length: L, above T.
        writes: measure also what is written into the states; T is then at least 4, a document holds two windows of it.
        observers: see every layer's work on the way.

    Returns:
        The diagnosis.

    Raises:
        TextError: the text is shorter than the target length, the target is not beyond T, or T is too short for writes.
        RefusedInputError: the writes of a watched model, which are not measured.
    """
    if target_length <= train_length:
        raise TextError(f"target length {target_length} must be beyond the training length {train_length}")
    if writes and train_length < 4:
        raise TextError(f"training length {train_length}: writes are measured at T/4, T/2 and T, from T = 4 on")
    windows, lengths = training_windows(tokens, train_length), [train_length]
    while lengths[-1] * 2 < target_length:
        lengths.append(lengths[-1] * 2)
    lengths.append(target_length)
    if isinstance(model, ForeignModel):
        if writes:
            raise RefusedInputError(f"{model.name}: writes are measured in mambascope's own forward, which it lacks")
        watched = foreign_spectrum(model, windows, observers=observers)
        return Diagnosis(
            watched, foreign_state_norms(model, tokens, lengths, observers=observers), train_length, target_length
        )
    found = spectrum(model, windows, observers=observers)
    norms = state_norms(model, tokens, lengths, observers=observers)
    written = write_moments(model, tokens, train_length) if writes else None
    return Diagnosis(found, norms, train_length, target_length, written)
