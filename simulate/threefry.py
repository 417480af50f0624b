"""Counter-based random numbers: what comes out depends on key and counter alone, never on who asked before.

Threefry-4x32 with 20 rounds (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"): the
counter (step, channel, trial) is scrambled under a key made from seed and purpose, so that any thread, worker or block
size gives the same numbers. Additions, rotations and exclusive-ors only: compilers turn it into vector code. The bits
are the same on any processor, too, as nothing is left to a compiler's discretion; only where numpy or the C library
take part (rates of a log-uniform or beta law, gamma steps) may the last digit differ between machines.

Normals are Box-Muller pairs in single precision: the radius is sqrt(-2 ln u) of a 32-bit uniform, so values reach 6.76
standard deviations (true normals exceed that once in 7e10 draws); logarithm and rotation are polynomials with relative
error below 4e-7. tests/simulate/test_threefry.py has the known answers, moments, Kolmogorov-Smirnov and tails.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .arrays import Floats

JIT: dict[str, Any] = {
    "nopython": True,
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    # nothing may be reordered or contracted: the same bits on every processor; fused steps are spelled out
    "fastmath": False,
}
_INLINE = JIT | {"inline": "always"}

PARITY = np.uint32(0x1BD11BDA)

INPUTS, DECAYS, MIXING, STEPS = range(4)
"""Purposes: streams of one key that never meet."""

Words = npt.NDArray[np.uint32]


def key_words(seed: int, *labels: str | int) -> Words:
    """Derive a key of 96 bits from a seed and labels; its last word is free for the purpose.

    Args:
        seed: root seed, any integer.
        labels: what the key is for, such as a claim's name.

    Returns:
        Four words, the last 0.

    >>> key_words(0).tolist() == key_words(0).tolist() != key_words(0, "other").tolist()
    True
    """
    text = "\0".join([str(int(seed)), *(f"{type(label).__name__}:{label}" for label in labels)])
    digest = hashlib.sha256(text.encode()).digest()
    return np.array([*np.frombuffer(digest[:12], dtype="<u4"), 0], dtype=np.uint32)


@intrinsic  # type: ignore[untyped-decorator]
def _bits_of(typing_context: Any, value: Any) -> Any:
    del typing_context, value
    return types.int32(types.float32), lambda c, builder, s, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic  # type: ignore[untyped-decorator]
def _float_of(typing_context: Any, bits: Any) -> Any:
    del typing_context, bits
    return types.float32(types.int32), lambda c, builder, s, args: builder.bitcast(args[0], ir.FloatType())


@intrinsic  # type: ignore[untyped-decorator]
def double_of(typing_context: Any, bits: Any) -> Any:
    """Return the float64 that has these bits (int64)."""
    del typing_context, bits
    return types.float64(types.int64), lambda c, builder, s, args: builder.bitcast(args[0], ir.DoubleType())


@intrinsic  # type: ignore[untyped-decorator]
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a b + c with one rounding, float32 or float64; one instruction on any processor of the last ten years."""
    del typing_context, b, c
    return a(a, a, a), lambda context, builder, signature, args: builder.fma(*args)


@numba.jit(**_INLINE)
def _turn(x, n):  # type: ignore[no-untyped-def]
    return np.uint32((x << np.uint32(n)) | (x >> np.uint32(32 - n)))


@numba.jit(**_INLINE)
def _mix(a, b, n):  # type: ignore[no-untyped-def]
    a = np.uint32(a + b)
    return a, np.uint32(_turn(b, n) ^ a)


@numba.jit(**_INLINE)
def _four_even(a, b, c, d):  # type: ignore[no-untyped-def]
    """Rounds 0 to 3 of every 8."""
    a, b = _mix(a, b, 10)
    c, d = _mix(c, d, 26)
    a, d = _mix(a, d, 11)
    c, b = _mix(c, b, 21)
    a, b = _mix(a, b, 13)
    c, d = _mix(c, d, 27)
    a, d = _mix(a, d, 23)
    c, b = _mix(c, b, 5)
    return a, b, c, d


@numba.jit(**_INLINE)
def _four_odd(a, b, c, d):  # type: ignore[no-untyped-def]
    """Rounds 4 to 7 of every 8."""
    a, b = _mix(a, b, 6)
    c, d = _mix(c, d, 20)
    a, d = _mix(a, d, 17)
    c, b = _mix(c, b, 11)
    a, b = _mix(a, b, 25)
    c, d = _mix(c, d, 10)
    a, d = _mix(a, d, 18)
    c, b = _mix(c, b, 20)
    return a, b, c, d


@numba.jit(**_INLINE)
def _inject(a, b, c, d, k0, k1, k2, k3, n):  # type: ignore[no-untyped-def]
    return np.uint32(a + k0), np.uint32(b + k1), np.uint32(c + k2), np.uint32(d + k3 + np.uint32(n))


@numba.jit(**_INLINE)
def scramble(k0, k1, k2, k3, a, b, c, d):  # type: ignore[no-untyped-def]
    """Return four random words for the counter (a, b, c, d) under the key (k0, k1, k2, k3); all uint32."""
    k4 = np.uint32(PARITY ^ k0 ^ k1 ^ k2 ^ k3)
    a, b, c, d = _inject(a, b, c, d, k0, k1, k2, k3, 0)
    a, b, c, d = _four_even(a, b, c, d)
    a, b, c, d = _inject(a, b, c, d, k1, k2, k3, k4, 1)
    a, b, c, d = _four_odd(a, b, c, d)
    a, b, c, d = _inject(a, b, c, d, k2, k3, k4, k0, 2)
    a, b, c, d = _four_even(a, b, c, d)
    a, b, c, d = _inject(a, b, c, d, k3, k4, k0, k1, 3)
    a, b, c, d = _four_odd(a, b, c, d)
    a, b, c, d = _inject(a, b, c, d, k4, k0, k1, k2, 4)
    a, b, c, d = _four_even(a, b, c, d)
    return _inject(a, b, c, d, k0, k1, k2, k3, 5)


@numba.jit(**_INLINE)
def normal_pair(a, b):  # type: ignore[no-untyped-def]
    """Return two independent standard normals (float32) from two random words."""
    # -ln u, u in (0, 1]: u = 2^e (1 + m) with m in [sqrt(1/2) - 1, sqrt(2) - 1); polynomial of Cephes' logf
    u = fma(np.float32(a), np.float32(2.0**-32), np.float32(2.0**-33))
    bits = _bits_of(u) - np.int32(0x3F3504F3)
    e = np.float32(bits >> np.int32(23))
    m = _float_of((bits & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3)) - np.float32(1.0)
    p = np.float32(7.0376836292e-2)
    p = fma(p, m, np.float32(-1.1514610310e-1))
    p = fma(p, m, np.float32(1.1676998740e-1))
    p = fma(p, m, np.float32(-1.2420140846e-1))
    p = fma(p, m, np.float32(1.4249322787e-1))
    p = fma(p, m, np.float32(-1.6668057665e-1))
    p = fma(p, m, np.float32(2.0000714765e-1))
    p = fma(p, m, np.float32(-2.4999993993e-1))
    p = fma(p, m, np.float32(3.3333331174e-1))
    mm = m * m
    tail = fma(np.float32(-0.5), mm, p * m * mm)
    ln_u = fma(e, np.float32(0.6931471805599453), m + tail)
    radius = np.sqrt(max(np.float32(-2.0) * ln_u, np.float32(0.0)))
    # the low 30 bits of b are an angle in [-pi/4, pi/4), the top two a sign and whether the pair is swapped
    t = np.float32(np.int32(np.uint32(b << np.uint32(2)))) * np.float32(2.0**-32 * np.pi / 2)
    tt = t * t
    sine = fma(np.float32(-1.9515295891e-4), tt, np.float32(8.3321608736e-3))
    sine = fma(sine, tt, np.float32(-1.6666654611e-1)) * tt
    sine = radius * fma(sine, t, t)
    cosine = fma(np.float32(2.443315711809948e-5), tt, np.float32(-1.388731625493765e-3))
    cosine = fma(cosine, tt, np.float32(4.166664568298827e-2)) * tt
    cosine = fma(cosine, tt, fma(np.float32(-0.5), tt, np.float32(1.0)))
    cosine = _float_of(_bits_of(radius * cosine) ^ np.int32(b & np.uint32(0x80000000)))
    swap = (b >> np.uint32(30)) & np.uint32(1)
    return (cosine if swap else sine), (sine if swap else cosine)


@numba.jit(**_INLINE)
def open_uniform(word):  # type: ignore[no-untyped-def]
    """Return a float64 strictly between 0 and 1 from one random word."""
    return (np.float64(word) + 0.5) * 2.0**-32


@numba.jit(**JIT)
def _fill_uniforms(key, purpose, first, out):  # type: ignore[no-untyped-def]
    for trial in range(out.shape[0]):
        number = np.uint64(first + trial)
        low, high = np.uint32(number), np.uint32(number >> np.uint64(32))
        for channel in range(out.shape[1]):
            a, b, _, _ = scramble(
                key[0], key[1], key[2], np.uint32(purpose), np.uint32(0), np.uint32(channel), low, high
            )
            whole = (np.uint64(a) << np.uint64(20)) | (np.uint64(b) >> np.uint64(12))  # 52 bits
            out[trial, channel] = (np.float64(whole) + 0.5) * 2.0**-52


def uniforms(key: Words, purpose: int, first_trial: int, trials: int, channels: int) -> Floats:
    """Return uniforms in (0, 1) with 52 bits, one a trial and channel.

    Args:
        key: from ``key_words``.
        purpose: which stream.
        first_trial: number of the first trial.
        trials: how many.
        channels: how many a trial.

    Returns:
        (trials, channels); a row depends on its trial's number, not on the first.
    """
    out = np.empty((trials, channels))
    _fill_uniforms(key, purpose, first_trial, out)
    return out


@numba.jit(**JIT)
def _fill_normals(key, purpose, first, out):  # type: ignore[no-untyped-def]
    for trial in range(out.shape[0]):
        number = np.uint64(first + trial)
        low, high = np.uint32(number), np.uint32(number >> np.uint64(32))
        for entry in range(0, out.shape[1], 2):
            a, b, _, _ = scramble(key[0], key[1], key[2], np.uint32(purpose), np.uint32(0), np.uint32(entry), low, high)
            one, other = normal_pair(a, b)
            out[trial, entry] = one
            if entry + 1 < out.shape[1]:
                out[trial, entry + 1] = other


def normals(key: Words, purpose: int, first_trial: int, trials: int, entries: int) -> Floats:
    """Return standard normals, a matrix or a sequence for each trial.

    Args:
        key: from ``key_words``.
        purpose: which stream.
        first_trial: number of the first trial.
        trials: how many.
        entries: how many a trial.

    Returns:
        (trials, entries); a row depends on its trial's number, not on the first.
    """
    out = np.empty((trials, entries))
    _fill_normals(key, purpose, first_trial, out)
    return out
