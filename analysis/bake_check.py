"""Does a baked checkpoint compute what the scaled model computes? Both run side by side, one layer in memory at a time.

Where a factor went under a gated norm, a third run puts the norm's epsilon right (eps / S^2): it must agree as exactly
as any other fold, and what is left between it and the baked model is the epsilon's doing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambascope.spectra.checkpoint import Checkpoint
from mambascope.spectra.errors import MambascopeError
from mambascope.spectra.layouts import expected_tensors
from mambascope.spectra.mamba2 import Mamba2
from mambascope.spectra.model import Layer
from mambascope.spectra.rmsnorm import RMSNorm
from mambascope.spectra.scales import Scales
from mambascope.spectra.state import LayerState, StreamState
from mambascope.spectra.tokens import Ids

from .folds import LayerFold

LIMIT = 1e-5
"""Largest error of a logit allowed, relative to the largest logit, where nothing was rounded to 16 bits."""


@dataclass(frozen=True, slots=True)
class Check:
    """Baked against scaled logits on a short text."""

    text: str
    """What was read."""
    tokens: int
    """How much of it."""
    dtype: str
    """Precision of both computations."""
    error: float
    """Largest difference of a logit, relative to the largest logit, as the checkpoint loads."""
    fold_error: float
    """The same with the gated norms' epsilon put right; equal to ``error`` where no factor went under a norm."""
    norm_errors: tuple[float, ...]
    """For each layer, largest relative change of a gated norm's output by its epsilon, in closed form."""

    @property
    def stated_error(self) -> float:
        """What the epsilon may cost, relative to the largest logit: the layers' changes added up.

        An estimate from this text, not a bound: every layer at its worst token, none of it damped or amplified. On
        other text the measured error was 0.05 to 0.5 of it (mamba2-tiny and random models, factors 1/8 to 8).
        """
        return sum(self.norm_errors)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"norm_errors": list(self.norm_errors), "stated_error": self.stated_error}


class BakeCheckError(MambascopeError):
    """The baked weights do not compute what the scaled model computes.

    Attributes:
        partial: the measurement.
    """

    exit_code = 4

    def __init__(self, check: Check) -> None:
        super().__init__(
            f"baked and scaled logits differ by {check.fold_error:.2g} of the largest logit on {check.tokens} tokens "
            f"({check.dtype}); at most {LIMIT:g} is expected of these folds. No config.json was written, so nothing "
            "loads the weights: check the checkpoint (mambascope norms) and take less extreme factors"
        )
        self.partial = check


class _EpsNorm(RMSNorm):
    """A gated norm with an epsilon for each group."""

    def __init__(self, norm: RMSNorm, eps: Tensor) -> None:
        super().__init__(norm.weight.shape[0], norm.eps, norm.groups)
        self.weight, self.eps_of_group = norm.weight, eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, (..., width)."""
        grouped = x.reshape(*x.shape[:-1], self.groups, -1)
        mean = (grouped * grouped).mean(-1, keepdim=True)
        return (grouped / torch.sqrt(mean + self.eps_of_group[:, None].to(x.dtype))).flatten(-2) * self.weight


def _layer_of(checkpoint: Checkpoint, index: int, dtype: torch.dtype) -> Layer:
    with torch.device("meta"):
        layer = Layer(checkpoint.config)
    prefix = f"backbone.layers.{index}."
    names = [name for name in expected_tensors(checkpoint.config) if name.startswith(prefix)]
    layer.load_state_dict({n.removeprefix(prefix): checkpoint.read(n).to(dtype) for n in names}, assign=True)
    return layer.requires_grad_(False)


class _Watch:
    """Largest relative change of a norm's output if its epsilon were S^2 eps."""

    def __init__(self, norm: RMSNorm, S: Tensor) -> None:
        self.norm, self.S, self.largest = norm, S, 0.0

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        y = inputs[0].double().reshape(*inputs[0].shape[:-1], self.norm.groups, -1)
        mean = (y * y).mean(-1)  # (batch, length, groups)
        change = torch.sqrt((mean + self.norm.eps) / (mean + self.S**2 * self.norm.eps)) - 1
        self.largest = max(self.largest, float(change.abs().max()))


@torch.no_grad()
def compare(
    source: Checkpoint,
    baked: Checkpoint,
    scales: Scales,
    plan: Sequence[LayerFold],
    ids: Ids,
    *,
    text: str = "ids",
    dtype: torch.dtype = torch.float32,
) -> Check:
    """Run the scaled and the baked model over a short text.

    Args:
        source: the checkpoint that was baked.
        baked: what came out.
        scales: the factors, given to the source at run time.
        plan: how they were folded.
        ids: token ids, (length,).
        text: what they are, for the record.
        dtype: float32 or float64, of weights and states alike.

    Returns:
        The differences.
    """
    config = source.config
    tokens = torch.from_numpy(np.asarray(ids, dtype=np.int64))[None]
    start = StreamState.zeros(config, 1, tokens.device, dtype, dtype)
    runs = {"scaled": source, "baked": baked} | ({"eps": baked} if any(f.write == "norm" for f in plan) else {})
    embedded = source.read("backbone.embedding.weight")[tokens].to(dtype)
    streams = dict.fromkeys(runs, embedded)
    norm_errors = []
    for index, fold in enumerate(plan):
        pair = _layer_of(source, index, dtype), _layer_of(baked, index, dtype)
        norm_errors.append(_pass_layer(*pair, fold, streams, start.layers[index], partial(scales, index, 0)))
        del pair  # or two layers would be held beside the next two, and beside the head
    logits = {name: _logits(each, streams[name]) for name, each in runs.items()}
    largest = logits["scaled"].abs().max()
    errors = {name: float((each - logits["scaled"]).abs().max() / largest) for name, each in logits.items()}
    return Check(
        text, tokens.shape[1], str(dtype).removeprefix("torch."),
        errors["baked"], errors.get("eps", errors["baked"]), tuple(norm_errors),
    )  # fmt: skip


def _pass_layer(
    scaled: Layer, baked: Layer, fold: LayerFold, streams: dict[str, Tensor], state: LayerState, rule: Any
) -> float:
    """Take all streams through one layer; return the largest relative change of a gated norm by its epsilon."""
    watch = None
    if fold.write == "norm" and isinstance(scaled.mixer, Mamba2):
        watch = _Watch(scaled.mixer.norm, fold.dt.view(scaled.mixer.norm.groups, -1)[:, 0])
        scaled.mixer.norm.register_forward_pre_hook(watch)
    streams["scaled"] = _after(scaled, streams["scaled"], state, rule)
    streams["baked"] = _after(baked, streams["baked"], state)
    if "eps" in streams:
        if watch and isinstance(baked.mixer, Mamba2):
            baked.mixer.norm = _EpsNorm(baked.mixer.norm, watch.norm.eps / watch.S**2)
        streams["eps"] = _after(baked, streams["eps"], state)
    return watch.largest if watch else 0.0


def _after(layer: Layer, residual: Tensor, state: LayerState, rule: Any = None) -> Tensor:
    mixed: Tensor = layer.mixer(layer.norm(residual), state, rule)[0]
    return residual + mixed


def _logits(checkpoint: Checkpoint, residual: Tensor) -> Tensor:
    weight = checkpoint.read("backbone.norm_f.weight").to(residual.dtype)
    hidden = F.rms_norm(residual, (residual.shape[-1],), weight, checkpoint.config.norm_eps)
    return hidden @ checkpoint.read("lm_head.weight").to(residual.dtype).T


def check_baked(
    source: Checkpoint,
    baked: Checkpoint,
    scales: Scales,
    plan: Sequence[LayerFold],
    ids: Ids,
    *,
    text: str,
    narrow: bool,
) -> Check:
    """Measure, and refuse a fold that should be exact and is not.

    Args:
        source: the checkpoint that was baked.
        baked: what came out.
        scales: the factors.
        plan: how they were folded.
        ids: token ids.
        text: what they are.
        narrow: folded tensors were rounded to 16 bits, so that nothing can be demanded.

    Returns:
        The differences, in float32; in float64 if float32's own rounding alone exceeds the limit.

    Raises:
        BakeCheckError: not within the limit in either precision.
    """
    check = compare(source, baked, scales, plan, ids, text=text)
    if narrow or check.fold_error <= LIMIT:
        return check
    check = compare(source, baked, scales, plan, ids, text=text, dtype=torch.float64)
    if not check.fold_error <= LIMIT:  # nor if it is NaN
        raise BakeCheckError(check)
    return check
