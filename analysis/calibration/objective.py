"""The loss of a calibration: bits per token of windows of the target length, each read from a fresh state.

``tail`` scores the second half of a window, where harm shows; ``whole`` all of it, as the published scripts do. Losses
are float32 log-softmaxes (float64 for a float64 model), their sums float64, and never a perplexity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mambascope.spectra.dynamics import Intervention, Observer
from mambascope.spectra.model import Model

from ..evaluate.perplexity import token_bits
from ..evaluate.position_sums import PositionSums, tail_from
from .windows import Ids

Score = Literal["tail", "whole"]
SCORES: tuple[Score, ...] = get_args(Score)

SIDE_BY_SIDE = 8
"""Windows that run at once in an evaluation. The default of ``mambascope evaluate``, so that it gives the same bits."""


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits per token of a set of windows."""

    tail: float
    """Mean over the second half of each window."""
    whole: float
    """Mean over all scored tokens."""
    inside: float
    """Mean over the first T tokens: what the scales cost where nothing is out of range."""

    def of(self, score: Score) -> float:
        """Return the mean that a score names."""
        return self.tail if score == "tail" else self.whole


def first_scored(score: Score, length: int) -> int:
    """Return the first entry of a window's bits that counts; entry k scores token k + 1."""
    return max(length // 2, 1) - 1 if score == "tail" else 0


def window_bits(
    model: Model,
    windows: Ids,
    scales: Intervention | None,
    train_length: int,
    *,
    observers: Sequence[Observer] = (),
) -> Bits:
    """Score windows.

    Args:
        model: a loaded model.
        windows: ids, (windows, L).
        scales: what the model runs with.
        train_length: T.
        observers: see every layer's work on the way.

    Returns:
        The means; ``tail`` and ``whole`` equal the tail bits and bits per token of ``mambascope evaluate`` on the same
        windows, to the last digit.
    """
    parts = [windows[i : i + SIDE_BY_SIDE] for i in range(0, len(windows), SIDE_BY_SIDE)]
    bits = np.concatenate([token_bits(model, part, scales, observers=observers) for part in parts])
    length = windows.shape[1]
    inside = min(train_length, length)
    sums = PositionSums.of_bits(bits, np.array(sorted({1, tail_from(length), inside, length})))
    means = (sums.tail(length), sums.whole(length), sums.mean(1, inside))
    return Bits(*(float(np.mean(mean)) for mean in means))
