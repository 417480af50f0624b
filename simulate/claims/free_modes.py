"""Modes that decay freely: what is left of a state of 1, from which claims read decays off.

Without input that is e^{-a (dt_1 + ... + dt_T)}; it is run token by token through ``replay``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import Floats
from ..replay import Change, replay


def free_decay(rates: Floats, dt: Floats, changes: Sequence[Change] = (), writes: float = 0.0) -> Floats:
    """Run modes from a state of 1 and return what is left of it.

    Args:
        rates: a, (modes,).
        dt: step sizes, (tokens, modes).
        changes: scales on A or dt.
        writes: the input at every token.

    Returns:
        (modes,) last states.
    """
    tokens, modes = dt.shape
    state = replay(
        -rates,
        dt[None],
        dt[None],
        np.ones((1, tokens, 1, 1)),
        np.full((1, tokens, modes, 1), writes),
        changes=changes,
        state=np.ones(modes),
    ).state
    return np.asarray(state.reshape(modes))
