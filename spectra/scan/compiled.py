"""Fused Mamba-1 scan for the CPU, with gradients: exp, recurrence and readout in one pass.

Channels lie along the vector lanes, so the state is held as (d_state, channels); channels go in groups whose state and
rates stay in the first-level cache. Nothing of size (length x channels x state) exists: the backward pass keeps the
state every few tokens and recomputes what lies between.

``exp`` is a polynomial: relative error below 3e-7 beside the rounding of the float32 exponent (tested), 0 below -88.
The compiled code is kept on disk between processes.

Source of the recurrence: Gu and Dao 2023, Algorithm 2; the gradient is tested against float64 autograd.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LANES = 256  # channels of a group
_KEEP = 32  # tokens between kept states
# a reordered sum is allowed (for the lanes), an assumption that NaN cannot occur is not
_JIT: dict[str, Any] = {
    "nopython": True,
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz"},
}


@numba.jit(**_JIT)
def _decay(fraction, power, dt, rate):  # type: ignore[no-untyped-def]
    """Split exp2(dt * rate), dt * rate <= 0, into 2^fraction (float) and 2^power (the bits of a float, as int32).

    Two arrays and no product here: the lanes stay independent, and their product falls out of the caller's loop.
    """
    for c in range(fraction.shape[0]):
        z = max(dt[c] * rate[c], np.float32(-127.0))
        whole = np.int32(z - np.float32(0.5))  # nearest, since z <= 0
        f = z - np.float32(whole)
        # near-minimax polynomial of 2^f on [-1/2, 1/2]: relative error 2e-9 before rounding
        p = np.float32(1.534581184e-04)
        p = p * f + np.float32(1.339993122e-03)
        p = p * f + np.float32(9.618488958e-03)
        p = p * f + np.float32(5.550328777e-02)
        p = p * f + np.float32(2.402264689e-01)
        p = p * f + np.float32(6.931472057e-01)
        fraction[c] = p * f + np.float32(1.0)
        power[c] = (whole + np.int32(127)) << np.int32(23)  # whole = -127 gives the bits of 0


@numba.jit(**_JIT)
def _forward(x, dt, gain, rate, B, C, h, y, kept):  # type: ignore[no-untyped-def]
    """Write y and the last state into h; keep h at the start of every ``_KEEP`` tokens if ``kept`` has room."""
    batch, length, channels = x.shape
    d_state = rate.shape[0]
    e = np.empty(_LANES, np.float32)
    bits = np.empty(_LANES, np.int32)
    power = bits.view(np.float32)
    u = np.empty(_LANES, np.float32)
    for b in range(batch):
        for first in range(0, channels, _LANES):
            last = min(first + _LANES, channels)
            w = last - first
            for t in range(length):
                if kept.shape[1] and t % _KEEP == 0:
                    kept[b, t // _KEEP, :, first:last] = h[b, :, first:last]
                dt_t, y_t = dt[b, t, first:last], y[b, t, first:last]
                for c in range(w):
                    u[c] = gain[b, t, first + c] * x[b, t, first + c]
                    y_t[c] = np.float32(0.0)
                for n in range(d_state):
                    _decay(e[:w], bits[:w], dt_t, rate[n, first:last])
                    h_n = h[b, n, first:last]
                    B_n, C_n = B[b, t, n], C[b, t, n]
                    for c in range(w):
                        v = e[c] * power[c] * h_n[c] + B_n * u[c]
                        h_n[c] = v
                        y_t[c] += C_n * v


@numba.jit(**_JIT)
def _backward(x, dt, gain, rate, B, C, kept, dy, dh, d_x, d_dt, d_gain, d_rate, d_B, d_C):  # type: ignore[no-untyped-def]
    """Write all gradients; dh enters as the gradient of the last state and leaves as that of the first."""
    batch, length, channels = x.shape
    d_state = rate.shape[0]
    hs = np.empty((_KEEP + 1, d_state, _LANES), np.float32)
    es = np.empty((_KEEP, d_state, _LANES), np.float32)
    fraction = np.empty(_LANES, np.float32)
    bits = np.empty(_LANES, np.int32)
    power = bits.view(np.float32)
    u = np.empty((_KEEP, _LANES), np.float32)
    d_u = np.empty(_LANES, np.float32)
    log2 = np.float32(np.log(2.0))
    for b in range(batch):
        for first in range(0, channels, _LANES):
            last = min(first + _LANES, channels)
            w = last - first
            for part in range((length - 1) // _KEEP, -1, -1):
                t0 = part * _KEEP
                steps = min(_KEEP, length - t0)
                hs[0, :, :w] = kept[b, part, :, first:last]
                for k in range(steps):
                    t = t0 + k
                    for c in range(w):
                        u[k, c] = gain[b, t, first + c] * x[b, t, first + c]
                    for n in range(d_state):
                        _decay(fraction[:w], bits[:w], dt[b, t, first:last], rate[n, first:last])
                        B_n = B[b, t, n]
                        before, after, e_n, u_k = hs[k, n], hs[k + 1, n], es[k, n], u[k]
                        for c in range(w):
                            e_n[c] = fraction[c] * power[c]
                            after[c] = e_n[c] * before[c] + B_n * u_k[c]
                for k in range(steps - 1, -1, -1):
                    t = t0 + k
                    dy_t, dt_t, u_k = dy[b, t, first:last], dt[b, t, first:last], u[k]
                    d_dt_t = d_dt[b, t, first:last]
                    for c in range(w):
                        d_u[c] = np.float32(0.0)
                    for n in range(d_state):
                        B_n, C_n = B[b, t, n], C[b, t, n]
                        before, after, e_n = hs[k, n], hs[k + 1, n], es[k, n]
                        dh_n, rate_n, d_rate_n = dh[b, n, first:last], rate[n, first:last], d_rate[n, first:last]
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
                        d_x[b, t, first + c] = d_u[c] * gain[b, t, first + c]
                        d_gain[b, t, first + c] = d_u[c] * x[b, t, first + c]


def _array(v: Tensor) -> Any:
    return v.detach().contiguous().numpy()


def _run(*tensors: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, last state (batch, d_inner, d_state), and the states kept for the gradient."""
    *inputs, state = tensors
    x = inputs[0]
    h = state.detach().transpose(1, 2).contiguous().clone()  # (batch, d_state, d_inner)
    y = torch.empty(x.shape)
    kept = torch.empty(x.shape[0], -(-x.shape[1] // _KEEP) if keep else 0, *h.shape[1:])
    _forward(*map(_array, inputs), h.numpy(), y.numpy(), kept.numpy())
    return y, h.transpose(1, 2), kept


class _DiagonalScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        y, last, kept = _run(*tensors, keep=True)
        ctx.save_for_backward(*tensors[:-1], kept)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        x, dt, gain, rate, B, C, kept = ctx.saved_tensors
        d_h = d_last.transpose(1, 2).contiguous().clone()
        d_x, d_gain = torch.empty_like(x), torch.empty_like(x)
        sums = [torch.zeros(v.shape) for v in (dt, rate, B, C)]
        d_dt, d_rate, d_B, d_C = sums
        arrays = map(_array, (x, dt, gain, rate, B, C, kept, d_y))
        _backward(*arrays, *(v.numpy() for v in (d_h, d_x, d_dt, d_gain, d_rate, d_B, d_C)))
        return d_x, d_dt, d_gain, d_rate, d_B, d_C, d_h.transpose(1, 2)


def diagonal_scan(
    x: Tensor, dt: Tensor, gain: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the fused kernel on float32 CPU tensors; shapes as in ``scan.diagonal_scan``."""
    rate = (A * float(np.log2(np.e))).T.contiguous()  # (d_state, d_inner), of exp2
    tensors = [*(v.contiguous() for v in (x, dt, gain, rate, B, C)), state]
    if torch.is_grad_enabled() and any(v.requires_grad for v in tensors):
        y, last = _DiagonalScan.apply(*tensors)  # type: ignore[no-untyped-call]
    else:  # the autograd node would keep the block's tensors alive until the garbage collector comes by
        y, last, _ = _run(*tensors, keep=False)
    return y, last
