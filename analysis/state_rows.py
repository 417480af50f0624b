"""States of rows side by side, cut and joined; what a model makes of a token depends on its own row's state alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mambascope.spectra.state import LayerState, StreamState


def take_rows(state: StreamState, rows: slice | Tensor | list[int], position: int = 0) -> StreamState:
    """Return some rows of a batch of states, in the order asked for.

    Args:
        state: of all rows.
        rows: which.
        position: tokens that the rows count as having seen; for an onset, and for where blocks start. Default: 0, a
            stream that starts here.

    Returns:
        Their states.
    """
    return StreamState(position, tuple(LayerState(s.conv[rows], s.ssm[rows]) for s in state.layers))


def join_rows(states: Sequence[StreamState], position: int = 0) -> StreamState:
    """Return the states of all rows side by side.

    Args:
        states: of one row or of several.
        position: as in ``take_rows``.

    Returns:
        One state.
    """
    layers = zip(*(state.layers for state in states), strict=True)
    return StreamState(
        position, tuple(LayerState(torch.cat([s.conv for s in of]), torch.cat([s.ssm for s in of])) for of in layers)
    )
