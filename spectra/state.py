"""What a stream carries from block to block: the convolution's last inputs and the SSM state of every layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .config import Config
from .products import zeros


@dataclass(frozen=True, slots=True)
class LayerState:
    """State of one layer."""

    conv: Tensor
    """Last inputs of the convolution, oldest first, (batch, d_conv, conv_dim)."""
    ssm: Tensor
    """SSM state h, (batch, nheads, headdim, d_state) or (batch, d_inner, d_state); float32 or float64."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """State of a whole model after ``position`` tokens."""

    position: int
    """Tokens seen."""
    layers: tuple[LayerState, ...]
    """State of each layer."""

    def repeated(self, rows: int) -> StreamState:
        """Return the same state for so many rows side by side; this one must be of a single row."""

        def of(tensor: Tensor) -> Tensor:
            return tensor.expand(rows, *tensor.shape[1:])

        return StreamState(self.position, tuple(LayerState(of(each.conv), of(each.ssm)) for each in self.layers))

    @classmethod
    def zeros(
        cls, config: Config, batch: int, device: torch.device, dtype: torch.dtype, state_dtype: torch.dtype
    ) -> StreamState:
        """Make the state before any token.

        Args:
            config: shape of the model.
            batch: sequences that run side by side.
            device: where the tensors live.
            dtype: dtype of the weights and of the convolution state.
            state_dtype: dtype of the SSM state.

        Returns:
            A state of zeros at position 0.
        """
        head = (config.d_inner,) if config.arch == "mamba" else (config.nheads, config.headdim)
        layers = tuple(
            LayerState(
                conv=torch.zeros(batch, config.d_conv, config.conv_dim, device=device, dtype=dtype),
                ssm=zeros((batch, *head, config.d_state), device, state_dtype),
            )
            for _ in range(config.n_layer)
        )
        return cls(position=0, layers=layers)
