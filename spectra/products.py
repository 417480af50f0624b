"""Matrix products and sums of a forward pass: those of torch, with a say in where the result lies."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from .compiled.recycled import recycled
from .scan.choice import needs_gradient, runs_compiled


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer; into recycled memory where a call of it would do no more than a product.

    Args:
        layer: the layer; called where it has a bias, or where someone watches or has replaced it or its call.
        x: (batch, length, in_features).

    Returns:
        (batch, length, out_features).
    """
    if _is_product(layer) and _may_recycle(x, layer.weight):
        return _product(x, layer.weight)
    out: Tensor = layer(x)
    return out


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return x weight^T, x (batch, length, in_features), weight (out_features, in_features)."""
    return _product(x, weight) if _may_recycle(x, weight) else x @ weight.T


def added(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y, of one shape."""
    return torch.add(x, y, out=recycled(x.shape)) if _may_recycle(x, y) else x + y


def zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return zeros, where loops are compiled in memory that what comes after them can take over."""
    if runs_compiled(torch.empty(0, device=device, dtype=dtype)):
        return recycled(shape).zero_()
    return torch.zeros(shape, device=device, dtype=dtype)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    out = recycled((*x.shape[:-1], weight.shape[0]))
    torch.mm(x.reshape(-1, x.shape[-1]), weight.T, out=out.view(-1, weight.shape[0]))
    return out


def _may_recycle(x: Tensor, y: Tensor) -> bool:
    """Return whether an operation's result is float32 on the CPU, and nothing follows that knows no ``out=``."""
    plain = all(type(each) in {Tensor, nn.Parameter} for each in (x, y))
    followed = needs_gradient((x, y)) or torch.is_autocast_enabled("cpu")
    return plain and runs_compiled(x) and runs_compiled(y) and not followed


def _is_product(layer: nn.Linear) -> bool:
    return is_untouched(layer, nn.Linear) and layer.bias is None


def is_untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a call of a module does what its class says and nobody watches, so that it may be left out."""
    watched = (
        module._forward_hooks
        or module._forward_pre_hooks
        or torch_modules._global_forward_hooks
        or torch_modules._global_forward_pre_hooks
    )
    replaced = type(module) is not kind or "forward" in vars(module) or module._compiled_call_impl is not None
    return not watched and not replaced
