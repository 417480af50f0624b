r"""Rules that give every mode its own factor, from the mode's own numbers; each takes the evidence, returns scales.

All but ``winsorize`` draw in (or lengthen) horizons until a mode's norm beyond T is what training showed at T. They
differ in what they take the mode to be driven by, and in what they may change: the rate |A| (kind ``a``), or rate and
step together. Source: ``mambascope.simulate.modes.soft_clip``, ``scale_rules``; ``norm_forms.scale_rule``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mambascope.simulate.modes import Inputs, energy_gain, mean_gain, soft_clip
from mambascope.simulate.roots import solve_factor
from mambascope.simulate.scale_rules import joint_rule, onset_rule
from mambascope.spectra.scales import Scales, scaling

from .evidence import Evidence, LayerEvidence

Floats = npt.NDArray[np.float64]

_FASTEST = 50.0  # a rate at which nothing is left of a token by the next one


def no_scales(evidence: Evidence) -> Scales:
    """Change nothing."""
    return Scales()


def soft_clip_rule(evidence: Evidence, inputs: Inputs = "coherent") -> Scales:
    """Draw tau in to tau (1 - e^{-T/tau}): below T if a constant drives the mode, below 2T (and with 2T) if noise."""
    of_layers = [soft_clip(1 / layer.horizon_tokens, evidence.train_length, inputs) for layer in evidence.layers]
    return scaling("a", np.stack(of_layers))


def noise_clip_rule(evidence: Evidence) -> Scales:
    """Apply the soft clip for modes driven by noise."""
    return soft_clip_rule(evidence, "noise")


def hard_clip_rule(evidence: Evidence, times: float = 1.0) -> Scales:
    """Draw horizons beyond ``times`` T in to ``times`` T and leave the others as they are."""
    longest = times * evidence.train_length
    return scaling("a", np.stack([np.maximum(1.0, layer.horizon_tokens / longest) for layer in evidence.layers]))


def _rate_for(layer: LayerEvidence, gain: Floats, train_length: int, target_length: float) -> Floats:
    """Factor on a mode's rate that keeps its second moment, its writes being multiplied by ``gain``; 1 if none does."""
    c, q = layer.parts()
    r = 1 / layer.horizon_tokens

    def size(rate: Floats, steps: float) -> Floats:
        return np.asarray(c * mean_gain(rate, steps) ** 2 + q * energy_gain(rate, steps))

    goal = size(r, train_length)
    one = np.ones_like(r)
    root = solve_factor(lambda s: gain**2 * size(s * r, target_length), goal, one, np.maximum(_FASTEST / r, 1.0))
    return root.factor


def solved_rule(evidence: Evidence) -> Scales:
    """Solve for the factor that keeps a mode's predicted norm at L at its norm at T, with its measured coherence."""
    T, L = evidence.train_length, evidence.target_length
    one = np.ones(())
    return scaling("a", np.stack([_rate_for(layer, one, T, L) for layer in evidence.layers]))


def joint_head_rule(evidence: Evidence) -> Scales:
    """Match mean and variance of every mode at once with a factor on dt and one on A."""
    # Mamba-1 has one dt for the states of a channel: it gets the geometric mean of their gains, and every state the
    # rate that keeps its second moment with that gain
    return _joint(evidence, axis=-1 if evidence.layers[0].rate.ndim == 2 else None)


def joint_layer_rule(evidence: Evidence) -> Scales:
    """Match like ``joint_head_rule`` with one factor on dt a layer, the geometric mean of its modes' gains."""
    return _joint(evidence, axis=tuple(range(evidence.layers[0].rate.ndim)))


def _joint(evidence: Evidence, axis: int | tuple[int, ...] | None) -> Scales:
    T, L = evidence.train_length, evidence.target_length
    gains, factors = [], []
    for layer in evidence.layers:
        exact = joint_rule(1 / layer.horizon_tokens, T, L)
        if axis is None:  # one gain a mode: exact for every coherence
            gains.append(exact.dt)
            factors.append(exact.a)
            continue
        gain = np.exp(np.log(exact.gain).mean(axis, keepdims=True))
        gains.append(gain.squeeze(axis))
        factors.append(_rate_for(layer, gain, T, L) / gain)
    return scaling("dt", np.stack(gains)).then(scaling("a", np.stack(factors)))


def onset_head_rule(evidence: Evidence) -> Scales:
    """Leave the first T tokens as they are; from then on hold every mode at the size it has reached."""
    T = evidence.train_length
    of_layers = [onset_rule("a", 1 / layer.horizon_tokens, T, layer.kappa).a for layer in evidence.layers]
    return scaling("a", np.stack(of_layers), onset_tokens=T)


def winsorized(rate: Floats, percent: float) -> Floats:
    """Factor on rates whose decays e^{-rate} lie outside a layer's percentiles, moving them onto these."""
    loss = -np.expm1(-rate)  # 1 - decay keeps digits where a decay is near 1
    low, high = np.percentile(loss, (percent, 100 - percent))
    new = np.where(loss < low, -np.log1p(-low), rate)
    return np.asarray(np.where(loss > high, -np.log1p(-min(high, 1 - 1e-16)), new) / rate)


def winsorize_rule(evidence: Evidence, percent: float = 5.0) -> Scales:
    """Clip each layer's true decays e^{-|A| E dt} at their percentiles from below and above."""
    return scaling("a", np.stack([winsorized(1 / layer.horizon_tokens, percent) for layer in evidence.layers]))


def winsorize_static_rule(evidence: Evidence, percent: float = 5.0) -> Scales:
    """Clip each layer's e^{-|A|} at its percentiles: as published, blind to step sizes."""
    return scaling("a", np.stack([winsorized(layer.rate, percent) for layer in evidence.layers]))
