"""The fused loop of the simulator: random numbers, step sizes, recurrence and norms in one pass.

Lanes are (channel, trial) pairs with the trial fastest; a group of trials fills the first-level cache. Every number is
drawn where it is used, from the counter (step, channel, trial): nothing of the size of the noise is ever stored. Sums
over channels run in order, so a trial's result has the same bits in any group.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from .step_laws import CONSTANT, GAMMA, MARKOV, SOFTPLUS_NORMAL
from .threefry import INPUTS, JIT, STEPS, double_of, fma, normal_pair, open_uniform, scramble

_ATTEMPTS = 64  # of the gamma sampler, whose acceptance is above 0.95 each
_GAMMA, _SOFTPLUS, _MARKOV, _CONSTANT = GAMMA, SOFTPLUS_NORMAL, MARKOV, CONSTANT
_INPUTS, _STEPS = np.uint32(INPUTS), np.uint32(STEPS)


@numba.jit(**JIT)
def fill_normals(key, block, channel, low, high, z):  # type: ignore[no-untyped-def]
    """Write the standard normals of steps 4 block to 4 block + 3 into z (4, lanes)."""
    k0, k1, k2 = key[0], key[1], key[2]
    z0, z1, z2, z3 = z[0], z[1], z[2], z[3]
    for lane in range(channel.shape[0]):
        a, b, c, d = scramble(k0, k1, k2, _INPUTS, np.uint32(block), channel[lane], low[lane], high[lane])
        z0[lane], z1[lane] = normal_pair(a, b)
        z2[lane], z3[lane] = normal_pair(c, d)


@numba.jit(**JIT)
def _gamma(key, t, low, high, shape, scale):  # type: ignore[no-untyped-def]
    """Draw by Marsaglia and Tsang (2000); a shape below 1 through shape + 1 and a power of a uniform."""
    boosted = shape if shape >= 1.0 else shape + 1.0
    d = boosted - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    for attempt in range(_ATTEMPTS):
        w0, w1, w2, w3 = scramble(key[0], key[1], key[2], _STEPS, np.uint32(t), np.uint32(attempt), low, high)
        x = np.float64(normal_pair(w0, w1)[0])
        v = 1.0 + c * x
        if v <= 0.0:
            continue
        v = v * v * v
        if math.log(open_uniform(w2)) < 0.5 * x * x + d - d * v + d * math.log(v):
            value = d * v * scale
            return value if shape >= 1.0 else value * open_uniform(w3) ** (1.0 / shape)
    return d * scale  # once in 1e80 draws


@numba.jit(**JIT)
def _pick(cumulative, u):  # type: ignore[no-untyped-def]
    for k in range(cumulative.shape[0] - 1):
        if u < cumulative[k]:
            return k
    return cumulative.shape[0] - 1


@numba.jit(**JIT)
def step_size(kind, two, table, key, t, low, high, place):  # type: ignore[no-untyped-def]
    """Return dt of step t of one trial, and the trial's new place in a chain or trace."""
    if kind == _CONSTANT:
        return two[0], place
    if kind == _GAMMA:
        return _gamma(key, t, low, high, two[0], two[1]), place
    # a trace is read on from where the trial started; only the start is drawn
    when = t if kind in {_SOFTPLUS, _MARKOV} else 0
    w0, w1, w2, _ = scramble(key[0], key[1], key[2], _STEPS, np.uint32(when), np.uint32(0), low, high)
    if kind == _SOFTPLUS:
        x = two[0] + two[1] * np.float64(normal_pair(w0, w1)[0])
        return math.log1p(math.exp(-abs(x))) + max(x, 0.0), place
    if kind == _MARKOV:
        place = _pick(table[1] if t == 0 else table[2 + place], open_uniform(w2))
        return table[0, place], place
    row = int(open_uniform(w0) * table.shape[0])
    start = int(open_uniform(w1) * table.shape[1])
    return table[row, (start + t) % table.shape[1]], place


@numba.jit(**JIT)
def exp_negative(r):  # type: ignore[no-untyped-def]
    """Return exp(-r) for r >= 0 to 3e-16, 0 above 708; plain arithmetic, so that a loop over it becomes vector code."""
    x = -min(r, 708.0)
    n = math.floor(x * 1.4426950408889634 + 0.5)
    n = np.float64(n)
    f = fma(n, -1.90821492927058770002e-10, fma(n, -6.93147180369123816490e-01, x))  # ln 2 in two parts
    p = 1.0 / 6227020800.0  # Taylor to f^13: the rest is below 4e-18 for |f| <= ln(2) / 2
    p = fma(p, f, 1.0 / 479001600.0)
    p = fma(p, f, 1.0 / 39916800.0)
    p = fma(p, f, 1.0 / 3628800.0)
    p = fma(p, f, 1.0 / 362880.0)
    p = fma(p, f, 1.0 / 40320.0)
    p = fma(p, f, 1.0 / 5040.0)
    p = fma(p, f, 1.0 / 720.0)
    p = fma(p, f, 1.0 / 120.0)
    p = fma(p, f, 1.0 / 24.0)
    p = fma(p, f, 1.0 / 6.0)
    p = fma(p, f, 0.5)
    p = fma(fma(p, f, 1.0), f, 1.0)
    return p * double_of((np.int64(n) + np.int64(1023)) << np.int64(52)) if r <= 708.0 else 0.0


@numba.jit(**JIT)
def _rescale(a, dt, zoh, decay, gain):  # type: ignore[no-untyped-def]
    """Set each lane's decay and gain for this step's dt."""
    group = dt.shape[0]
    for first in range(0, a.shape[0], group):
        for g in range(group):
            decay[first + g] = exp_negative(a[first + g] * dt[g])
            gain[first + g] = dt[g]
        if zoh:
            for g in range(group):
                r = a[first + g] * dt[g]
                gain[first + g] = -math.expm1(-r) / a[first + g] if r > 0.0 else dt[g]


@numba.jit(**JIT)
def _shape_inputs(z, mean, sd, rho, start, noise, u):  # type: ignore[no-untyped-def]
    """Turn standard normals into inputs with mean and autocorrelation; ``noise`` is carried."""
    fresh = 1.0 if start else math.sqrt(1.0 - rho * rho)
    keep = 0.0 if start else rho
    for lane in range(z.shape[0]):
        noise[lane] = keep * noise[lane] + fresh * z[lane]
        u[lane] = mean + sd * noise[lane]


@numba.jit(**JIT)
def _mix(B, x, group, u):  # type: ignore[no-untyped-def]
    """Set u = B x for each trial: B (d, m, group), x (m * group), u (d * group)."""
    for i in range(B.shape[0]):
        out = u[i * group : (i + 1) * group]
        out[:] = 0.0
        for j in range(B.shape[1]):
            row, of_input = B[i, j], x[j * group : (j + 1) * group]
            for g in range(group):
                out[g] = fma(row[g], of_input[g], out[g])


@numba.jit(**JIT)
def _squared_norms(h, group, out):  # type: ignore[no-untyped-def]
    out[:] = 0.0
    for first in range(0, h.shape[0], group):
        for g in range(group):
            out[g] = fma(h[first + g], h[first + g], out[g])


@numba.jit(**JIT)
def run_group(key, first, a, B, inputs, kind, two, table, zoh, times, h, out):  # type: ignore[no-untyped-def]
    """Run a group of trials and write their squared state norms.

    Args:
        key: four uint32 words.
        first: number of the group's first trial.
        a: rates, (channels * group,), trial fastest.
        B: mixing (channels, inputs, group), or an empty array for one input a channel.
        inputs: mean, standard deviation, rho.
        kind: which step law, from ``step_laws.encode``.
        two: its numbers.
        table: its table.
        zoh: whether the gain is that of a zero-order hold.
        times: steps after which norms are wanted, ascending, at least 1.
        h: states (channels * group,), zero at the start; holds the last states in the end.
        out: (times, group).
    """
    group = out.shape[1]
    mixed = B.shape[0] > 0
    width = (B.shape[1] * group) if mixed else a.shape[0]
    channel, low, high = np.empty(width, np.uint32), np.empty(width, np.uint32), np.empty(width, np.uint32)
    for lane in range(width):
        number = np.uint64(first + lane % group)
        channel[lane] = lane // group
        low[lane], high[lane] = np.uint32(number), np.uint32(number >> np.uint64(32))
    mean, sd, rho = inputs[0], inputs[1], inputs[2]
    plain = mean == 0.0 and sd == 1.0 and rho == 0.0
    z = np.empty((4, width), np.float32)
    noise, x, u = np.zeros(width), np.empty(width), np.empty(a.shape[0])
    decay, gain, dt = np.empty(a.shape[0]), np.empty(a.shape[0]), np.full(group, two[0])
    place = np.zeros(group, np.int64)
    if kind == _CONSTANT:
        _rescale(a, dt, zoh, decay, gain)
    done = 0
    for t in range(times[-1]):
        if t % 4 == 0:
            fill_normals(key, t // 4, channel, low, high, z)
        if kind != _CONSTANT:
            for g in range(group):
                dt[g], place[g] = step_size(kind, two, table, key, t, low[g], high[g], place[g])
            _rescale(a, dt, zoh, decay, gain)
        z_t = z[t % 4]
        if plain and not mixed:
            for lane in range(h.shape[0]):
                h[lane] = fma(decay[lane], h[lane], gain[lane] * np.float64(z_t[lane]))
        else:
            _shape_inputs(z_t, mean, sd, rho, t == 0, noise, x)
            if mixed:
                _mix(B, x, group, u)
            driven = u if mixed else x
            for lane in range(h.shape[0]):
                h[lane] = fma(decay[lane], h[lane], gain[lane] * driven[lane])
        if t + 1 == times[done]:
            _squared_norms(h, group, out[done])
            done += 1
