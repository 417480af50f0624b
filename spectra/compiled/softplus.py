"""Softplus of step sizes, with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..scan.choice import needs_gradient
from .first_derivative import first_derivative
from .jit import jit
from .lanes import sigmoid, softplus
from .recycled import recycled
from .strides import array, empty
from .threads import WORTH_A_THREAD, share


@jit
def _forward(first, last, raw, bias, out):  # type: ignore[no-untyped-def]
    for t in range(first, last):
        raw_t, out_t = raw[t], out[t]
        for c in range(bias.shape[0]):
            out_t[c] = softplus(raw_t[c] + bias[c])


@jit
def _backward(first, last, raw, bias, d_out, d_raw):  # type: ignore[no-untyped-def]
    for t in range(first, last):
        raw_t, d_out_t, d_raw_t = raw[t], d_out[t], d_raw[t]
        for c in range(bias.shape[0]):
            d_raw_t[c] = d_out_t[c] * sigmoid(raw_t[c] + bias[c])


def _over_rows(loop: Any, out: Tensor, raw: Tensor, bias: Tensor, *others: Tensor) -> Tensor:
    width = bias.shape[0]
    flat = [array(v).reshape(-1, width) for v in (raw, *others)]
    share(
        loop,
        flat[0].shape[0],
        flat[0],
        array(bias),
        *flat[1:],
        out.view(-1, width).numpy(),
        at_least=WORTH_A_THREAD,
    )
    return out


class _Softplus(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, raw: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(raw, bias)
        return _over_rows(_forward, empty(raw.shape), raw, bias)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor | None]:
        raw, bias = ctx.saved_tensors
        d_raw = _over_rows(_backward, empty(raw.shape), raw, bias, d_out)
        return d_raw, d_raw.view(-1, bias.shape[0]).sum(0) if ctx.needs_input_grad[1] else None


def biased_softplus(raw: Tensor, bias: Tensor) -> Tensor:
    """Return softplus(raw + bias).

    Args:
        raw: (..., width).
        bias: (width,).

    Returns:
        Shape of ``raw``.
    """
    if needs_gradient((raw, bias)):
        out: Tensor = _Softplus.apply(raw, bias)  # type: ignore[no-untyped-call]
        return out
    return _over_rows(_forward, recycled(raw.shape), raw, bias)
