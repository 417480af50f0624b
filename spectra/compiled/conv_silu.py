"""Depthwise causal convolution of at most four taps followed by SiLU, with gradients."""

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
from .strides import array, empty, rows, zeros
from .threads import WORTH_A_THREAD, share

TAPS = 4
"""Most taps; fewer get zeros in front."""


@jit
def _before_silu(xs, x0, x_row, before, b, t, taps, bias, out):  # type: ignore[no-untyped-def]
    """Write bias + sum_k taps_k x_(t-3+k) of one token; what lies before the block comes from ``before``."""
    C = bias.shape[0]
    r0 = xs[x0 + (t - 3) * x_row : x0 + (t - 3) * x_row + C] if t >= 3 else before[b, t]
    r1 = xs[x0 + (t - 2) * x_row : x0 + (t - 2) * x_row + C] if t >= 2 else before[b, t + 1]
    r2 = xs[x0 + (t - 1) * x_row : x0 + (t - 1) * x_row + C] if t >= 1 else before[b, t + 2]
    r3 = xs[x0 + t * x_row : x0 + t * x_row + C]
    w0, w1, w2, w3 = taps[0], taps[1], taps[2], taps[3]
    for c in range(C):
        out[c] = bias[c] + (w0[c] * r0[c] + w1[c] * r1[c] + (w2[c] * r2[c] + w3[c] * r3[c]))


@jit
def _forward(first, last, xs, x_batch, x_row, before, taps, bias, out):  # type: ignore[no-untyped-def]
    """A round is a token of a row."""
    length = out.shape[1]
    for each in range(first, last):
        b, t = each // length, each % length
        y = out[b, t]
        _before_silu(xs, b * x_batch, x_row, before, b, t, taps, bias, y)
        for c in range(y.shape[0]):
            y[c] *= sigmoid(y[c])


@jit
def _backward(first, last, xs, x_batch, x_row, before, taps, bias, d_out, d_x, d_before, d_taps, d_bias):  # type: ignore[no-untyped-def]
    """Write the gradients; those of the taps and the bias for each row. A round is a row."""
    length, C = d_out.shape[1:]
    through = np.empty((length + 3, C), np.float32)  # gradient before the SiLU; none behind the block
    through[length:] = np.float32(0.0)
    w0, w1, w2, w3 = taps[0], taps[1], taps[2], taps[3]
    for b in range(first, last):
        d_bias_b, d0, d1, d2, d3 = d_bias[b], d_taps[b, 0], d_taps[b, 1], d_taps[b, 2], d_taps[b, 3]
        x0 = b * x_batch
        for t in range(length):
            g, d_out_t = through[t], d_out[b, t]
            _before_silu(xs, x0, x_row, before, b, t, taps, bias, g)
            for c in range(C):
                s = sigmoid(g[c])
                g[c] = d_out_t[c] * (s + g[c] * s * (np.float32(1.0) - s))
            r0 = xs[x0 + (t - 3) * x_row : x0 + (t - 3) * x_row + C] if t >= 3 else before[b, t]
            r1 = xs[x0 + (t - 2) * x_row : x0 + (t - 2) * x_row + C] if t >= 2 else before[b, t + 1]
            r2 = xs[x0 + (t - 1) * x_row : x0 + (t - 1) * x_row + C] if t >= 1 else before[b, t + 2]
            r3 = xs[x0 + t * x_row : x0 + t * x_row + C]
            if d_bias.shape[1]:
                for c in range(C):
                    d_bias_b[c] += g[c]
                    d0[c] += g[c] * r0[c]
                    d1[c] += g[c] * r1[c]
                    d2[c] += g[c] * r2[c]
                    d3[c] += g[c] * r3[c]
        for t in range(-3, length):
            d = d_x[b, t] if t >= 0 else d_before[b, t + 3]
            g0, g1, g2, g3 = through[t], through[t + 1], through[t + 2], through[t + 3]
            if t >= 0:
                for c in range(C):
                    d[c] = w3[c] * g0[c] + w2[c] * g1[c] + (w1[c] * g2[c] + w0[c] * g3[c])
            else:  # tokens of the block that reach back: t + 1 .. t + 3 from 0 on
                for c in range(C):
                    d[c] = w0[c] * g3[c]
                    if t >= -2:
                        d[c] += w1[c] * g2[c]
                    if t == -1:
                        d[c] += w2[c] * g1[c]


class _ConvSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, before: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, before, taps, bias)
        return _run(x, before, taps, bias, empty(x.shape))

    @staticmethod
    @first_derivative
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        x, before, taps, bias = ctx.saved_tensors
        batch, wanted = x.shape[0], ctx.needs_input_grad[2] or ctx.needs_input_grad[3]
        d_x, d_before = empty(x.shape), empty(before.shape)
        d_taps = zeros(batch, TAPS, bias.shape[0])
        d_bias = zeros(batch, bias.shape[0] if wanted else 0)
        share(
            _backward, batch, *rows(x), array(before), array(taps), array(bias), array(d_out),
            *(v.numpy() for v in (d_x, d_before, d_taps, d_bias)),
        )  # fmt: skip
        return d_x, d_before, *((d_taps.sum(0), d_bias.sum(0)) if wanted else (None, None))


def _run(x: Tensor, before: Tensor, taps: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    arguments = *rows(x), array(before), array(taps), array(bias), out.numpy()
    share(_forward, x.shape[0] * x.shape[1], *arguments, at_least=WORTH_A_THREAD)
    return out


def conv_silu(x: Tensor, before: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve a block that follows other inputs, then apply SiLU.

    Args:
        x: inputs, (batch, length, channels).
        before: the inputs before the block, (batch, d_conv - 1, channels).
        taps: weights, the last one for the token itself, (d_conv, channels), d_conv <= 4.
        bias: added before the SiLU, (channels,).

    Returns:
        Outputs, (batch, length, channels).
    """
    missing = TAPS - taps.shape[0]
    if missing:
        taps = torch.nn.functional.pad(taps, (0, 0, missing, 0))
        before = torch.nn.functional.pad(before, (0, 0, missing, 0))
    bias = zeros(taps.shape[1]) if bias is None else bias
    tensors = (x, before, taps, bias)
    if needs_gradient(tensors):
        out: Tensor = _ConvSilu.apply(*tensors)  # type: ignore[no-untyped-call]
        return out
    return _run(*tensors, recycled(x.shape))
