"""The Mamba-2 mixer: scalar A per head, gated RMSNorm after the scan.

Source: Dao and Gu 2024, section 7; parameter names as in state-spaces/mamba (modules/mamba2.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .config import Config
from .conv import causal_conv_silu
from .dynamics import Dynamics
from .gating import gated
from .products import linear
from .rmsnorm import RMSNorm
from .scan import scalar_identity_scan
from .state import LayerState
from .step_sizes import softplus

Scanned = tuple[Dynamics, Tensor, Tensor]


class Mamba2(nn.Module):
    """One Mamba-2 mixer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        d_inner, H = config.d_inner, config.nheads
        width = d_inner + config.conv_dim + H
        self.in_proj = nn.Linear(config.d_model, width, bias=config.proj_bias)
        self.conv1d = nn.Conv1d(
            config.conv_dim, config.conv_dim, config.d_conv, groups=config.conv_dim, bias=config.conv_bias
        )
        self.dt_bias = nn.Parameter(torch.zeros(H))
        self.A_log = nn.Parameter(torch.zeros(H, dtype=torch.float32))
        self.D = nn.Parameter(torch.ones(d_inner if config.D_has_hdim else H))
        if config.rmsnorm:
            self.norm = RMSNorm(d_inner, config.norm_eps, groups=config.ngroups)
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=config.proj_bias)

    def forward(
        self, hidden: Tensor, state: LayerState, rule: Callable[[Dynamics], Dynamics] | None = None
    ) -> tuple[Tensor, LayerState, Scanned]:
        """Mix one block of tokens.

        Args:
            hidden: normalised residual stream, (batch, length, d_model).
            state: convolution and SSM state before the block; its dtype is the precision of the recurrence.
            rule: rewrites the dynamics just before the scan.

        Returns:
            The mixer's output (batch, length, d_model), the state after the block, and what the scan ran with:
            dynamics, B and x.
        """
        cfg, precise = self.config, state.ssm.dtype
        batch, length = hidden.shape[:2]
        z, xBC, dt = torch.split(linear(self.in_proj, hidden), [cfg.d_inner, cfg.conv_dim, cfg.nheads], dim=-1)
        xBC, conv_state = causal_conv_silu(xBC, state.conv, self.conv1d)
        groups_width = cfg.ngroups * cfg.d_state
        x, B, C = torch.split(xBC.to(precise), [cfg.d_inner, groups_width, groups_width], dim=-1)
        heads = x.reshape(batch, length, cfg.nheads, cfg.headdim)
        B = B.reshape(batch, length, cfg.ngroups, cfg.d_state)
        C = C.reshape(batch, length, cfg.ngroups, cfg.d_state)
        dt = softplus(dt.to(precise), self.dt_bias.to(precise))
        if cfg.dt_limit != (0.0, math.inf):
            dt = dt.clamp(*cfg.dt_limit)
        dynamics = Dynamics(dt=dt, A=-torch.exp(self.A_log.to(precise)), gain=dt)
        if rule is not None:
            dynamics = rule(dynamics)
        y, ssm = scalar_identity_scan(heads, dynamics.dt, dynamics.gain, dynamics.A, B, C, state.ssm)
        # D: (nheads,) or (d_inner,)
        D = self.D if cfg.D_has_hdim else self.D.repeat_interleave(cfg.headdim)
        y = gated(y.reshape(batch, length, cfg.d_inner), x, z, D, self.norm if cfg.rmsnorm else None)
        return linear(self.out_proj, y), LayerState(conv_state, ssm), (dynamics, B, heads)
