"""Matrix products and sums of a forward pass: those of torch, with a say in where the result lies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .compiled.recycled import recycled
from .scan.choice import needs_gradient, runs_compiled


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer as it would be called; a plain one writes into recycled memory.

    Args:
        layer: the layer; one that is watched by hooks, or of another class, is called.
        x: (batch, length, in_features).

    Returns:
        (batch, length, out_features).
    """
    plain = type(layer) is nn.Linear and type(layer.weight) is nn.Parameter and layer.bias is None
    watched = layer._forward_hooks or layer._forward_pre_hooks
    if plain and not watched and _may_recycle(x, layer.weight):
        return _product(x, layer.weight)
    out: Tensor = layer(x)
    return out


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return x weight^T, x (batch, length, in_features), weight (out_features, in_features)."""
    return _product(x, weight) if _may_recycle(x, weight) else x @ weight.T


def _product(x: Tensor, weight: Tensor) -> Tensor:
    out = recycled((*x.shape[:-1], weight.shape[0]))
    torch.mm(x.reshape(-1, x.shape[-1]), weight.T, out=out.view(-1, weight.shape[0]))
    return out


def added(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y, of one shape."""
    return torch.add(x, y, out=recycled(x.shape)) if _may_recycle(x, y) else x + y


def _may_recycle(x: Tensor, y: Tensor) -> bool:
    """Return whether a result in float32 is for the CPU and no gradient goes through it."""
    return runs_compiled(x) and runs_compiled(y) and not needs_gradient((x, y))
