"""RMSNorm over the last dimension, with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..scan.choice import needs_gradient
from .first_derivative import first_derivative
from .jit import jit
from .recycled import recycled
from .strides import array, empty, zeros
from .threads import WORTH_A_THREAD, share


@jit
def inverse_rms(v, eps):  # type: ignore[no-untyped-def]
    """Return 1 / sqrt(mean(v^2) + eps)."""
    total = np.float32(0.0)
    for c in range(v.shape[0]):
        total += v[c] * v[c]
    return np.float32(1.0) / np.sqrt(total / np.float32(v.shape[0]) + np.float32(eps))


@jit
def _forward(first, last, x, weight, eps, out):  # type: ignore[no-untyped-def]
    for t in range(first, last):
        x_t, out_t = x[t], out[t]
        scale = inverse_rms(x_t, eps)
        for c in range(weight.shape[0]):
            out_t[c] = x_t[c] * scale * weight[c]


@jit
def _backward(first, last, x, weight, eps, d_out, d_x, d_weight):  # type: ignore[no-untyped-def]
    """A round is a part of the tokens with a row of ``d_weight``; nothing is added there if it has no width."""
    parts = d_weight.shape[0]
    for part in range(first, last):
        d_weight_part = d_weight[part]
        for t in range(x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts):
            x_t, d_out_t, d_x_t = x[t], d_out[t], d_x[t]
            scale, overlap = inverse_rms(x_t, eps), np.float32(0.0)
            for c in range(weight.shape[0]):
                overlap += x_t[c] * weight[c] * d_out_t[c]
            shrink = overlap * scale * scale / np.float32(weight.shape[0])
            for c in range(weight.shape[0]):
                d_x_t[c] = scale * (weight[c] * d_out_t[c] - shrink * x_t[c])
            if d_weight.shape[1]:
                for c in range(weight.shape[0]):
                    d_weight_part[c] += d_out_t[c] * x_t[c] * scale


def _run(x: Tensor, weight: Tensor, eps: float, out: Tensor) -> Tensor:
    width = weight.shape[0]
    flat = array(x).reshape(-1, width)
    share(_forward, flat.shape[0], flat, array(weight), eps, out.view(-1, width).numpy(), at_least=WORTH_A_THREAD)
    return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return _run(x, weight, eps, empty(x.shape))

    @staticmethod
    @first_derivative
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        width, wanted = weight.shape[0], ctx.needs_input_grad[1]
        flat, d_x = array(x).reshape(-1, width), empty(x.shape)
        parts = max(1, min(8, flat.shape[0] // WORTH_A_THREAD))  # a fixed number: same sums with any threads
        d_weight = zeros(parts, width if wanted else 0)
        outputs = d_x.view(-1, width).numpy(), d_weight.numpy()
        share(_backward, parts, flat, array(weight), ctx.eps, array(d_out).reshape(-1, width), *outputs)
        return d_x, d_weight.sum(0) if wanted else None, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return weight x / sqrt(mean(x^2) + eps).

    Args:
        x: (..., width).
        weight: (width,).
        eps: added to the mean square.

    Returns:
        Shape of ``x``.
    """
    if needs_gradient((x, weight)):
        out: Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
        return out
    return _run(x, weight, eps, recycled(x.shape))
