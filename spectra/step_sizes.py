"""Step sizes from their raw projections.

Source: state-spaces/mamba (delta_softplus).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .scan.choice import runs_compiled


def softplus(raw: Tensor, bias: Tensor) -> Tensor:
    """Return log(1 + exp(raw + bias)); raw (batch, length, width), bias (width,), both in the state's precision."""
    if runs_compiled(raw) and raw.numel():
        from .compiled.softplus import biased_softplus  # numba takes a while to import, and not every run needs it

        return biased_softplus(raw, bias)
    return F.softplus(raw + bias)
