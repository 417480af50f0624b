"""A proposal for every mode, reduced to fewer factors or to another kind: a start on equal terms with others."""

from __future__ import annotations

import numpy as np
import torch

from mambascope.simulate.scale_rules import dt_rule
from mambascope.spectra.dynamics import Dynamics
from mambascope.spectra.scales import Kind

from ..proposal import Proposal
from .descent import LEAST
from .parameters import Floats


def projected_factors(proposal: Proposal, kind: Kind, shape: tuple[int, ...], target_length: int) -> Floats:
    """Reduce a proposal for every mode to factors of one kind and granularity: least squares in ln rate.

    ``a`` gets the geometric mean of the proposed factors, ``a_power`` the power that comes nearest, ``dt`` the
    geometric mean of what keeps each mode's size under a constant input (no factor on dt does what one on A does).

    Args:
        proposal: what to reduce; one that leaves the model alone gives ones.
        kind: of the factors.
        shape: of the factors.
        target_length: L.

    Returns:
        The factors, flat.
    """
    spectrum, T = proposal.diagnosis.spectrum, proposal.diagnosis.train_length
    if not proposal.acts:
        return np.ones(int(np.prod(shape)))
    logs = []  # (ln of the wanted factor, ln |A|) of each mode, a layer each
    for layer, (rate, tau) in enumerate(zip(spectrum.rates, spectrum.horizons_tokens(), strict=True)):
        A = -torch.from_numpy(rate)
        ones = torch.ones(len(A), dtype=torch.float64)
        d = proposal.scales(layer, target_length, Dynamics(ones, A, ones))
        wanted = (d.A / A * (d.dt if rate.ndim == 1 else d.dt[:, None])).numpy()  # on the decay rate |A| dt
        s = dt_rule(1 / tau, T, target_length).dt if kind == "dt" else wanted
        logs.append(np.stack([np.log(s), np.log(rate)]))
    both = np.stack(logs, axis=1)  # (2, n_layer, ...)
    keep = len(shape)
    both = both.reshape(*both.shape[: 1 + keep], -1)
    if kind != "a_power":
        return np.asarray(np.exp(both[0].mean(-1)).reshape(-1))
    square = (both[1] ** 2).sum(-1)
    s = 1 + (both[0] * both[1]).sum(-1) / np.where(square > 0, square, 1)
    return np.asarray(np.maximum(s, LEAST).reshape(-1))  # below 0 the order of the rates would turn round
