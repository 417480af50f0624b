"""A setup scored on passages: the one call behind ``evaluate`` and ``compare``, whatever a method does to a model."""

from __future__ import annotations

import numpy as np

from mambascope.spectra.dynamics import WholePrompt

from ..methods.method import Setup
from ..texts import Tick, token_counter
from .passages import Ints, Passages
from .position_sums import PositionSums, score, score_last


def score_setup(
    setup: Setup, passages: Passages, edges: Ints, *, batch: int = 8, tick: Tick = lambda _: None
) -> PositionSums:
    """Score passages as a setup runs them.

    Args:
        setup: how the model runs.
        passages: as for ``score``.
        edges: from ``edges_for``; the last one is the length that is read.
        batch: passages that run side by side.
        tick: called with tokens as they pass through the model.

    Returns:
        The sums; where the setup gives losses for the last tokens alone, the others are NaN, and so is a passage that
        does not reach the length that a method was told it would read.

    Raises:
        NonFiniteStateError: a state became NaN or infinite.
    """
    if setup.last_only and setup.intervention is not None:
        return score_last(setup.model, passages, edges, setup.intervention, tick)
    at_once = 1 if isinstance(setup.intervention, WholePrompt) else batch  # a prompt that is seen whole takes memory
    rows = np.arange(len(passages))
    if setup.by_length:  # what is done is meant for this length, not for texts that end before
        rows = np.flatnonzero(passages.reaches >= edges[-1])
    found = PositionSums.filled(len(passages), edges, np.nan)
    if len(rows):
        of_rows = score(
            setup.model, passages.part(rows), edges, setup.intervention,
            state=setup.state, batch=at_once, observers=[token_counter(tick)],
        )  # fmt: skip
        assert found.rest is not None
        assert of_rows.rest is not None
        found.sums[rows], found.rest[rows] = of_rows.sums, of_rows.rest
    return found
