"""Diagonal (Mamba-1) scan for the CPU, with gradients: exp, recurrence and readout in one pass.

Channels lie along the vector lanes, so the state is held as (d_state, channels); channels go in groups whose state and
rates stay in the first-level cache. Nothing of size (length x channels x state) exists: the backward pass keeps the
state every few tokens and recomputes what lies between.

Source of the recurrence: Gu and Dao 2023, Algorithm 2; the gradient is tested against float64 autograd.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..compiled.first_derivative import first_derivative
from ..compiled.jit import jit
from ..compiled.lanes import LOG2, LOG2E, exp2
from ..compiled.recycled import recycled
from ..compiled.strides import array, empty, rows, zeros
from ..compiled.threads import WORTH_A_THREAD, share
from .choice import needs_gradient

_CHANNELS = 256  # of a group
_KEEP = 32  # tokens between kept states


@jit
def _forward(first_group, last_group, xs, x_batch, x_row, dt, gain, rate, Bs, B_batch, B_row, Cs, C_batch, C_row, h, y, kept):  # type: ignore[no-untyped-def] # fmt: skip # noqa: E501
    """Write y and the last state into h; keep h every ``_KEEP`` tokens if ``kept`` has room.

    A round is a group of channels of a row.
    """
    length, channels = dt.shape[1:]
    d_state = rate.shape[0]
    groups = (channels + _CHANNELS - 1) // _CHANNELS
    u = np.empty(_CHANNELS, np.float32)
    for each in range(first_group, last_group):
        b, first = each // groups, each % groups * _CHANNELS
        last = min(first + _CHANNELS, channels)
        w = last - first
        for t in range(length):
            if kept.shape[1] and t % _KEEP == 0:
                kept[b, t // _KEEP, :, first:last] = h[b, :, first:last]
            dt_t, gain_t, y_t = dt[b, t, first:last], gain[b, t, first:last], y[b, t, first:last]
            x_t = xs[b * x_batch + t * x_row + first : b * x_batch + t * x_row + last]
            B_t, C_t = Bs[b * B_batch + t * B_row :], Cs[b * C_batch + t * C_row :]
            for c in range(w):
                u[c] = gain_t[c] * x_t[c]
                y_t[c] = np.float32(0.0)
            for n in range(d_state):
                h_n, rate_n, B_n, C_n = h[b, n, first:last], rate[n, first:last], B_t[n], C_t[n]
                for c in range(w):
                    v = exp2(dt_t[c] * rate_n[c]) * h_n[c] + B_n * u[c]
                    h_n[c] = v
                    y_t[c] += C_n * v


@jit
def _backward(first_row, last_row, xs, x_batch, x_row, dt, gain, rate, Bs, B_batch, B_row, Cs, C_batch, C_row, kept, dy, dh, d_x, d_dt, d_gain, d_rate, d_B, d_C):  # type: ignore[no-untyped-def] # fmt: skip # noqa: E501
    """Write all gradients; dh enters as the gradient of the last state and leaves as that of the first.

    A round is a row.
    """
    length, channels = dt.shape[1:]
    d_state = rate.shape[0]
    hs = np.empty((_KEEP + 1, d_state, _CHANNELS), np.float32)
    es = np.empty((_KEEP, d_state, _CHANNELS), np.float32)
    u = np.empty((_KEEP, _CHANNELS), np.float32)
    d_u = np.empty(_CHANNELS, np.float32)
    log2 = np.float32(LOG2)
    for b in range(first_row, last_row):
        for first in range(0, channels, _CHANNELS):
            last = min(first + _CHANNELS, channels)
            w = last - first
            for part in range((length - 1) // _KEEP, -1, -1):
                t0 = part * _KEEP
                steps = min(_KEEP, length - t0)
                hs[0, :, :w] = kept[b, part, :, first:last]
                for k in range(steps):
                    t = t0 + k
                    x_t = xs[b * x_batch + t * x_row + first : b * x_batch + t * x_row + last]
                    gain_t, dt_t, B_t = gain[b, t, first:last], dt[b, t, first:last], Bs[b * B_batch + t * B_row :]
                    for c in range(w):
                        u[k, c] = gain_t[c] * x_t[c]
                    for n in range(d_state):
                        B_n, rate_n = B_t[n], rate[n, first:last]
                        before, after, e_n, u_k = hs[k, n], hs[k + 1, n], es[k, n], u[k]
                        for c in range(w):
                            e = exp2(dt_t[c] * rate_n[c])
                            e_n[c] = e
                            after[c] = e * before[c] + B_n * u_k[c]
                for k in range(steps - 1, -1, -1):
                    t = t0 + k
                    dy_t, dt_t, u_k = dy[b, t, first:last], dt[b, t, first:last], u[k]
                    d_dt_t, d_x_t, d_gain_t = d_dt[b, t, first:last], d_x[b, t, first:last], d_gain[b, t, first:last]
                    x_t = xs[b * x_batch + t * x_row + first : b * x_batch + t * x_row + last]
                    gain_t, B_t, C_t = (
                        gain[b, t, first:last],
                        Bs[b * B_batch + t * B_row :],
                        Cs[b * C_batch + t * C_row :],
                    )
                    for c in range(w):
                        d_u[c] = np.float32(0.0)
                    for n in range(d_state):
                        B_n, C_n = B_t[n], C_t[n]
                        before, after, e_n = hs[k, n], hs[k + 1, n], es[k, n]
                        dh_n, rate_n, d_rate_n = dh[b, n, first:last], rate[n, first:last], d_rate[b, n, first:last]
                        sum_B, sum_C = np.float32(0.0), np.float32(0.0)
                        for c in range(w):
                            g = dh_n[c] + dy_t[c] * C_n
                            sum_C += dy_t[c] * after[c]
                            sum_B += g * u_k[c]
                            d_u[c] += g * B_n
                            through = g * e_n[c]  # gradient of the state before
                            d_exponent = through * before[c] * log2
                            d_dt_t[c] += d_exponent * rate_n[c]
                            d_rate_n[c] += d_exponent * dt_t[c]
                            dh_n[c] = through
                        d_B[b, t, n] += sum_B
                        d_C[b, t, n] += sum_C
                    for c in range(w):
                        d_x_t[c] = d_u[c] * gain_t[c]
                        d_gain_t[c] = d_u[c] * x_t[c]


def _inputs(x: Tensor, dt: Tensor, gain: Tensor, rate: Tensor, B: Tensor, C: Tensor) -> tuple[Any, ...]:
    return *rows(x), array(dt), array(gain), array(rate), *rows(B), *rows(C)


def _run(*tensors: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, last state (batch, d_inner, d_state), and the states kept for the gradient."""
    *inputs, state = tensors
    batch, length, d_inner = inputs[0].shape
    h = recycled((batch, state.shape[2], d_inner)).copy_(state.detach().transpose(1, 2))
    y = (empty if keep else recycled)((batch, length, d_inner))
    kept = empty(batch, -(-length // _KEEP) if keep else 0, *h.shape[1:])
    rounds = batch * -(-d_inner // _CHANNELS)
    arguments = *_inputs(*inputs), h.numpy(), y.numpy(), kept.numpy()
    share(_forward, rounds, *arguments, at_least=-(-WORTH_A_THREAD // length))
    return y, h.transpose(1, 2), kept


class _DiagonalScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        y, last, kept = _run(*tensors, keep=True)
        ctx.save_for_backward(*tensors[:-1], kept)
        return y, last

    @staticmethod
    @first_derivative
    def backward(ctx: Any, d_y: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        x, dt, gain, rate, B, C, kept = ctx.saved_tensors
        batch = x.shape[0]
        d_h = d_last.transpose(1, 2).contiguous().clone()
        d_x, d_gain = empty(x.shape), empty(x.shape)
        d_dt, d_rate, d_B, d_C = (zeros(shape) for shape in (x.shape, (batch, *rate.shape), B.shape, C.shape))
        gradients = (v.numpy() for v in (d_h, d_x, d_dt, d_gain, d_rate, d_B, d_C))
        share(_backward, batch, *_inputs(x, dt, gain, rate, B, C), array(kept), array(d_y), *gradients)
        return d_x, d_dt, d_gain, d_rate.sum(0), d_B, d_C, d_h.transpose(1, 2)


def diagonal_scan(
    x: Tensor, dt: Tensor, gain: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the compiled scan on float32 CPU tensors; shapes as in ``scan.diagonal_scan``."""
    tensors = (x, dt, gain, (A * LOG2E).T, B, C, state)  # the rate of exp2, (d_state, d_inner)
    if needs_gradient(tensors):
        y, last = _DiagonalScan.apply(*tensors)  # type: ignore[no-untyped-call]
    else:  # the autograd node would keep the block's tensors alive until the garbage collector comes by
        y, last, _ = _run(*tensors, keep=False)
    return y, last
