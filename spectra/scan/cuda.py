"""The scans on a GPU by the official kernels: Triton chunk scan (Mamba-2), CUDA selective scan (Mamba-1).

Forward only, float32 in and out, with a state that enters and one that leaves. Three gaps are bridged:

- The kernels write dt B x, this project gain B x. Where gain is not dt, x is multiplied by gain / dt first; a dt near 0
  is raised to 1e-20 there, at which no decay differs from 1 in float32 and no ratio overflows. None is below 0:
  ``block.py`` asks every rule, and here it is asked again where the raising would hide it.
- The Mamba-1 kernel starts from a state of zero. d_state made-up tokens come first: the n-th has B = e_n, C = 0, a step
  of 2^-64 and u = 2^64 h_n. It writes h_n exactly, and a decay over 2^-64 is 1 for every rate below 2^38.
- A float32 matrix product in Triton runs in TensorFloat-32 (10 bits) unless told otherwise. Here it is told: three such
  products for one ("tf32x3"), which keeps float32's digits.

What stays: inside a chunk the Mamba-2 kernel takes decays as differences of one float32 sum. A step's log-decay is
exact to 2^-24 of the sum over its chunk, so a head with |A| dt near 100 next to steps near 0 loses digits there that
the plain torch engine (float64 sums) keeps. A head that remembers over a chunk has a small sum, and loses none.

Source: state-spaces/mamba 2.3.2, ops/triton/ssd_combined.py and csrc/selective_scan/selective_scan_fwd_kernel.cuh.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..config import Arch
from ..errors import ScaleError
from .kernels import find

CHUNK = 128
"""Tokens that the Mamba-2 kernel's matrix form spans. Ours: its usual 256 loses twice as many digits of a decay."""
SHORTEST = 16
"""Tokens from which the kernels run; a shorter block, such as one step of decoding, is plain torch's."""

_LEAST_STEP = 1e-20
_INSTANT = 2.0**-64  # step of a made-up token; a power of two, so that dividing by it is exact
_MOST_ELEMENTS = 2**31 - 1  # the kernels count in 32 bits
_MOST_STATES = 256


def fits(arch: Arch, x: Tensor, B: Tensor) -> bool:
    """Return whether a block has a size that the kernel of ``arch`` takes."""
    batch, length, d_state = x.shape[0], x.shape[1], B.shape[-1]
    elements = batch * (length + d_state) * max(x[0, 0].numel(), B[0, 0].numel())
    if arch == "mamba2":  # the widest array is the matrix of a chunk, (batch, chunks, ngroups, CHUNK, CHUNK)
        elements = max(elements, batch * (length + CHUNK) * B.shape[2] * CHUNK)
        elements = max(elements, batch * -(-length // CHUNK) * x[0, 0].numel() * d_state)  # states entering each chunk
    return length >= SHORTEST and d_state <= _MOST_STATES and elements <= _MOST_ELEMENTS


def diagonal_scan(
    x: Tensor, dt: Tensor, gain: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the selective-scan kernel; shapes as in ``scan.diagonal_scan``, float32, no gradient."""
    kernel = find("selective_scan").function
    assert kernel is not None
    dt, x = _as_written(dt, gain, x)
    N = state.shape[-1]
    zero = torch.zeros(x.shape[0], N, N, dtype=x.dtype, device=x.device)
    unit = torch.eye(N, dtype=x.dtype, device=x.device).expand_as(zero)
    u = torch.cat([state / _INSTANT, x.transpose(1, 2)], dim=2)  # (batch, d_inner, N + length)
    delta = torch.cat([torch.full_like(state, _INSTANT), dt.transpose(1, 2)], dim=2)
    B = torch.cat([unit, B.transpose(1, 2)], dim=2)[:, None]  # (batch, 1, N, N + length)
    C = torch.cat([zero, C.transpose(1, 2)], dim=2)[:, None]
    y, ends = kernel(u, delta, A.contiguous(), B, C, None, None, None, False)
    # ends: (batch, d_inner, chunks, 2 N), product of decays and state at the end of each of the kernel's chunks
    return y[:, :, N:].transpose(1, 2).contiguous(), ends[:, :, -1, 1::2].clone()


def scalar_identity_scan(
    x: Tensor, dt: Tensor, gain: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the Triton chunk scan; shapes as in ``scan.scalar_identity_scan``, float32, no gradient."""
    kernel = find("chunk_scan").function
    assert kernel is not None
    dt, x = _as_written(dt, gain, x)
    with _float32_products():
        y, last = kernel(x, dt, A, B, C, CHUNK, initial_states=state, return_final_states=True)
    return y, last


def _as_written(dt: Tensor, gain: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return steps and inputs whose product is gain times x."""
    if gain is dt:
        return dt, x
    if bool((dt < 0).any()):
        raise ScaleError("a step dt is negative; states would grow by themselves. Steps must be 0 or more")
    step = dt.clamp_min(_LEAST_STEP)
    ratio = gain / step
    return step, x * ratio.view(*ratio.shape, *(1,) * (x.dim() - ratio.dim()))


@contextmanager
def _float32_products() -> Generator[None, None, None]:
    """Have Triton compile float32 products at float32's precision; it reads this variable, and so does its cache."""
    before = os.environ.get("TRITON_F32_DEFAULT")
    os.environ.setdefault("TRITON_F32_DEFAULT", "tf32x3")
    try:
        yield
    finally:
        if before is None:
            del os.environ["TRITON_F32_DEFAULT"]
