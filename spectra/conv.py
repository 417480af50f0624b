"""The short causal convolution with a carried state, followed by SiLU.

Source: state-spaces/mamba (causal_conv1d); here channels stay last and the taps are summed, which needs no transpose.
One pass on a CPU in float32, and on a GPU by the official kernel where it is installed and no gradient is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ShapeError
from .scan.choice import needs_gradient, runs_compiled
from .scan.kernels import find, switched_off, too_old

_KERNEL_TAPS = (2, 3, 4)
_COMPILED_TAPS = 4
_KERNEL_ALIGNMENT = 8  # channels, and elements between rows, come in eights


def causal_conv_silu(x: Tensor, state: Tensor, conv: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """Convolve a block that follows ``state`` and apply SiLU.

    Args:
        x: inputs, (batch, length, channels).
        state: the last ``d_conv`` inputs before the block, oldest first, (batch, d_conv, channels); the oldest is out
            of reach and only kept so that the cache is the one that other implementations show.
        conv: depthwise convolution that holds the taps, weight (channels, 1, d_conv).

    Returns:
        Outputs (batch, length, channels), and the state after the block.

    Raises:
        ShapeError: the state is one of other rows or another model.
    """
    length, taps = x.shape[1], conv.weight[:, 0].T  # (d_conv, channels)
    if state.shape != (x.shape[0], *taps.shape):
        raise ShapeError(
            f"the convolution's state has shape {tuple(state.shape)}, expected {(x.shape[0], *taps.shape)}; it must "
            "come from the same model with as many rows (StreamState.repeated)"
        )
    if kernel := _official_kernel(x, state, conv):
        y = by_kernel(kernel, x, state, conv)
    elif runs_compiled(x) and taps.shape[0] <= _COMPILED_TAPS and length:
        from .compiled.conv_silu import conv_silu  # numba takes a while to import, and not every run needs it

        y = conv_silu(x, state[:, 1:], taps, conv.bias)
    else:
        y = in_torch(x, state, conv)
    last = torch.cat([state, x], dim=1)[:, -taps.shape[0] :] if length < taps.shape[0] else x[:, -taps.shape[0] :]
    return y, last.clone()  # a view would keep the whole block alive


def in_torch(x: Tensor, state: Tensor, conv: nn.Conv1d) -> Tensor:
    """Sum the taps and apply SiLU in plain torch, in at least float32, and round once."""
    length, taps = x.shape[1], conv.weight[:, 0].T
    wide = x.dtype if x.dtype == torch.float64 else torch.float32
    padded, taps = torch.cat([state[:, 1:].to(x.dtype), x], dim=1).to(wide), taps.to(wide)
    y = padded[:, :length] * taps[0]
    for k in range(1, taps.shape[0]):
        y = torch.addcmul(y, padded[:, k : k + length], taps[k])
    return F.silu(y if conv.bias is None else y + conv.bias.to(wide)).to(x.dtype)


def by_kernel(kernel: Callable[..., Tensor], x: Tensor, state: Tensor, conv: nn.Conv1d) -> Tensor:
    """Run causal_conv1d, SiLU and all, with channels last, as it wants them if a state enters."""
    if any(step % _KERNEL_ALIGNMENT for step in x.stride()[:2]) or x.data_ptr() % 16:
        x = x.clone(memory_format=torch.contiguous_format)  # contiguous() keeps the steps of a single row or token
    before = state[:, 1:].to(x.dtype).contiguous().transpose(1, 2)  # (batch, channels, d_conv - 1)
    return kernel(x.transpose(1, 2), conv.weight[:, 0], conv.bias, initial_states=before, activation="silu").transpose(
        1, 2
    )


def _official_kernel(x: Tensor, state: Tensor, conv: nn.Conv1d) -> Callable[..., Tensor] | None:
    if x.device.type != "cuda" or x.dtype == torch.float64 or torch.version.cuda is None or switched_off():
        return None
    if conv.weight.shape[-1] not in _KERNEL_TAPS or x.shape[-1] % _KERNEL_ALIGNMENT:
        return None
    if needs_gradient((x, state, conv.weight, conv.bias)):
        return None
    return _kernel_of(x.device)


@cache
def _kernel_of(device: torch.device) -> Callable[..., Tensor] | None:
    return None if too_old("causal_conv", device) else find("causal_conv").function
