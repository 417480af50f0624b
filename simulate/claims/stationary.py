"""How long claims about a stationary level run a recurrence: until nothing that a run could see is missing."""

from __future__ import annotations

import math

from ..growth import horizon_steps_to

MISSING = 1e-6
"""Share of the stationary level that may be missing. Ours: thousands of times below the standard errors of a default
run, 0.3 % of the level and more."""


def stationary_steps(decay: float) -> int:
    """Return steps after which a mode under white inputs is stationary to ``MISSING``, a multiple of four."""
    return 4 * math.ceil(float(horizon_steps_to(-math.log(decay), MISSING)) / 4)
