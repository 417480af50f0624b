"""The short causal convolution with a carried state.

Source: state-spaces/mamba (causal_conv1d); here channels stay last and the taps are summed, which needs no transpose.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
    padded = torch.cat([state[:, 1:].to(x.dtype), x], dim=1)
    y = padded[:, :length] * taps[0]
    for k in range(1, taps.shape[0]):
        y = torch.addcmul(y, padded[:, k : k + length], taps[k])
    if conv.bias is not None:
        y = y + conv.bias
    last = torch.cat([state, x], dim=1)[:, -taps.shape[0] :] if length < taps.shape[0] else x[:, -taps.shape[0] :]
    return y, last.clone()  # a view would keep the whole block alive
