"""What a mixer does with the outputs of its scan: D skip, gate, and in Mamba-2 the gated RMSNorm.

Source: state-spaces/mamba (selective_scan_ref; RMSNormGated with norm_before_gate=False).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .products import is_untouched
from .rmsnorm import RMSNorm
from .scan.choice import runs_compiled


def gated(y: Tensor, x: Tensor, z: Tensor, D: Tensor, norm: RMSNorm | None = None) -> Tensor:
    """Return norm((y + D x) silu(z)).

    Args:
        y: outputs of the scan in the precision of the state, (batch, length, d_inner).
        x: inputs of the scan, same shape and precision.
        z: gates in the precision of the weights, same shape.
        D: skip of each channel, (d_inner,).
        norm: gated norm, if there is one.

    Returns:
        Same shape, in the precision of the weights.
    """
    if runs_compiled(y) and runs_compiled(z) and y.numel():
        from .compiled.gate import gate  # numba takes a while to import, and not every run needs it

        D = D.to(y.dtype)
        if norm is not None and is_untouched(norm, RMSNorm):
            return gate(y, x, z, D, norm.weight, norm.groups, norm.eps)
        y = gate(y, x, z, D)
        return y if norm is None else norm(y)
    y = (y + D.to(y.dtype) * x).to(z.dtype) * F.silu(z)
    return y if norm is None else norm(y)
