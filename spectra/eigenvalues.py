"""The spectrum of the state transition: static exp(-|A|), and effective exp(-dt |A|) measured on a text.

The static spectrum is what a step of size 1 would do (the paper's Figure 1). A token's real step is dt, mostly far
below 1, so the effective spectrum lies much closer to 1, and its order can differ.
Source: Mamba Modulation (arXiv 2509.19633), Figure 1 and section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .dynamics import Dynamics, Observer
from .errors import ScaleError, TextError
from .html_table import html_table
from .mode_statistics import ModeMoments, ModeStatistics

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .model import Model, Tokens
    from .scales import Scales

Floats = npt.NDArray[np.float64]
Which = Literal["static", "effective"]

LONGEST_HORIZON_TOKENS = 1e12
"""What a mode gets whose step size underflows: longer than any text, yet finite."""

ROWS_AT_ONCE = 8
"""Rows of a text that run side by side: states of large models take more memory than their weights. Ours."""

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Rates of every mode and, where a text was given, what they amount to on it."""

    name: str
    """Model's name."""
    arch: str
    """``mamba`` or ``mamba2``."""
    rates: tuple[Floats, ...]
    """|A| of each layer, (nheads,) or (d_inner, d_state)."""
    moments: ModeMoments | None = None
    """Moments of step sizes and decays on the text."""
    layers: tuple[int, ...] = ()
    """Index in the model of each layer here; empty where they are 0, 1, ... with no other layers between them."""
    bias_dt: tuple[Floats, ...] = ()
    """softplus(dt_bias) within the model's limits: the step where a token adds nothing. Empty where it was not read."""

    @property
    def n_layer(self) -> int:
        """Number of layers."""
        return len(self.rates)

    def eigenvalues(self, which: Which = "static") -> tuple[Floats, ...]:
        """Return each layer's eigenvalues.

        Args:
            which: ``static`` for exp(-|A|), a step of size 1; ``effective`` for the mean of exp(-dt |A|) over the text.

        Returns:
            One array a layer, (nheads,) or (d_inner, d_state), values in [0, 1].

        Raises:
            ValueError: ``effective`` without a text.
        """
        if which == "static":
            return tuple(np.exp(-rate) for rate in self.rates)
        if self.moments is None:
            raise ValueError("the effective spectrum needs a text: spectrum(model, tokens)")
        return tuple(1 - loss for loss in self.moments.loss_first)

    def horizons_tokens(self) -> tuple[Floats, ...]:
        """Return each mode's memory tau = 1 / (|A| E dt) in tokens, at most 1e12, one array a layer."""
        if self.moments is None:
            raise ValueError("horizons need a text: spectrum(model, tokens)")
        return tuple(_horizons(*each) for each in zip(self.rates, self.moments.mean_dt, strict=True))

    def bias_horizons_tokens(self) -> tuple[Floats, ...]:
        """Return tau = 1 / (|A| softplus(dt_bias)), at most 1e12: what the bias alone would give, not a measurement."""
        if not self.bias_dt:
            raise ValueError("these horizons need the step sizes' biases: foreign_spectrum(checkpoint)")
        return tuple(_horizons(*each) for each in zip(self.rates, self.bias_dt, strict=True))

    def heatmap(self, which: Which = "static") -> Floats:
        """Return the layers' eigenvalues sorted from the largest, (n_layer, modes of a layer): the paper's Figure 1."""
        return np.stack([np.sort(values, axis=None)[::-1] for values in self.eigenvalues(which)])

    def _repr_html_(self) -> str:
        return html_table(self.rows(), f"Spectrum of {self.name}: quantiles of the eigenvalues")

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a layer and kind, with quantiles of the eigenvalues (and horizons where measured)."""
        kinds: tuple[Which, ...] = ("static",) if self.moments is None else ("static", "effective")
        rows = []
        for kind in kinds:
            for layer, values in enumerate(self.eigenvalues(kind)):
                index = self.layers[layer] if self.layers else layer
                row: dict[str, Any] = {"layer": index, "kind": kind, "modes": values.size, "mean": float(values.mean())}
                row |= {
                    f"q{q * 100:g}": float(v) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
                }
                if kind == "effective":
                    tau = self.horizons_tokens()[layer]
                    row |= {"horizon_median_tokens": float(np.median(tau)), "horizon_max_tokens": float(tau.max())}
                if self.bias_dt:
                    tau = self.bias_horizons_tokens()[layer]
                    row |= {"bias_horizon_median_tokens": float(np.median(tau))}
                    row |= {"bias_horizon_max_tokens": float(tau.max())}
                rows.append(row)
        return rows


def _horizons(rate: Floats, dt: Floats) -> Floats:
    """Return 1 / (rate dt) in tokens, at most 1e12, in the shape of the rates."""
    return np.asarray(1 / np.maximum(rate * (dt if rate.ndim == 1 else dt[:, None]), 1 / LONGEST_HORIZON_TOKENS))


def static_spectrum(checkpoint: Checkpoint, *, name: str | None = None) -> Spectrum:
    """Read the static spectrum from a checkpoint's ``A_log`` tensors alone; no other weight is touched."""
    rates = tuple(np.exp(checkpoint.A_log(i).double().numpy()) for i in range(checkpoint.config.n_layer))
    folder = checkpoint.folder.name if checkpoint.folder else "model"
    return Spectrum(name or folder, checkpoint.config.arch, rates)


def _rates(A_log: Tensor, layer: int, scales: Scales | None) -> Floats:
    dt = torch.ones(1, 1, A_log.shape[0], dtype=A_log.dtype, device=A_log.device)
    dynamics = Dynamics(dt, -A_log.exp(), dt)
    if scales is not None:
        dynamics = scales(layer, 0, dynamics)
    return np.asarray((-dynamics.A).cpu().numpy())


def spectrum(
    model: Model,
    tokens: Tokens | None = None,
    *,
    scales: Scales | None = None,
    observers: Sequence[Observer] = (),
) -> Spectrum:
    """Return a model's spectrum, with the effective one if a text is given.

    Args:
        model: a loaded model.
        tokens: ids (batch, length); the step sizes are measured on them, each row from a fresh state. Give rows of the
            training length to see the model as it was trained.
        scales: factors that the model runs with; rates and moments are those of the scaled model.
        observers: see every layer's work on the way, ``ROWS_AT_ONCE`` rows at a time: positions begin again with each.

    Returns:
        The spectrum.

    Raises:
        ScaleError: factors with an onset, before and after which there are two spectra.
        TextError: a text without a row.
    """
    if scales is not None and scales.boundaries():
        raise ScaleError("scales with an onset have two spectra, before it and after it; give factors with onset 0")
    with torch.no_grad():
        rates = tuple(_rates(layer.mixer.A_log.double(), index, scales) for index, layer in enumerate(model.layers()))
        if tokens is None:
            return Spectrum(model.name, model.config.arch, rates)
        if not tokens.shape[0]:
            raise TextError("the effective spectrum needs at least one row of tokens")
        observer = ModeStatistics()
        for first in range(0, tokens.shape[0], ROWS_AT_ONCE):
            rows = tokens[first : first + ROWS_AT_ONCE]
            for _ in model.stream(rows, observers=[observer, *observers], intervention=scales):
                pass
    return Spectrum(model.name, model.config.arch, rates, observer.result())
