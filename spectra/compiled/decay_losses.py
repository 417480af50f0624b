"""What every mode forgets in a token, summed over tokens in one pass; nothing of size tokens x modes exists.

A mode is a (channel, state) pair of Mamba-1. Sums over a few tokens are float32, those over all of them float64.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .jit import jit
from .lanes import one_less_exp
from .strides import array
from .threads import WORTH_A_THREAD, share

_CHANNELS = 256  # of a group, as in the scan
_TOKENS = 8  # whose sums are float32


@jit
def _sum(first_group, last_group, dt, rate, first, second):  # type: ignore[no-untyped-def]
    """Add to first and second, (d_state, channels); a round is a group of channels."""
    tokens, channels = dt.shape
    once, twice = np.empty(_CHANNELS, np.float32), np.empty(_CHANNELS, np.float32)
    for group in range(first_group, last_group):
        begin = group * _CHANNELS
        end = min(begin + _CHANNELS, channels)
        w = end - begin
        for t0 in range(0, tokens, _TOKENS):
            for n in range(rate.shape[0]):
                rate_n, first_n, second_n = rate[n, begin:end], first[n, begin:end], second[n, begin:end]
                once[:w] = np.float32(0.0)
                twice[:w] = np.float32(0.0)
                for t in range(t0, min(t0 + _TOKENS, tokens)):
                    dt_t = dt[t, begin:end]
                    for c in range(w):
                        lost = one_less_exp(dt_t[c] * rate_n[c])
                        once[c] += lost
                        twice[c] += lost * (np.float32(2.0) - lost)  # 1 - e^2 = (1 - e)(1 + e)
                for c in range(w):
                    first_n[c] += once[c]
                    second_n[c] += twice[c]


def decay_losses(dt: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums over tokens of 1 - exp(dt A) and of 1 - exp(2 dt A).

    Args:
        dt: step sizes, float32, (tokens, d_inner).
        A: negative rates, float32, (d_inner, d_state).

    Returns:
        Both in float64, shape of A.
    """
    first, second = (torch.zeros(A.T.shape, dtype=torch.float64, device="cpu") for _ in range(2))
    groups = -(-dt.shape[1] // _CHANNELS)
    at_least = -(-WORTH_A_THREAD // max(1, dt.shape[0]))
    share(_sum, groups, array(dt), array(A.T), first.numpy(), second.numpy(), at_least=at_least)
    return first.T, second.T
