"""A setup scored on passages: the one call behind ``evaluate`` and ``compare``, whatever a method does to a model."""

from __future__ import annotations

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
        does not reach the length.

    Raises:
        NonFiniteStateError: a state became NaN or infinite.
    """
    if not setup.last_only or setup.intervention is None:
        return score(
            setup.model, passages, edges, setup.intervention,
            state=setup.state, batch=batch, observers=[token_counter(tick)],
        )  # fmt: skip
    return score_last(setup.model, passages, edges, setup.intervention, tick)
