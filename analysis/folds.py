"""Scaling factors as changes of weights: which tensors of a layer change, how, and how exactly.

Decay: with dt the model's own step sizes, the scan of scaled dynamics decays by exp(dt S A'), where A' is A after the
``a`` and ``a_power`` factors in their order and S the product of all ``dt`` factors, whatever their place in the order:
a power that follows a ``dt`` factor acts on A alone. So A_log becomes (A_log after ``a``: + ln s, after ``a_power``:
* s) + ln S.

Write: the gain dt S B x is linear in B and x, but not in any weight before a softplus or a silu.

* Mamba-1, one S a layer: B is a linear map of x, so its rows of ``x_proj`` are multiplied by S. The states are those
  of the scaled model.
* Mamba-1, an S for every channel: channels share B. The unscaled scan is y / S if D is divided by S, the gate is linear
  in y, so the columns of ``out_proj`` are multiplied by S. The states are those of the scaled model divided by S.
* Mamba-2 without a gated norm: the same, an S for every head.
* Mamba-2 with a gated norm: as far as the norm does not see a common factor. Its groups must each have one S; then
  y / S instead of y makes y / sqrt(mean(y^2) + S^2 eps) of y / sqrt(mean(y^2) + eps).

Source: ours; each is held against the scaled model in tests/analysis/test_bake.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mambascope.spectra.config import Config
from mambascope.spectra.errors import ScaleError
from mambascope.spectra.scales import Kind, Scales

Exactness = Literal["exact", "rounded", "norm_eps"]
"""``exact`` up to the last digits of float32, ``rounded`` to a 16-bit type, ``norm_eps`` but for a norm's epsilon."""
Write = Literal["none", "B", "out_proj", "norm"]
"""Where the write gain went."""

_SAME = 1e-12  # products of float64 factors in another order differ by less


@dataclass(frozen=True, slots=True)
class Fold:
    """How one factor of the scales went into the weights."""

    kind: Kind
    """``a``, ``a_power`` or ``dt``."""
    granularity: str
    """``model``, ``layer``, ``head`` (a head or a channel) or ``state``."""
    smallest: float
    """Smallest of its values."""
    largest: float
    """Largest of its values."""
    exactness: Exactness
    """How near the baked model is to the scaled one."""
    tensors: str
    """Tensors of a mixer that it changes."""
    states: str
    """What the SSM states of the baked model are: ``h`` of the scaled model, or ``h/s``."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LayerFold:
    """What happens to the mixer of one layer."""

    rates: tuple[tuple[Kind, Tensor], ...]
    """``a`` and ``a_power`` factors in their order, float64, () or (dt_width,) or (d_inner, d_state)."""
    dt: Tensor
    """Product S of the ``dt`` factors, float64, (dt_width,)."""
    write: Write
    """Where S of the write goes."""

    def tensors(self) -> tuple[str, ...]:
        """Return the names within the mixer of the tensors that change."""
        names = () if self.write == "none" and not self.rates else ("A_log",)
        if self.write == "B":
            return (*names, "x_proj.weight")
        return (*names, *{"none": (), "norm": ("D",), "out_proj": ("D", "out_proj.weight")}[self.write])

    def apply(self, config: Config, layer: int, name: str, tensor: Tensor) -> Tensor:
        """Fold the factors into one tensor of the mixer.

        Args:
            config: shape of the model.
            layer: index of the layer, for messages.
            name: of the tensor within the mixer.
            tensor: as stored.

        Returns:
            A new tensor of the same type (``A_log``: of float32 at least), or the tensor itself if it does not change.

        Raises:
            ScaleError: the result is too large for its type.
        """
        if name not in self.tensors():
            return tensor
        wide = tensor.double()
        if name == "A_log":
            new = self._A_log(wide)
            tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
            fits = torch.isfinite(new.to(tensor.dtype).exp())
        else:
            new = wide.clone()  # a float64 tensor is widened in place, and may be that of a model in memory
            if name == "D":
                new = new / self._per_channel(config, tensor.shape[0])
            elif name == "out_proj.weight":
                new = new * self._per_channel(config, config.d_inner)
            else:
                new[config.dt_rank : config.dt_rank + config.d_state] *= self.dt[0]
            fits = torch.isfinite(new.to(tensor.dtype))
        if not bool(fits.all()):
            where = tuple((~fits).nonzero()[0].tolist())
            raise ScaleError(
                f"layer {layer}, mixer.{name} at {where}: {float(wide[where]):g} becomes {float(new[where]):g}, "
                f"which {tensor.dtype} cannot hold{' after exp' if name == 'A_log' else ''}; take smaller factors"
            )
        return new.to(tensor.dtype)

    def _A_log(self, wide: Tensor) -> Tensor:
        new, moved = wide, torch.zeros(wide.shape, dtype=torch.bool)
        for kind, s in (*self.rates, ("dt", self.dt)):
            if s.dim() == 1 and wide.dim() == 2:
                s = s[:, None]  # a channel's factor holds for all its states
            new = new * s if kind == "a_power" else new + s.log()
            moved |= s != 1
        return torch.where(moved, new, wide)  # even a zero keeps its sign where nothing is asked for

    def _per_channel(self, config: Config, width: int) -> Tensor:
        return self.dt if width == len(self.dt) else self.dt.repeat_interleave(config.headdim)


def own_write(dt: Tensor, layer: int, config: Config) -> Write:
    """Return where a layer of our own architectures takes its factors on dt.

    Args:
        dt: the factors, not all 1, (nheads,) or (d_inner,).
        layer: index of the layer.
        config: shape of the model.

    Returns:
        What changes beside ``A_log``.

    Raises:
        ScaleError: heads under one gated norm have different factors.
    """
    if config.arch == "mamba":
        return "B" if _one(dt) else "out_proj"
    if not config.rmsnorm:
        return "out_proj"
    for group, of_group in enumerate(dt.view(config.ngroups, -1)):
        if not _one(of_group):
            unit = "layer" if config.ngroups == 1 else f"group of {len(of_group)} heads (here group {group})"
            raise ScaleError(
                f"layer {layer}: dt factors from {float(of_group.min()):g} to {float(of_group.max()):g} under one "
                f"gated norm: it mixes its heads, so only one dt factor for each {unit} can be baked; use one for "
                "each layer, use kind 'a' (every head its own, decay only), or give these at run time (--scales)"
            )
    return "norm"


def plan_folds(
    scales: Scales, config: Config, write: Callable[[Tensor, int, Config], Write] = own_write
) -> tuple[LayerFold, ...]:
    """Find how scales go into the weights of every layer.

    Args:
        scales: the factors.
        config: shape of the model.
        write: says where a layer takes factors on dt, or refuses them, as ``own_write`` does.

    Returns:
        One plan a layer.

    Raises:
        ScaleError: they do not fit the model, or no weights can express them; the message says what would do.
    """
    acting = [f for f in scales.check(config).factors if bool((f.values != 1).any())]
    if late := [f for f in acting if f.onset_tokens > 0]:
        raise ScaleError(
            f"factors of kind {late[0].kind!r} act from token {late[0].onset_tokens} on: weights are the same at every "
            "position, so an onset cannot be baked; propose scales without onset, or give them at run time (--scales)"
        )
    plans = []
    for layer in range(config.n_layer):
        here = [(f.kind, f.values if f.values.dim() == 0 else f.values[layer]) for f in acting]
        rates = tuple((kind, s) for kind, s in here if kind != "dt" and bool((s != 1).any()))
        dt = torch.ones(config.dt_width, dtype=torch.float64)
        for kind, s in here:
            if kind == "dt":
                dt = dt * s
        plans.append(LayerFold(rates, dt, "none" if bool((dt == 1).all()) else write(dt, layer, config)))
    return tuple(plans)


def _one(values: Tensor) -> bool:
    return bool((values.max() - values.min()) <= _SAME * values.max())


def describe_folds(
    scales: Scales, config: Config, plan: tuple[LayerFold, ...], dtypes: Mapping[str, torch.dtype]
) -> tuple[Fold, ...]:
    """Say of each factor what became of it.

    Args:
        scales: the factors.
        config: shape of the model.
        plan: from ``plan_folds``.
        dtypes: stored type of every tensor by its state-spaces name.

    Returns:
        One entry a factor, in their order.
    """
    writes = {fold.write for fold in plan} - {"none"}
    written = [
        f"backbone.layers.{layer}.mixer.{name}"
        for layer, fold in enumerate(plan)
        for name in fold.tensors()
        if name != "A_log"
    ]
    narrow = any(dtypes[name].itemsize < 4 for name in written)
    told = []
    for f in scales.factors:
        tensors, exactness, states = ["A_log"], "exact", "h"
        if bool((f.values == 1).all()):
            tensors = []
        elif f.kind == "dt":
            tensors = sorted({name for fold in plan if fold.write != "none" for name in fold.tensors()})
            exactness = "norm_eps" if "norm" in writes else "rounded" if narrow else "exact"
            states = "h" if writes <= {"B"} else "h/s"
        told.append(
            Fold(
                f.kind, f.granularity, float(f.values.min()), float(f.values.max()),
                exactness, ", ".join(tensors) or "none", states,  # type: ignore[arg-type]
            )
        )  # fmt: skip
    return tuple(told)
