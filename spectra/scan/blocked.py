"""The recurrences in plain torch, for any device and dtype, with gradients by autograd.

Mamba-2 runs in the chunked matrix form (Dao and Gu 2024, section 6): inside a chunk one matrix product, between chunks
the recurrence on whole states. Mamba-1 has a decay per channel and state, so it steps through time, but prepares the
decays and writes of a few tokens at once; on a GPU it steps through all chunks of a block side by side. Log-decays are
summed from zero inside each chunk, in float64: a difference of one long float32 sum would lose the digits of a single
step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHUNK = 64
"""Tokens that a matrix form spans. Ours; half of it when the state is small (d_state <= 64), faster on one CPU core."""

_STEPS = 16  # tokens whose (channels x d_state) decays exist at once in the Mamba-1 loop
_LOG2E = math.log2(math.e)  # exp2 is several times faster than exp in torch on a CPU


def diagonal_scan(
    x: Tensor, dt: Tensor, gain: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Step through time, a few tokens prepared at once; shapes as in ``scan.diagonal_scan``."""
    if x.device.type == "cuda" and x.shape[1] > _STEPS:
        return side_by_side(x, dt, gain, A, B, C, state)
    h, outputs = state, []
    rate = A * _LOG2E
    for first in range(0, x.shape[1], _STEPS):
        part = slice(first, first + _STEPS)
        decay = torch.exp2(dt[:, part, :, None] * rate)  # (batch, steps, d_inner, d_state)
        write = (gain[:, part] * x[:, part])[..., None] * B[:, part, None, :]
        states = []
        for t in range(decay.shape[1]):
            h = torch.addcmul(write[:, t], decay[:, t], h)
            states.append(h)
        outputs.append(torch.einsum("btcn,btn->btc", torch.stack(states, dim=1), C[:, part]))
    return torch.cat(outputs, dim=1), h


def side_by_side(
    x: Tensor, dt: Tensor, gain: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Step through all chunks of a block at once, in few wide operations; shapes as in ``scan.diagonal_scan``."""
    # twice: first every chunk starts from zero and gives what it adds to the state at its end, then the recurrence over
    # chunks gives the states that enter them, from which the second time reads the outputs
    length = x.shape[1]
    Q = max(_STEPS, math.isqrt(length // 4))  # steps and chunks in a ratio that keeps the launches few. Ours
    pad = -length % Q
    if pad:  # a padded token has decay 1 and writes nothing
        x, dt, gain, B, C = (torch.nn.functional.pad(v, (0, 0, 0, pad)) for v in (x, dt, gain, B, C))
    dt, write, B, C = (
        v.reshape(v.shape[0], -1, Q, v.shape[2]) for v in (dt, gain * x, B, C)
    )  # (batch, chunks, Q, width)
    rate = A * _LOG2E

    def step(h: Tensor, t: int) -> Tensor:  # h: (batch, chunks, d_inner, d_state)
        decay = torch.exp2(dt[:, :, t, :, None] * rate)
        return torch.addcmul(write[:, :, t, :, None] * B[:, :, t, None, :], decay, h)

    added = write.new_zeros(*dt.shape[:2], *A.shape)
    for t in range(Q):
        added = step(added, t)
    across = torch.exp2(dt.double().sum(2)[..., None] * rate.double()).to(x.dtype)
    h, entering = state, []
    for k in range(added.shape[1]):
        entering.append(h)
        h = torch.addcmul(added[:, k], across[:, k], h)
    inside, outputs = torch.stack(entering, dim=1), []
    for t in range(Q):
        inside = step(inside, t)
        outputs.append((inside @ C[:, :, t, :, None])[..., 0])
    return torch.stack(outputs, dim=2).flatten(1, 2)[:, :length], h


def _running_sum(v: Tensor) -> Tensor:
    """Sum the last dimension up to each place; on a GPU as a product, since its cumsum may add in any order."""
    if v.device.type != "cuda":
        return v.cumsum(-1)
    Q = v.shape[-1]
    return v @ torch.ones(Q, Q, dtype=v.dtype, device=v.device).triu()


def scalar_identity_scan(
    x: Tensor, dt: Tensor, gain: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the chunked matrix form; shapes as in ``scan.scalar_identity_scan``."""
    batch, length, nheads, headdim = x.shape
    ngroups, d_state = B.shape[2:]
    per_group = nheads // ngroups
    Q = min(CHUNK if d_state > 64 else CHUNK // 2, length)
    pad = -length % Q
    log2_decay = dt.double() * (A.double() * _LOG2E)
    write = gain[..., None] * x
    if pad:  # a padded token has decay 1 and writes nothing, so the last state stays what it is
        log2_decay, write, B, C = (
            torch.nn.functional.pad(v, (0, 0) * (v.dim() - 2) + (0, pad)) for v in (log2_decay, write, B, C)
        )
    n = (length + pad) // Q

    # from the start of each chunk, (batch, n, nheads, Q)
    total = _running_sum(log2_decay.view(batch, n, Q, nheads).transpose(2, 3))
    write = write.view(batch, n, Q, ngroups, per_group * headdim)
    B = B.view(batch, n, Q, ngroups, d_state).transpose(2, 3)  # (batch, n, ngroups, Q, d_state)
    C = C.view(batch, n, Q, ngroups, d_state).transpose(2, 3)

    # inside a chunk: y_i = sum_{j<=i} exp(decay from j to i) (C_i . B_j) write_j
    future = torch.ones(Q, Q, dtype=torch.bool, device=x.device).triu(1)
    between = (total[..., :, None] - total[..., None, :]).to(x.dtype).masked_fill(future, -math.inf)
    kernel = torch.exp2(between).view(batch, n, ngroups, per_group, Q, Q) * (C @ B.transpose(-1, -2))[:, :, :, None]
    per_head = write.view(batch, n, Q, ngroups, per_group, headdim).permute(0, 1, 3, 4, 2, 5)
    y = kernel @ per_head  # (batch, n, ngroups, per_group, Q, headdim)

    # what each chunk adds to the state at its end, then the recurrence over chunks
    to_end = torch.exp2((total[..., -1:] - total).to(x.dtype)).view(batch, n, ngroups, per_group, Q, 1)
    written = (per_head * to_end).transpose(-1, -2).reshape(batch, n, ngroups, per_group * headdim, Q) @ B
    written = written.view(batch, n, nheads, headdim, d_state)
    across = torch.exp2(total[..., -1].to(x.dtype))[..., None, None]  # (batch, n, nheads, 1, 1)
    entering, h = [], state
    for decay, added in zip(across.unbind(1), written.unbind(1), strict=True):  # an index would cost a zero gradient
        entering.append(h)
        h = decay * h + added

    # what the state that enters a chunk gives to its tokens
    start = torch.stack(entering, dim=1).view(batch, n, ngroups, per_group * headdim, d_state)
    carried = (C @ start.transpose(-1, -2)).view(batch, n, ngroups, Q, per_group, headdim).transpose(3, 4)
    from_start = torch.exp2(total.to(x.dtype)).view(batch, n, ngroups, per_group, Q, 1)
    y = torch.addcmul(y, carried, from_start)
    y = y.permute(0, 1, 4, 2, 3, 5).reshape(batch, n * Q, nheads, headdim)
    return y[:, :length], h
