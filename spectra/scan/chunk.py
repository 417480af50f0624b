"""Pieces of the compiled scalar-identity scan: what it does with the 8 tokens of a chunk, for one head.

A head's state lies as (columns, d_state, 16), 16 channels to a column, so that the vectors run over channels. Rows of a
chunk, (8, columns * 16), are padded with zeros behind the last channel and the last token.
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import jit, jit_in_order
from ..compiled.lanes import exp2
from .microkernels import CHUNK, LANES, pass_slow_state, pass_state, write_state


@jit
def zeros(rows, width):  # type: ignore[no-untyped-def]
    """Return float32 zeros that start at a cache line."""
    raw = np.zeros(rows * width + LANES, np.float32)
    first = (-raw.ctypes.data % 64) // 4
    return raw[first : first + rows * width].reshape(rows, width)


@jit
def copy(source, target):  # type: ignore[no-untyped-def]
    """Copy a flat array; an assignment of arrays goes number by number."""
    for n in range(source.shape[0]):
        target[n] = source[n]


@jit
def padded(flat, first, row, length, width):  # type: ignore[no-untyped-def]
    """Copy the rows of one sequence and group, then zeros up to a whole chunk."""
    out = zeros((length + CHUNK - 1) // CHUNK * CHUNK, width)
    for t in range(length):
        copy(flat[first + t * row : first + t * row + width], out[t])
    return out


@jit
def products(C, B):  # type: ignore[no-untyped-def]
    """Return C_i . B_j for j <= i inside every chunk and 0 elsewhere, (chunks, CHUNK, CHUNK)."""
    out = np.zeros((B.shape[0] // CHUNK, CHUNK, CHUNK), np.float32)
    for k in range(out.shape[0]):
        for i in range(CHUNK):
            C_i = C[k * CHUNK + i]
            for j in range(i + 1):
                out[k, i, j] = dot(C_i, B[k * CHUNK + j])
    return out


@jit
def dot(first, second):  # type: ignore[no-untyped-def]
    """Return the product of two flat arrays."""
    total = np.float32(0.0)
    for n in range(first.shape[0]):
        total += first[n] * second[n]
    return total


@jit
def _exp2_in_place(z):  # type: ignore[no-untyped-def]
    for i in range(z.shape[0]):
        z[i] = exp2(z[i])


@jit
def decays(dt, rate, total, from_start, to_end, between):  # type: ignore[no-untyped-def]
    """Write the decays of a chunk: from its start to token i, from i to its end, and [i, j] from j to i.

    Exponents are summed in float64; what float32 then rounds of one changes a decay by at most 2.2e-8.
    """
    running = 0.0
    for i in range(CHUNK):
        if i < dt.shape[0]:
            running += np.float64(dt[i]) * rate
        total[i] = running
    for i in range(CHUNK):
        from_start[i], to_end[i] = np.float32(total[i]), np.float32(running - total[i])
        for j in range(CHUNK):
            between[i, j] = np.float32(min(total[i] - total[j], 0.0))
    _exp2_in_place(from_start)
    _exp2_in_place(to_end)
    _exp2_in_place(between.reshape(CHUNK * CHUNK))


@jit
def to_columns(h, columns):  # type: ignore[no-untyped-def]
    """Turn a head's state (headdim, d_state) into columns."""
    for p in range(h.shape[0]):
        column = columns[p // LANES]
        for n in range(h.shape[1]):
            column[n, p % LANES] = h[p, n]
    for p in range(h.shape[0], columns.shape[0] * LANES):  # lanes without a channel; a NaN of another head may be there
        column = columns[p // LANES]
        for n in range(h.shape[1]):
            column[n, p % LANES] = np.float32(0.0)


@jit
def from_columns(columns, h):  # type: ignore[no-untyped-def]
    """Turn columns back into a head's state."""
    for p in range(h.shape[0]):
        column = columns[p // LANES]
        for n in range(h.shape[1]):
            h[p, n] = column[n, p % LANES]


@jit
def writes(xs, first, row, gain, headdim, out):  # type: ignore[no-untyped-def]
    """Write gain_i x_i into the rows of a chunk."""
    for i in range(CHUNK):
        out_i = out[i]
        if i < gain.shape[0]:
            x_i, gain_i = xs[first + i * row : first + i * row + headdim], gain[i]
            for p in range(headdim):
                out_i[p] = gain_i * x_i[p]
        else:
            for p in range(headdim):
                out_i[p] = np.float32(0.0)


@jit
def weighted(weights, rows, out):  # type: ignore[no-untyped-def]
    """Write weights_i rows_i."""
    for i in range(CHUNK):
        row, out_i, weight = rows[i], out[i], weights[i]
        for p in range(rows.shape[1]):
            out_i[p] = weight * row[p]


@jit
def pass_columns(h, after, keep, read, write, x, y):  # type: ignore[no-untyped-def]
    """Take a head's state over one chunk: ``microkernels.pass_state`` for every column; x and y are rows of a chunk."""
    columns, d_state = h.shape[0], h.shape[1]
    for c in range(columns):
        at, column = 4 * c * LANES, 4 * c * d_state * LANES
        pass_state(
            h.ctypes.data + column, after.ctypes.data + column, d_state, keep, read.ctypes.data, write.ctypes.data,
            x.ctypes.data + at, y.ctypes.data + at, columns * LANES,
        )  # fmt: skip


@jit_in_order  # a sum in another order would lose what it is to keep
def pass_slow_columns(h, low, drop, read, write, x, y):  # type: ignore[no-untyped-def]
    """Take the state of a head that hardly decays over one chunk; h + low is the state."""
    columns, d_state = h.shape[0], h.shape[1]
    for c in range(columns):
        at, column = 4 * c * LANES, 4 * c * d_state * LANES
        pass_slow_state(
            h.ctypes.data + column, low.ctypes.data + column, d_state, drop, read.ctypes.data, write.ctypes.data,
            x.ctypes.data + at, y.ctypes.data + at, columns * LANES,
        )  # fmt: skip


@jit
def write_columns(h, after, keep, write, x):  # type: ignore[no-untyped-def]
    """Take a head's state over one chunk without its outputs."""
    columns, d_state = h.shape[0], h.shape[1]
    for c in range(columns):
        column = 4 * c * d_state * LANES
        write_state(
            h.ctypes.data + column, after.ctypes.data + column, d_state, keep, write.ctypes.data,
            x.ctypes.data + 4 * c * LANES, columns * LANES,
        )  # fmt: skip


@jit
def mix(w, rows, out):  # type: ignore[no-untyped-def]
    """Write sum_j w[i, j] rows_j."""
    v0, v1, v2, v3, v4, v5, v6, v7 = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7]
    for i in range(CHUNK):
        out_i = out[i]
        w0, w1, w2, w3, w4, w5, w6, w7 = w[i, 0], w[i, 1], w[i, 2], w[i, 3], w[i, 4], w[i, 5], w[i, 6], w[i, 7]
        for p in range(out.shape[1]):
            low = w0 * v0[p] + w1 * v1[p] + w2 * v2[p] + w3 * v3[p]
            out_i[p] = low + (w4 * v4[p] + w5 * v5[p] + w6 * v6[p] + w7 * v7[p])


@jit
def dots(rows, others, out):  # type: ignore[no-untyped-def]
    """Write out[i, j] = rows_i . others_j."""
    v0, v1, v2, v3 = others[0], others[1], others[2], others[3]
    v4, v5, v6, v7 = others[4], others[5], others[6], others[7]
    for i in range(CHUNK):
        row = rows[i]
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0.0)
        for p in range(rows.shape[1]):
            v = row[p]
            s0 += v * v0[p]
            s1 += v * v1[p]
            s2 += v * v2[p]
            s3 += v * v3[p]
            s4 += v * v4[p]
            s5 += v * v5[p]
            s6 += v * v6[p]
            s7 += v * v7[p]
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = s0, s1, s2, s3
        out[i, 4], out[i, 5], out[i, 6], out[i, 7] = s4, s5, s6, s7


@jit
def tokens_along(rows):  # type: ignore[no-untyped-def]
    """Return rows of whole chunks with the tokens of a chunk along the lanes, (chunks, d_state, CHUNK)."""
    out = np.empty((rows.shape[0] // CHUNK, rows.shape[1], CHUNK), np.float32)
    for t in range(rows.shape[0]):
        for n in range(rows.shape[1]):
            out[t // CHUNK, n, t % CHUNK] = rows[t, n]
    return out


@jit
def add_and_contract(added, sums, others, totals):  # type: ignore[no-untyped-def]
    """Add to the sums, (d_state, CHUNK), and write for every token the product of ``added`` and ``others``."""
    totals[:] = np.float32(0.0)
    for n in range(added.shape[0]):
        for i in range(CHUNK):
            sums[n, i] += added[n, i]
            totals[i] += others[n, i] * added[n, i]
