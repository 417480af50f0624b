"""Scalar-identity (Mamba-2) scan for the CPU, with gradients: the state goes through the registers once every 8 tokens.

Inside 8 tokens the matrix form, whose products over channels cost little; between them the state of one head, which
stays in the first-level cache, gives its outputs and takes its writes in one pass (``microkernels``). That pass does
two products per state and token, the least that reads and writes every state, so longer chunks gain nothing. The
backward pass keeps the state every 64 tokens and recomputes what lies between.

Source of the recurrence: Dao and Gu 2024, section 6; the gradient is tested against float64 autograd.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..compiled.first_derivative import first_derivative
from ..compiled.jit import jit
from ..compiled.lanes import LOG2, LOG2E
from ..compiled.recycled import recycled
from ..compiled.strides import array, empty, rows
from ..compiled.threads import WORTH_A_THREAD, share
from . import chunk
from .choice import needs_gradient
from .chunk import copy, decays, dot, from_columns, padded, pass_columns, products, to_columns, writes
from .microkernels import CHUNK, LANES, contract_channels

_KEEP = 8  # chunks between kept states
_SLOW = 512.0  # tokens in which a state halves, from where on what rounding takes is kept. Ours: a block of tokens, in
# which faster heads have forgotten half of their errors; on mamba2-tiny, whose heads are mostly slower, the error of
# the losses at 4,096 tokens fell from 2.3e-6 to 1.4e-6


@jit
def _slow(dt, rate):  # type: ignore[no-untyped-def]
    """Return whether a head takes more than ``_SLOW`` tokens to halve its state, on average over these."""
    exponent = 0.0
    for t in range(dt.shape[0]):
        exponent += np.float64(dt[t]) * rate
    return exponent > -dt.shape[0] / _SLOW


@jit
def _forward(first, last, xs, x_batch, x_row, dt, gain, rate, Bs, B_batch, B_row, Cs, C_batch, C_row, ngroups, h, y, kept):  # type: ignore[no-untyped-def] # fmt: skip # noqa: E501
    """Write y and the last state into h; keep h every ``_KEEP`` chunks if ``kept`` has room.

    A round is a head of a row.
    """
    _, length, nheads = dt.shape
    headdim, d_state = h.shape[2:]
    columns, per_group = (headdim + LANES - 1) // LANES, nheads // ngroups
    width, size = columns * LANES, columns * d_state * LANES
    state = chunk.zeros(columns * d_state, LANES).reshape(columns, d_state, LANES)
    low = chunk.zeros(columns * d_state, LANES).reshape(columns, d_state, LANES)
    tiles = chunk.zeros(4 * CHUNK, width).reshape(4, CHUNK, width)
    write, written, given, mixed = tiles[0], tiles[1], tiles[2], tiles[3]
    from_start, to_end = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)
    total, between = np.empty(CHUNK), np.empty((CHUNK, CHUNK), np.float32)
    for pair in range(first // per_group, (last + per_group - 1) // per_group):
        b, group = pair // ngroups, pair % ngroups
        B = padded(Bs, b * B_batch + group * d_state, B_row, length, d_state)
        C = padded(Cs, b * C_batch + group * d_state, C_row, length, d_state)
        inside = products(C, B)
        for each in range(max(first, pair * per_group), min(last, (pair + 1) * per_group)):
            head = each % nheads
            channel = head * headdim
            to_columns(h[b, head], state)
            slow = _slow(dt[b, :, head], rate[head])
            if slow:
                low[:] = np.float32(0.0)
            for k in range(inside.shape[0]):
                if kept.shape[1] and k % _KEEP == 0:
                    copy(state.reshape(size), kept[b, k // _KEEP, head].reshape(size))
                t0 = k * CHUNK
                steps = min(CHUNK, length - t0)
                decays(dt[b, t0 : t0 + steps, head], rate[head], total, from_start, to_end, between)
                writes(xs, b * x_batch + t0 * x_row + channel, x_row, gain[b, t0 : t0 + steps, head], headdim, write)
                chunk.weighted(to_end, write, written)
                read, taken = C[t0 : t0 + CHUNK], B[t0 : t0 + CHUNK]
                if slow:
                    drop = np.float32(-math.expm1(total[steps - 1] / LOG2E))
                    chunk.pass_slow_columns(state, low, drop, read, taken, written, given)
                else:
                    pass_columns(state, state, from_start[steps - 1], read, taken, written, given)
                for i in range(CHUNK):
                    for j in range(CHUNK):
                        between[i, j] *= inside[k, i, j]
                chunk.mix(between, write, mixed)
                for i in range(steps):
                    y_i, given_i, mixed_i, decay = y[b, t0 + i], given[i], mixed[i], from_start[i]
                    for p in range(headdim):
                        y_i[channel + p] = decay * given_i[p] + mixed_i[p]
            from_columns(state, h[b, head])


@jit
def _backward(first, last, xs, x_batch, x_row, dt, gain, rate, Bs, B_batch, B_row, Cs, C_batch, C_row, ngroups, kept, dy, dh, d_x, d_dt, d_gain, d_rate, d_B, d_C):  # type: ignore[no-untyped-def] # fmt: skip # noqa: E501
    """Write all gradients; dh enters as the gradient of the last state and leaves as that of the first.

    A round is a row. With y_i = s_i C_i h + sum_j M_ij (C_i . B_j) v_j and h' = a h + sum_j e_j v_j B_j in a chunk
    (s, e, M: decays from its start, to its end, between tokens; v = gain x), the gradient of h runs backwards through
    the same pass, read by B and written by C. Decays get theirs as sums over the tokens that they span.
    """
    _, length, nheads = dt.shape
    headdim, d_state = dh.shape[2:]
    columns, per_group = (headdim + LANES - 1) // LANES, nheads // ngroups
    width, size = columns * LANES, columns * d_state * LANES
    states = chunk.zeros(_KEEP * columns * d_state, LANES).reshape(_KEEP, columns, d_state, LANES)
    g = chunk.zeros(columns * d_state, LANES).reshape(columns, d_state, LANES)
    tiles = chunk.zeros(6 * CHUNK, width).reshape(6, CHUNK, width)
    write, written, given, mixed, d_y, weighted_d_y = tiles[0], tiles[1], tiles[2], tiles[3], tiles[4], tiles[5]
    by_C, by_B = chunk.zeros(d_state, CHUNK), chunk.zeros(d_state, CHUNK)
    from_start, to_end = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)
    read, taken, ones = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32), np.ones(CHUNK, np.float32)
    total, d_total = np.empty(CHUNK), np.empty(CHUNK)
    squares = np.empty((3, CHUNK, CHUNK), np.float32)
    between, weights, dots = squares[0], squares[1], squares[2]
    for pair in range(first * ngroups, last * ngroups):
        b, group = pair // ngroups, pair % ngroups
        B = padded(Bs, b * B_batch + group * d_state, B_row, length, d_state)
        C = padded(Cs, b * C_batch + group * d_state, C_row, length, d_state)
        inside = products(C, B)
        B_along, C_along = chunk.tokens_along(B), chunk.tokens_along(C)
        d_B_along, d_C_along, overlap = np.zeros_like(B_along), np.zeros_like(C_along), np.zeros_like(inside)
        for head in range(group * per_group, (group + 1) * per_group):
            channel = head * headdim
            to_columns(dh[b, head], g)
            for part in range(kept.shape[1] - 1, -1, -1):
                chunks = min(_KEEP, inside.shape[0] - part * _KEEP)
                copy(kept[b, part, head].reshape(size), states[0].reshape(size))
                for c in range(chunks - 1):
                    t0 = (part * _KEEP + c) * CHUNK
                    t1 = t0 + CHUNK
                    decays(dt[b, t0:t1, head], rate[head], total, from_start, to_end, between)
                    writes(xs, b * x_batch + t0 * x_row + channel, x_row, gain[b, t0:t1, head], headdim, write)
                    chunk.weighted(to_end, write, written)
                    chunk.write_columns(states[c], states[c + 1], from_start[CHUNK - 1], B[t0:t1], written)
                for c in range(chunks - 1, -1, -1):
                    k = part * _KEEP + c
                    t0, t1 = k * CHUNK, (k + 1) * CHUNK
                    steps, before = min(CHUNK, length - t0), states[c]
                    x0 = b * x_batch + t0 * x_row + channel
                    decays(dt[b, t0 : t0 + steps, head], rate[head], total, from_start, to_end, between)
                    writes(xs, x0, x_row, gain[b, t0 : t0 + steps, head], headdim, write)
                    writes(
                        dy, (b * length + t0) * nheads * headdim + channel, nheads * headdim, ones[:steps], headdim, d_y
                    )
                    chunk.weighted(to_end, write, written)
                    chunk.weighted(from_start, d_y, weighted_d_y)
                    keep = from_start[steps - 1]
                    across = np.float64(keep) * dot(g.reshape(size), before.reshape(size))
                    contract_channels(
                        before.ctypes.data, d_state, columns, weighted_d_y.ctypes.data, width, by_C.ctypes.data
                    )
                    contract_channels(g.ctypes.data, d_state, columns, written.ctypes.data, width, by_B.ctypes.data)
                    pass_columns(g, g, keep, B[t0:t1], C[t0:t1], weighted_d_y, given)
                    chunk.add_and_contract(by_C, d_C_along[k], C_along[k], read)
                    chunk.add_and_contract(by_B, d_B_along[k], B_along[k], taken)
                    chunk.dots(d_y, write, dots)
                    for i in range(CHUNK):
                        d_total[i] = np.float64(read[i]) - np.float64(taken[i])
                        across += taken[i]
                    for i in range(CHUNK):
                        for j in range(CHUNK):
                            weights[j, i] = between[i, j] * inside[k, i, j]  # inside is 0 for j > i
                            through = np.float64(weights[j, i] * dots[i, j])
                            d_total[i] += through
                            d_total[j] -= through
                            if j <= i:
                                overlap[k, i, j] += between[i, j] * dots[i, j]
                    chunk.mix(weights, d_y, mixed)
                    for i in range(steps):
                        given_i, mixed_i, weight, gain_i = given[i], mixed[i], to_end[i], gain[b, t0 + i, head]
                        x_i, d_x_i = xs[x0 + i * x_row : x0 + i * x_row + headdim], d_x[b, t0 + i]
                        d_gain_i = np.float32(0.0)
                        for p in range(headdim):
                            d_write = weight * given_i[p] + mixed_i[p]
                            d_x_i[channel + p] = gain_i * d_write
                            d_gain_i += d_write * x_i[p]
                        d_gain[b, t0 + i, head] = d_gain_i
                    for i in range(steps - 1, -1, -1):
                        across += d_total[i]
                        d_dt[b, t0 + i, head] = across * rate[head] * LOG2
                        d_rate[b, head] += across * dt[b, t0 + i, head] * LOG2
            from_columns(g, dh[b, head])
        for t in range(length):
            k, i = t // CHUNK, t % CHUNK
            d_B_t, d_C_t = d_B[b, t, group], d_C[b, t, group]
            for n in range(d_state):
                d_B_t[n], d_C_t[n] = d_B_along[k, n, i], d_C_along[k, n, i]
            for j in range(CHUNK):
                B_j, C_j = B[k * CHUNK + j], C[k * CHUNK + j]
                for n in range(d_state):
                    d_C_t[n] += overlap[k, i, j] * B_j[n]
                    d_B_t[n] += overlap[k, j, i] * C_j[n]


def _inputs(x: Tensor, dt: Tensor, gain: Tensor, rate: Tensor, B: Tensor, C: Tensor) -> tuple[Any, ...]:
    return *rows(x), array(dt), array(gain), array(rate), *rows(B), *rows(C), B.shape[2]


def _run(*tensors: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, last state, and the states kept for the gradient."""
    *inputs, state = tensors
    x = inputs[0]
    batch, length, nheads, headdim = x.shape
    h = recycled(state.shape).copy_(state.detach())
    y = (empty if keep else recycled)((batch, length, nheads * headdim))
    parts = -(-length // (CHUNK * _KEEP)) if keep else 0
    kept = empty(batch, parts, nheads, -(-headdim // LANES), h.shape[3], LANES)
    arguments = *_inputs(*inputs), h.numpy(), y.numpy(), kept.numpy()
    share(_forward, batch * nheads, *arguments, at_least=-(-WORTH_A_THREAD // length))
    return y.view(x.shape), h, kept


class _ScalarIdentityScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        y, last, kept = _run(*tensors, keep=True)
        ctx.save_for_backward(*tensors[:-1], kept)
        return y, last

    @staticmethod
    @first_derivative
    def backward(ctx: Any, d_y: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        x, dt, gain, rate, B, C, kept = ctx.saved_tensors
        batch, length, nheads = dt.shape
        d_h, d_x = d_last.contiguous().clone(), empty(batch, length, x[0, 0].numel())
        d_dt, d_gain, d_B, d_C = (empty(v.shape) for v in (dt, gain, B, C))
        d_rate = torch.zeros(batch, nheads, dtype=torch.float64)
        gradients = (v.numpy() for v in (d_h, d_x, d_dt, d_gain, d_rate, d_B, d_C))
        inputs = _inputs(x, dt, gain, rate, B, C)
        share(_backward, batch, *inputs, array(kept), array(d_y.reshape(-1)), *gradients)
        return d_x.view(x.shape), d_dt, d_gain, d_rate.sum(0), d_B, d_C, d_h


def scalar_identity_scan(
    x: Tensor, dt: Tensor, gain: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the compiled scan on float32 CPU tensors; shapes as in ``scan.scalar_identity_scan``."""
    tensors = (x, dt, gain, A.double() * LOG2E, B, C, state)  # the rate of exp2, which float32 would round
    if needs_gradient(tensors):
        y, last = _ScalarIdentityScan.apply(*tensors)  # type: ignore[no-untyped-call]
    else:  # the autograd node would keep the block's tensors alive until the garbage collector comes by
        y, last, _ = _run(*tensors, keep=False)
    return y, last
