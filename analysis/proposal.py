"""Scales from a diagnosis alone: no loss is evaluated, nothing is trained.

A mode whose horizon tau exceeds the training length T goes on filling its state after T, to a size that the layers
behind it have never seen. The soft clip raises its rate |A| until its final size is what it had at T:
s = 1 / (1 - e^{-T/tau}), so that tau becomes tau (1 - e^{-T/tau}) <= T, and short horizons stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mambascope.simulate import soft_clip
from mambascope.simulate.modes import Inputs
from mambascope.spectra.dynamics import Observer
from mambascope.spectra.errors import TextError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales, scaling
from mambascope.spectra.tokens import Document

from .diagnosis import Diagnosis, diagnose
from .evaluate.perplexity import stack_documents

GROWTH_TO_ACT = 2.0
"""States that stay within this factor of their size at T are left alone. Ours: on calibration text the bundled control
without a breakdown stays below it, the models that break down exceed it many times. Where states were followed to less
than four times T, where even a mode without decay has hardly grown, the growth of such a mode under noise, the square
root of L / T, takes its place."""

TIMES_TO_SEE = 64
"""States are followed to at least this many training lengths, where the texts reach that far: whether a model breaks
down is a fact about the model, not about the length asked for."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Scales and why they are what they are."""

    scales: Scales
    """The factors; empty where the model is best left alone."""
    rule: str
    """Name of the rule."""
    reason: str
    """In words."""
    diagnosis: Diagnosis
    """What it rests on."""

    @property
    def acts(self) -> bool:
        """True unless the model is left alone."""
        return not self.scales.is_identity

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a layer: quantiles of the factors, and horizons before and after."""
        rows = []
        for layer, tau in enumerate(self.diagnosis.spectrum.horizons_tokens()):
            s = np.ones_like(tau) if not self.acts else self.scales.factors[0].values[layer].numpy()
            rows.append({
                "layer": layer,
                "factor_min": float(s.min()),
                "factor_median": float(np.median(s)),
                "factor_max": float(s.max()),
                "share_scaled_over_1.1": float((s > 1.1).mean()),
                "horizon_max_before_tokens": float(tau.max()),
                "horizon_max_after_tokens": float((tau / s).max()),
            })
        return rows


def propose(diagnosis: Diagnosis, *, inputs: Inputs = "coherent", always: bool = False) -> Proposal:
    """Turn a diagnosis into scales of kind ``a``, one factor a head (Mamba-2) or channel and state (Mamba-1).

    Args:
        diagnosis: from ``diagnose``.
        inputs: what is taken to drive slow modes: ``coherent`` (a constant, horizons end at T) or ``noise`` (at 2T).
        always: propose even where the states were seen to stay in range.

    Returns:
        The proposal.
    """
    growth = diagnosis.growth()
    worst = int(growth.argmax())
    times = diagnosis.target_length / diagnosis.train_length
    enough = min(GROWTH_TO_ACT, times**0.5)
    if growth[worst] < enough and not always:
        reason = (
            f"left alone: at {times:g} times the training length no layer's state has grown by {enough:.3g} times "
            f"(most in layer {worst}: {growth[worst]:.2f}), so states stay in the range that training showed"
        )
        return Proposal(Scales(), "none", reason, diagnosis)
    taus = diagnosis.spectrum.horizons_tokens()
    factors = np.stack([soft_clip(1 / tau, diagnosis.train_length, inputs) for tau in taus])
    share = float(np.concatenate([tau.ravel() > diagnosis.train_length for tau in taus]).mean())
    reason = (
        f"{share:.0%} of all modes remember more than the {diagnosis.train_length} tokens of training, and layer "
        f"{worst}'s state has grown {growth[worst]:.1f} times at {times:g} times that length: every horizon is drawn "
        f"in below {'T' if inputs == 'coherent' else '2T'}"
    )
    return Proposal(scaling("a", factors), f"soft clip, {inputs}", reason, diagnosis)


def propose_for(
    model: Model,
    texts: Sequence[Document],
    train_length: int,
    target_length: int,
    *,
    inputs: Inputs = "coherent",
    always: bool = False,
    observers: Sequence[Observer] = (),
) -> Proposal:
    """Diagnose on calibration documents of any length and propose.

    Args:
        model: a loaded model.
        texts: calibration documents; where fewer than half of them reach the length to look at, states are followed
            as far as half of them go, and the diagnosis says so by its own target length.
        train_length: T.
        target_length: L; states are followed to there, or to ``TIMES_TO_SEE`` T if that is more.
        inputs: what drives slow modes.
        always: propose even where the states stay in range.
        observers: see every layer's work on the way.

    Returns:
        The proposal.

    Raises:
        TextError: no document reaches twice the training length.
    """
    usable = [d.ids for d in texts if len(d) >= 2 * train_length]
    if not usable:
        raise TextError(
            f"the calibration texts reach {max((len(d) for d in texts), default=0)} tokens; at least "
            f"{2 * train_length} (twice the training length) are needed to see whether states leave their range: "
            "give longer texts"
        )
    half = int(np.quantile([len(ids) for ids in usable], 0.5, method="lower"))
    reach = min(half, max(target_length, TIMES_TO_SEE * train_length))
    tokens = stack_documents(usable, min(len(ids) for ids in usable if len(ids) >= reach))
    found = diagnose(model, tokens, train_length=train_length, target_length=reach, observers=observers)
    return propose(found, inputs=inputs, always=always)
