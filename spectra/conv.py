"""The short causal convolution with a carried state.

Source: state-spaces/mamba (causal_conv1d); here channels stay last and the taps are summed, which needs no transpose.
On a GPU the official kernel does the same in one pass where it is installed and no gradient is asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .scan.choice import needs_gradient
from .scan.kernels import find, switched_off

_KERNEL_TAPS = (2, 3, 4)
_KERNEL_ALIGNMENT = 8  # channels, and elements between rows, come in eights


def causal_conv(x: Tensor, state: Tensor, conv: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """Convolve a block that follows ``state``.

    Args:
        x: inputs, (batch, length, channels).
        state: the last ``d_conv`` inputs before the block, oldest first, (batch, d_conv, channels); the oldest is out
            of reach and only kept so that the cache is the one that other implementations show.
        conv: depthwise convolution that holds the taps, weight (channels, 1, d_conv).

    Returns:
        Outputs (batch, length, channels) before any activation, and the state after the block.
    """
    length, taps = x.shape[1], conv.weight[:, 0].T  # (d_conv, channels)
    kernel = _official_kernel(x, state, conv)
    y = by_kernel(kernel, x, state, conv) if kernel else in_torch(x, state, conv)
    last = torch.cat([state, x], dim=1)[:, -taps.shape[0] :] if length < taps.shape[0] else x[:, -taps.shape[0] :]
    return y, last.clone()  # a view would keep the whole block alive


def in_torch(x: Tensor, state: Tensor, conv: nn.Conv1d) -> Tensor:
    """Sum the taps in plain torch, in at least float32, and round once."""
    length, taps = x.shape[1], conv.weight[:, 0].T
    wide = x.dtype if x.dtype == torch.float64 else torch.float32
    padded, taps = torch.cat([state[:, 1:].to(x.dtype), x], dim=1).to(wide), taps.to(wide)
    y = padded[:, :length] * taps[0]
    for k in range(1, taps.shape[0]):
        y = torch.addcmul(y, padded[:, k : k + length], taps[k])
    return (y if conv.bias is None else y + conv.bias.to(wide)).to(x.dtype)


def by_kernel(kernel: Callable[..., Tensor], x: Tensor, state: Tensor, conv: nn.Conv1d) -> Tensor:
    """Run causal_conv1d with channels last, as it wants them if a state enters."""
    if any(step % _KERNEL_ALIGNMENT for step in x.stride()[:2]) or x.data_ptr() % 16:
        x = x.clone(memory_format=torch.contiguous_format)  # contiguous() keeps the steps of a single row or token
    before = state[:, 1:].to(x.dtype).contiguous().transpose(1, 2)  # (batch, channels, d_conv - 1)
    return kernel(x.transpose(1, 2), conv.weight[:, 0], conv.bias, initial_states=before).transpose(1, 2)


def _official_kernel(x: Tensor, state: Tensor, conv: nn.Conv1d) -> Callable[..., Tensor] | None:
    if x.device.type != "cuda" or x.dtype == torch.float64 or torch.version.cuda is None or switched_off():
        return None
    if conv.weight.shape[-1] not in _KERNEL_TAPS or x.shape[-1] % _KERNEL_ALIGNMENT:
        return None
    if needs_gradient((x, state, conv.weight, conv.bias)):
        return None
    return find("causal_conv").function
