"""What follows a scan: D skip, gate by SiLU and, in Mamba-2, RMSNorm over groups of channels, with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..scan.choice import needs_gradient
from .first_derivative import first_derivative
from .jit import jit
from .lanes import sigmoid
from .recycled import recycled
from .rms_norm import inverse_rms
from .strides import array, empty, rows, zeros
from .threads import WORTH_A_THREAD, share


@jit
def _gated(y, x, z, D, out):  # type: ignore[no-untyped-def]
    for c in range(out.shape[0]):
        out[c] = (y[c] + D[c] * x[c]) * (z[c] * sigmoid(z[c]))


@jit
def _forward(first, last, ys, y_batch, y_row, xs, x_batch, x_row, zs, z_batch, z_row, D, weight, groups, eps, out):  # type: ignore[no-untyped-def]
    """A round is a token of a row. An empty weight: no norm."""
    length, C = out.shape[1:]
    for each in range(first, last):
        b, t = each // length, each % length
        y0, x0, z0, out_t = b * y_batch + t * y_row, b * x_batch + t * x_row, b * z_batch + t * z_row, out[b, t]
        _gated(ys[y0 : y0 + C], xs[x0 : x0 + C], zs[z0 : z0 + C], D, out_t)
        if weight.shape[0]:
            width = C // groups
            for group in range(0, C, width):
                part, weight_part = out_t[group : group + width], weight[group : group + width]
                scale = inverse_rms(part, eps)
                for c in range(width):
                    part[c] *= scale * weight_part[c]


@jit
def _backward(first, last, ys, y_batch, y_row, xs, x_batch, x_row, zs, z_batch, z_row, D, weight, groups, eps, d_out, d_y, d_x, d_z, d_D, d_weight):  # type: ignore[no-untyped-def] # fmt: skip # noqa: E501
    """Write the gradients; those of D and of the weight for each row. A round is a row."""
    length, C = d_out.shape[1:]
    v, d_v = np.empty(C, np.float32), np.empty(C, np.float32)
    one = np.float32(1.0)
    for b in range(first, last):
        d_D_b, d_weight_b = d_D[b], d_weight[b]
        for t in range(length):
            y0, x0, z0 = b * y_batch + t * y_row, b * x_batch + t * x_row, b * z_batch + t * z_row
            y, x, z, d_out_t = ys[y0 : y0 + C], xs[x0 : x0 + C], zs[z0 : z0 + C], d_out[b, t]
            d_y_t, d_x_t, d_z_t = d_y[b, t], d_x[b, t], d_z[b, t]
            if weight.shape[0]:
                _gated(y, x, z, D, v)
                width = C // groups
                for group in range(0, C, width):
                    stop = group + width
                    v_g, d_v_g, weight_g, d_out_g = (
                        v[group:stop],
                        d_v[group:stop],
                        weight[group:stop],
                        d_out_t[group:stop],
                    )
                    scale, overlap = inverse_rms(v_g, eps), np.float32(0.0)
                    for c in range(width):
                        overlap += v_g[c] * weight_g[c] * d_out_g[c]
                    shrink = overlap * scale * scale / np.float32(width)
                    for c in range(width):
                        d_v_g[c] = scale * (weight_g[c] * d_out_g[c] - shrink * v_g[c])
                    if d_weight.shape[1]:
                        d_weight_g = d_weight_b[group:stop]
                        for c in range(width):
                            d_weight_g[c] += d_out_g[c] * v_g[c] * scale
            else:
                for c in range(C):
                    d_v[c] = d_out_t[c]
            for c in range(C):
                s, u = sigmoid(z[c]), y[c] + D[c] * x[c]
                d_u = d_v[c] * z[c] * s
                d_y_t[c] = d_u
                d_x_t[c] = D[c] * d_u
                d_z_t[c] = d_v[c] * u * s * (one + z[c] * (one - s))
            if d_D.shape[1]:
                for c in range(C):
                    d_D_b[c] += d_y_t[c] * x[c]


def _inputs(y: Tensor, x: Tensor, z: Tensor, D: Tensor, weight: Tensor, groups: int, eps: float) -> tuple[Any, ...]:
    return *rows(y), *rows(x), *rows(z), array(D), array(weight), groups, eps


def _run(out: Tensor, *inputs: Any) -> Tensor:
    share(_forward, out.shape[0] * out.shape[1], *_inputs(*inputs), out.numpy(), at_least=WORTH_A_THREAD)
    return out


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        ctx.save_for_backward(*inputs[:5])
        ctx.rest = inputs[5:]
        return _run(empty(inputs[0].shape), *inputs)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        y, x, z, D, weight = ctx.saved_tensors
        batch, (wants_D, wants_weight) = y.shape[0], ctx.needs_input_grad[3:5]
        d_y, d_x, d_z = (empty(y.shape) for _ in range(3))
        d_D = zeros(batch, D.shape[0] if wants_D else 0)
        d_weight = zeros(batch, weight.shape[0] if wants_weight else 0)
        gradients = (v.numpy() for v in (d_y, d_x, d_z, d_D, d_weight))
        share(_backward, batch, *_inputs(y, x, z, D, weight, *ctx.rest), array(d_out), *gradients)
        sums = d_D.sum(0) if wants_D else None, d_weight.sum(0) if wants_weight else None
        return d_y, d_x, d_z, *sums, None, None


def gate(
    y: Tensor, x: Tensor, z: Tensor, D: Tensor, weight: Tensor | None = None, groups: int = 1, eps: float = 0.0
) -> Tensor:
    """Return norm((y + D x) silu(z)).

    Args:
        y: outputs of the scan, (batch, length, d_inner).
        x: inputs of the scan, same shape.
        z: gates, same shape.
        D: skip of each channel, (d_inner,).
        weight: of the RMSNorm, (d_inner,); None for no norm.
        groups: parts of the channels that are normalised each.
        eps: added to the mean square.

    Returns:
        Same shape.
    """
    tensors = (y, x, z, D, empty(0) if weight is None else weight)
    if needs_gradient(tensors):
        out: Tensor = _Gate.apply(*tensors, groups, eps)  # type: ignore[no-untyped-call]
        return out
    return _run(recycled(y.shape), *tensors, groups, eps)
