"""The shape of a Mamba model, in the names of the field, whatever dialect the checkpoint speaks.

Source: configuration of state-spaces/mamba (MambaConfig and the mixers' keyword arguments).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

Arch = Literal["mamba", "mamba2"]


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that fixes the tensors of a Mamba-1 or Mamba-2 language model and their meaning."""

    arch: Arch
    """``mamba`` (diagonal A, one per channel and state) or ``mamba2`` (scalar A per head)."""
    d_model: int
    """Width of the residual stream."""
    n_layer: int
    """Number of layers."""
    vocab_size: int
    """Rows of the embedding, padding included."""
    d_inner: int
    """Width inside the mixer; ``expand * d_model`` in every public checkpoint."""
    d_state: int
    """State size N."""
    d_conv: int = 4
    """Taps of the causal convolution."""
    dt_rank: int = 0
    """Mamba-1: rank of the step-size projection."""
    headdim: int = 64
    """Mamba-2: channels of a head, P."""
    ngroups: int = 1
    """Mamba-2: groups that share B and C."""
    norm_eps: float = 1e-5
    """Epsilon of every RMSNorm."""
    dt_limit: tuple[float, float] = (0.0, math.inf)
    """Mamba-2: clamp of the step size after the softplus."""
    D_has_hdim: bool = False
    """Mamba-2: D holds one value per channel, not per head."""
    rmsnorm: bool = True
    """Mamba-2: a gated RMSNorm follows the scan."""
    conv_bias: bool = True
    """The convolution has a bias."""
    proj_bias: bool = False
    """The input and output projections have a bias."""
    tie_embeddings: bool = True
    """The output head is the embedding."""
    tokens_in_vocab: int = 0
    """Ids that a tokenizer may produce; ``vocab_size`` less its padding. 0 means unknown, taken as ``vocab_size``."""

    @property
    def nheads(self) -> int:
        """Mamba-2: number of heads H."""
        return self.d_inner // self.headdim

    @property
    def conv_dim(self) -> int:
        """Channels that pass the convolution."""
        return self.d_inner if self.arch == "mamba" else self.d_inner + 2 * self.ngroups * self.d_state

    @property
    def A_shape(self) -> tuple[int, ...]:
        """Shape of one layer's ``A_log``: (d_inner, d_state) for Mamba-1, (nheads,) for Mamba-2."""
        return (self.d_inner, self.d_state) if self.arch == "mamba" else (self.nheads,)

    @property
    def dt_width(self) -> int:
        """Step sizes a token has in one layer: d_inner for Mamba-1, nheads for Mamba-2."""
        return self.A_shape[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values (infinity as the string ``inf``)."""
        values = asdict(self)
        values["dt_limit"] = [x if math.isfinite(x) else "inf" for x in self.dt_limit]
        return values
