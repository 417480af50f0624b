"""The Mamba-1 mixer: diagonal A, one decay per channel and state.

Source: Gu and Dao 2023, Algorithm 2 and Figure 3; parameter names as in state-spaces/mamba (modules/mamba_simple.py).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .config import Config
from .conv import causal_conv_silu
from .dynamics import Dynamics
from .gating import gated
from .products import linear, product
from .scan import diagonal_scan
from .state import LayerState
from .step_sizes import softplus

Scanned = tuple[Dynamics, Tensor, Tensor]


class Mamba(nn.Module):
    """One Mamba-1 mixer; see :class:`~mambascope.spectra.mamba2.Mamba2` for the calling convention."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        d_inner, N = config.d_inner, config.d_state
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=config.proj_bias)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner, bias=config.conv_bias)
        self.x_proj = nn.Linear(d_inner, config.dt_rank + 2 * N, bias=False)
        self.dt_proj = nn.Linear(config.dt_rank, d_inner)
        self.A_log = nn.Parameter(torch.zeros(d_inner, N, dtype=torch.float32))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=config.proj_bias)

    def forward(
        self, hidden: Tensor, state: LayerState, rule: Callable[[Dynamics], Dynamics] | None = None
    ) -> tuple[Tensor, LayerState, Scanned]:
        """Mix one block; arguments and results as in ``Mamba2.forward``."""
        cfg, precise = self.config, state.ssm.dtype
        x, z = torch.split(linear(self.in_proj, hidden), [cfg.d_inner, cfg.d_inner], dim=-1)
        x, conv_state = causal_conv_silu(x, state.conv, self.conv1d)
        dt, B, C = torch.split(linear(self.x_proj, x), [cfg.dt_rank, cfg.d_state, cfg.d_state], dim=-1)
        # the bias is added in the state's precision, before the softplus
        dt = softplus(product(dt, self.dt_proj.weight).to(precise), self.dt_proj.bias.to(precise))
        dynamics = Dynamics(dt=dt, A=-torch.exp(self.A_log.to(precise)), gain=dt)
        if rule is not None:
            dynamics = rule(dynamics)
        xs, B, C = x.to(precise), B.to(precise), C.to(precise)
        y, ssm = diagonal_scan(xs, dynamics.dt, dynamics.gain, dynamics.A, B, C, state.ssm)
        return linear(self.out_proj, gated(y, xs, z, self.D)), LayerState(conv_state, ssm), (dynamics, B, xs)
