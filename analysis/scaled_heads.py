"""One factor a head from its own training-length statistics, tried on recorded inputs far beyond the training length.

The rule: s on A such that the closed form of the head's second moment at L, at the rate s r, is what the head showed
at T. A head passes if its replayed RMS norm near L lies within ``WITHIN`` of its norm at T. What does not pass is
explained by numbers of the same run near L: the norm of fresh windows of T tokens, unscaled, and the mean step, both
against training windows (inputs or steps that drift), and the error of the measured norm itself (few texts).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambascope.simulate.replay import Change
from mambascope.spectra.dynamics import Intervention
from mambascope.spectra.model import Model, Tokens

from .head_norms import lengths_near
from .norm_forms import DEFAULT_FORM, Form, scale_rule
from .trace_replay import Case, Selection, StepMeans, every_head, replayed_squares
from .write_statistics import WriteMoments

Floats = npt.NDArray[np.float64]

WITHIN = 0.15
"""A head passes if its norm near L differs by no more than this from its norm at T."""


@dataclass(frozen=True, slots=True)
class ScaledHead:
    """One head (Mamba-2) or one channel (Mamba-1, the norm over its d_state modes) under the rule."""

    layer: int
    """Index of the layer."""
    head: int
    """Index of the head or channel."""
    factor: float
    """s on A; of a channel the median over its modes."""
    target: float
    """RMS norm at T in training windows, unscaled."""
    unscaled: float
    """Replayed RMS norm near L over the target, at the model's own rates."""
    scaled: float
    """The same with the factor."""
    fresh: float
    """Replayed RMS norm of windows of T tokens that start fresh near L, unscaled, over the target."""
    steps: float
    """Mean dt near L over mean dt in training windows."""
    error: float
    """Relative standard error of ``scaled`` from the spread over rows."""

    @property
    def passes(self) -> bool:
        """True if the scaled norm is within ``WITHIN`` of the target."""
        return abs(self.scaled - 1) <= WITHIN

    @property
    def reason(self) -> str:
        """Why it does not pass; empty where it does.

        Near L, fresh unscaled windows or the steps themselves may differ from training windows by more than the rest of
        the ratio does; else that rest is within twice its standard error, or it is said to be unexplained (a memory of
        the writes that neither their mean nor white noise has would show so).
        """
        if self.passes:
            return ""
        fresh, steps, rest = (abs(float(np.log(v))) for v in (self.fresh, self.steps, self.scaled / self.fresh))
        if max(fresh, steps) >= rest:
            name = "inputs drift" if fresh >= steps else "steps drift"
        else:
            name = "few effective samples" if rest <= 2 * self.error else "not explained by drift or noise"
        return (
            f"{name}: norm {self.scaled:.2f} of its target, fresh unscaled windows near L {self.fresh:.2f}, "
            f"steps there {self.steps:.2f} of those in training windows, error {self.error:.0%}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class ScaledHeads:
    """All tried heads of a model."""

    name: str
    """Model's name."""
    train_length: int
    """T in tokens."""
    target_length: int
    """L in tokens."""
    form: Form
    """Closed form behind the rule."""
    heads: tuple[ScaledHead, ...]
    """By layer and index."""
    modes_within: float
    """Share of single modes within ``WITHIN`` of their targets; for Mamba-2 a mode is a head."""

    @property
    def share_within(self) -> float:
        """Share of heads that pass."""
        return float(np.mean([head.passes for head in self.heads]))

    def exceptions(self) -> list[ScaledHead]:
        """Return the heads that do not pass."""
        return [head for head in self.heads if not head.passes]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        rows = [
            {name: getattr(head, name) for name in (*ScaledHead.__slots__, "passes", "reason")} for head in self.heads
        ]
        summary = {"share_within": self.share_within, "modes_within": self.modes_within, "form": self.form}
        lengths = {"train_length": self.train_length, "target_length": self.target_length}
        reasons = Counter(head.reason.split(":")[0] for head in self.exceptions())
        return {"name": self.name, **lengths, **summary, "reasons": dict(reasons), "heads": rows}


def scaled_heads(
    model: Model,
    tokens: Tokens,
    moments: Sequence[WriteMoments],
    target_length: int,
    *,
    selection: Selection | None = None,
    upstream: Intervention | None = None,
    form: Form = DEFAULT_FORM,
) -> ScaledHeads:
    """Replay heads with the rule's factors on the inputs of a run, and compare with their norms at T.

    Args:
        model: a loaded model.
        tokens: ids, (rows, at least the target length), each read from a fresh state.
        moments: from ``write_moments``, of the model without intervention.
        target_length: L.
        selection: heads or channels by layer. Default: all.
        upstream: what the model runs with while the traces are recorded: with scales that keep its states in range the
            heads' inputs stay what they were in training windows. Default: nothing, the model as it is.
        form: closed form behind the rule.

    Returns:
        One result a head, each norm averaged in the square over rows and over lengths near L.
    """
    selection = every_head(model) if selection is None else selection
    T, stops = moments[0].train_length, lengths_near(target_length, moments[0].train_length)
    chosen = {i: np.arange(moments[i].rate.shape[0]) if h is None else np.asarray(h) for i, h in selection.items()}
    factors = {i: scale_rule(moments[i], target_length, form)[heads] for i, heads in chosen.items()}
    cases = {
        "unscaled": Case(),
        "scaled": Case({i: [Change("a", s)] for i, s in factors.items()}),
        "fresh": Case(restart_every=T),
    }
    steps = StepMeans(stops[0] - T)
    squares = replayed_squares(model, tokens, cases, stops, selection=selection, upstream=upstream, observers=[steps])
    results: list[ScaledHead] = []
    within: list[Floats] = []
    for i, heads in sorted(chosen.items()):
        of = {name: s[i] for name, s in squares.items()}
        target = moments[i].squares[-1][heads]
        within.append(np.abs(np.sqrt(of["scaled"].mean((0, 1)) / target) - 1) <= WITHIN)
        results += _heads(i, heads, factors[i], target, of, (steps.mean(i) / moments[i].mean_dt)[heads])
    share = float(np.concatenate([each.ravel() for each in within]).mean())
    return ScaledHeads(model.name, T, target_length, form, tuple(results), share)


def _heads(
    layer: int,
    heads: npt.NDArray[np.intp],
    factor: Floats,
    target: Floats,
    squares: Mapping[str, Floats],
    steps: Floats,
) -> list[ScaledHead]:
    if factor.ndim == 2:  # Mamba-1: from modes to channels
        factor, target = np.median(factor, axis=-1), target.sum(-1)
        squares = {name: s.sum(-1) for name, s in squares.items()}
    ratio = {name: np.sqrt(s.mean((0, 1)) / target) for name, s in squares.items()}
    rows = squares["scaled"].mean(0)  # (rows, heads)
    error = rows.std(0, ddof=1) / np.sqrt(len(rows)) / rows.mean(0) / 2
    columns = (heads, factor, np.sqrt(target), ratio["unscaled"], ratio["scaled"], ratio["fresh"], steps, error)
    return [ScaledHead(layer, int(h), *map(float, rest)) for h, *rest in zip(*columns, strict=True)]
