r"""What scales do to memory: how much of every mode's kernel is older than k tokens, before them and with them.

A write fades by e^{-|A| dt} a token. Over k tokens its mean kernel fades by phi_1^k and its energy by phi_2^k, with
phi_m = E e^{-m |A| dt}; both are measured on windows of the training length. Scales that multiply |A| dt by s make it
E e^{-m s |A| dt}, which is not measured without running the model again: its logarithm is taken to grow with s as that
of gamma-distributed steps with the measured mean and variance of dt does,

    R_m(s) = R_m(1) ln(1 + m s r / n) / ln(1 + m r / n),   r = |A| E dt,   n = (E dt)^2 / var dt,

exact at s = 1 and, for slow modes (m s r << n), R_m(1) s. Of a kernel over L tokens the share older than k is
(e^{-R k} - e^{-R L}) / (1 - e^{-R L}), and 1 - k / L for a mode that never forgets.
tests/analysis/test_memory.py holds it against decays measured with the scales in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mambascope.simulate.geometric import geometric_sum
from mambascope.spectra.dynamics import Dynamics
from mambascope.spectra.html_table import html_table
from mambascope.spectra.scales import Scales

from .diagnosis import Diagnosis
from .evidence import Evidence, LayerEvidence

Floats = npt.NDArray[np.float64]

_FASTEST = 700.0
"""Largest decay rate a token: e^-700 is the last number that is not 0."""


def factors_on_modes(evidence: Evidence, scales: Scales, position: int) -> tuple[tuple[Floats, Floats], ...]:
    """Return what scales do to every mode at a position, whatever their kinds.

    Args:
        evidence: of the model.
        scales: any.
        position: a token's index; scales with an onset act from there on.

    Returns:
        A layer each: the factor on the decay rate |A| dt, (nheads,) or (d_inner, d_state), and that on the write gain,
        (nheads,) or (d_inner,).
    """
    found = []
    for index, layer in enumerate(evidence.layers):
        A = -torch.from_numpy(layer.rate)
        one = torch.ones(layer.mean_dt.shape, dtype=torch.float64)
        scaled = scales(index, position, Dynamics(one, A, one))
        step = scaled.dt if A.dim() == 1 else scaled.dt[:, None]
        found.append(((scaled.A / A * step).numpy(), scaled.gain.numpy()))
    return tuple(found)


def decay_per_token(layer: LayerEvidence, factor: npt.ArrayLike, order: int) -> Floats:
    """Return R_m of a layer's modes, with |A| dt multiplied by a factor.

    Args:
        layer: evidence of the layer.
        factor: s.
        order: m, 1 for a write's mean, 2 for its energy.

    Returns:
        The rate a token at which it fades.
    """
    loss = layer.loss_first if order == 1 else layer.loss_second
    measured = -np.log1p(-np.minimum(loss, 1 - 1e-16))
    wide = (slice(None), None) if layer.rate.ndim == 2 else slice(None)
    spread = np.maximum(layer.mean_dt_squared / layer.mean_dt**2 - 1, 1e-12)[wide]  # 1 / n
    x = order * spread / layer.horizon_tokens
    return np.asarray(np.minimum(measured * np.log1p(x * np.asarray(factor)) / np.log1p(x), _FASTEST))


def share_older(rate: npt.ArrayLike, lag_tokens: int, length: int) -> Floats:
    """Return the share of a kernel over ``length`` tokens that is older than ``lag_tokens``.

    Args:
        rate: R per token.
        lag_tokens: k, at most the length.
        length: L.

    Returns:
        Shares, between 0 and 1 - k / L.

    >>> float(share_older(0.0, 256, 1024))
    0.75
    """
    r = np.asarray(rate, dtype=np.float64)
    whole = geometric_sum(r, length)
    return np.asarray(np.exp(-np.minimum(r * lag_tokens, _FASTEST)) * geometric_sum(r, length - lag_tokens) / whole)


@dataclass(frozen=True, slots=True, eq=False)
class MemoryChange:
    """Memory of all modes without scales and with them; arrays (n_layer, nheads) or (n_layer, d_inner, d_state)."""

    lag_tokens: int
    """k."""
    length: int
    """L, over which kernels are taken."""
    energy_before: Floats
    """Share of the squared kernel older than k: of the energy that uncorrelated writes leave in the state."""
    energy_after: Floats
    """The same with the scales."""
    weight_before: Floats
    """Share of the kernel itself older than k: of what a constant write leaves."""
    weight_after: Floats
    """The same with the scales."""
    forgets_before_tokens: Floats
    """Tokens until a write has faded to 1/e."""
    forgets_after_tokens: Floats
    """The same with the scales."""
    gain: Floats
    """Factor on every write, (n_layer, nheads or d_inner): a kernel may reach further back and hold less of each."""

    def _repr_html_(self) -> str:
        return html_table(self.rows(), self.sentence())

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a layer: shares averaged over its modes, and its slowest mode."""
        return [
            {
                "layer": layer,
                "lag_tokens": self.lag_tokens,
                "energy_older_before": float(self.energy_before[layer].mean()),
                "energy_older_after": float(self.energy_after[layer].mean()),
                "weight_older_before": float(self.weight_before[layer].mean()),
                "weight_older_after": float(self.weight_after[layer].mean()),
                "forgets_longest_before_tokens": float(self.forgets_before_tokens[layer].max()),
                "forgets_longest_after_tokens": float(self.forgets_after_tokens[layer].max()),
                "write_gain_median": float(np.median(self.gain[layer])),
            }
            for layer in range(len(self.energy_before))
        ]

    def sentence(self) -> str:
        """Say what is given up, averaged over all modes."""
        before, after = float(self.energy_before.mean()), float(self.energy_after.mean())
        slowest = (float(self.forgets_before_tokens.max()), float(self.forgets_after_tokens.max()))
        gain = float(np.median(self.gain))
        if abs(before - after) < 5e-4 and 0.99 < slowest[1] / slowest[0] < 1.01 and gain == 1:
            return (
                f"no memory is given up: {before:.1%} of a state's energy is more than {self.lag_tokens:,} tokens old"
            )
        return (
            f"{self.lag_tokens:,} tokens back {before:.1%} of a state's energy used to stay, {after:.1%} does now "
            f"(mean over modes, text of {self.length:,} tokens); the slowest mode forgets to 1/e in "
            f"{slowest[1]:,.0f} tokens instead of {slowest[0]:,.0f}"
            + (f", and a write counts {gain:.3g} times what it did (median)" if gain != 1 else "")
        )


def memory_change(
    diagnosis: Diagnosis, scales: Scales, *, lag_tokens: int | None = None, length: int | None = None
) -> MemoryChange:
    """Compute what scales do to the memory of every mode.

    Args:
        diagnosis: of the model without scales.
        scales: any; with an onset, as they act after it.
        lag_tokens: k. Default: the training length.
        length: L. Default: the diagnosis's target length.

    Returns:
        The change.

    Raises:
        ValueError: not 0 <= k <= L.
    """
    evidence = Evidence.of(diagnosis, length)
    L, k = evidence.target_length, evidence.train_length if lag_tokens is None else lag_tokens
    if not 0 <= k <= L:
        raise ValueError(f"lag_tokens {k}: expected 0 to {L}, the length of the text")
    last = max((f.onset_tokens for f in scales.factors), default=0)
    factors = factors_on_modes(evidence, scales, last)
    found: dict[str, list[Floats]] = {}
    for layer, (factor, gain) in zip(evidence.layers, factors, strict=True):
        for when, s in (("before", 1.0), ("after", factor)):
            mean, energy = decay_per_token(layer, s, 1), decay_per_token(layer, s, 2)
            found.setdefault(f"weight_{when}", []).append(share_older(mean, k, L))
            found.setdefault(f"energy_{when}", []).append(share_older(energy, k, L))
            found.setdefault(f"forgets_{when}_tokens", []).append(1 / mean)
        found.setdefault("gain", []).append(gain)
    return MemoryChange(k, L, **{name: np.stack(of_layers) for name, of_layers in found.items()})
