"""What a scale rule may rest on: rates, horizons, steps and writes of every mode, and the two lengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .diagnosis import Diagnosis
from .norm_forms import DEFAULT_FORM, parts
from .write_statistics import WriteMoments

Floats = npt.NDArray[np.float64]

LEAST_NOISE = 1e-9
"""Share of a mode's write energy that counts as noise at least, so that its coherence stays finite. Ours: rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerEvidence:
    """One layer's modes: arrays (nheads,) for Mamba-2, (d_inner, d_state) for Mamba-1."""

    rate: Floats
    """|A|."""
    horizon_tokens: Floats
    """tau = 1 / (|A| E dt)."""
    mean_dt: Floats
    """E dt, (nheads,) or (d_inner,)."""
    mean_dt_squared: Floats
    """E dt^2, same shape."""
    loss_first: Floats
    """1 - E e^{-dt |A|}, measured."""
    loss_second: Floats
    """1 - E e^{-2 dt |A|}, measured."""
    writes: WriteMoments | None
    """Moments of what is written, where measured."""

    def parts(self) -> tuple[Floats, Floats]:
        """Return coherent part c and noise energy q > 0 of a token's write, from windows of T tokens.

        Returns:
            c and q, each of the layer's shape; 0 and 1 for a mode that writes nothing.

        Raises:
            ValueError: the writes were not measured.
        """
        if self.writes is None:
            raise ValueError("the rule rests on measured writes: diagnose(..., writes=True)")
        c, q = parts(self.writes, DEFAULT_FORM)
        silent = c + q == 0
        return np.where(silent, 0, c), np.where(silent, 1, np.maximum(q, LEAST_NOISE * c))

    @property
    def kappa(self) -> Floats:
        """Coherence c / q of what is written."""
        c, q = self.parts()
        return c / q


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What rules rest on."""

    arch: str
    """``mamba`` or ``mamba2``."""
    train_length: int
    """T in tokens."""
    target_length: int
    """L in tokens."""
    layers: tuple[LayerEvidence, ...]
    """In order."""

    @classmethod
    def of(cls, diagnosis: Diagnosis, target_length: int | None = None) -> Evidence:
        """Gather a diagnosis's evidence.

        Args:
            diagnosis: from ``diagnose``.
            target_length: L to prepare for. Default: as far as the diagnosis followed the states.

        Returns:
            The evidence.

        Raises:
            ValueError: the spectrum was not measured on a text.
        """
        found = diagnosis.spectrum
        if found.moments is None:
            raise ValueError("evidence needs a spectrum that was measured on a text: spectrum(model, tokens)")
        m, writes = found.moments, diagnosis.writes or (None,) * found.n_layer
        columns = (found.rates, found.horizons_tokens(), m.mean_dt, m.mean_dt_squared, m.loss_first, m.loss_second)
        layers = tuple(LayerEvidence(*of) for of in zip(*columns, writes, strict=True))
        return cls(found.arch, diagnosis.train_length, target_length or diagnosis.target_length, layers)
