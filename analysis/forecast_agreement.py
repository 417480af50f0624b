"""How well forecasts of several models agree with what was measured, beside two simpler guesses.

The guesses: that harm ranks like the growth of the state, theory without any loss; and that harm starts at 2 T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.stats

from .forecast import HARM_BITS
from .forecast_check import Checked

TIMES = (2, 4, 16, 64)
"""Multiples of T at which forecasts are ranked. Ours: from where harm begins to where it levels off."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Forecasts of several models against measurements."""

    models: int
    """Models."""
    cells: int
    """Models times lengths that are ranked."""
    rank: float | None
    """Spearman's rank correlation of predicted and measured harm over all cells; None where one of them is constant."""
    rank_open: float | None
    """The same with inputs held at those of fresh windows, where that was done for all models."""
    rank_growth: float | None
    """The same for predicted growth in the place of predicted harm: theory without a loss."""
    rank_by_times: dict[int, float | None]
    """Rank correlation over models at each multiple of T."""
    rank_growth_by_times: dict[int, float | None]
    """The same for growth."""
    harm_error: float | None
    """Median relative error of predicted harm, over the ranked cells with measured harm above ``HARM_BITS``."""
    harm_error_open: float | None
    """The same with inputs held at those of fresh windows, where that was done for all models."""
    broke: int
    """Models whose measured harm passed the threshold up to L."""
    forecast_to_break: int
    """Of these, how many the forecast said would."""
    within_two: int
    """Of these, first length within a factor of 2."""
    error_factor: float | None
    """Geometric mean error of the first length over these, as a factor; None if none was foreseen or none broke."""
    guess_within_two: int
    """Of the models that broke, how many a guess of 2 T for all of them hits within a factor of 2."""
    guess_error_factor: float | None
    """Geometric mean error of that guess over the same models as ``error_factor``."""
    held: int
    """Models whose measured harm stayed below the threshold up to L."""
    forecast_to_hold: int
    """Of these, how many the forecast said would."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """Return the agreement in words."""
        at = ", ".join(str(k) for k in self.rank_by_times)
        told = [
            f"rank correlation of predicted and measured harm over {self.models} models at T times {at}: "
            f"{_said(self.rank)} (growth of the state in its place: {_said(self.rank_growth)})",
            f"of {self.broke} models that broke down, {self.forecast_to_break} were foreseen, {self.within_two} within "
            f"a factor of 2 of the first length with harm ({self.guess_within_two} by a guess of 2 T)",
            f"of {self.held} that did not, {self.forecast_to_hold} were foreseen",
        ]
        if self.harm_error is not None:
            told[0] += f"; median error of a harm above {HARM_BITS:g} bits: {self.harm_error:.0%}"
            told[0] += "" if self.harm_error_open is None else f" ({self.harm_error_open:.0%} in open loop)"
        if self.error_factor is not None and self.guess_error_factor is not None:
            told[1] += (
                f"; geometric mean error a factor of {self.error_factor:.2f}, by the guess "
                f"{self.guess_error_factor:.2f}"
            )
        return told


def _said(rank: float | None) -> str:
    return "undefined" if rank is None else f"{rank:.2f}"


def _spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    if len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return float(scipy.stats.spearmanr(a, b).statistic)


def _factor(logs: Sequence[float]) -> float | None:
    return float(np.exp2(np.mean(np.abs(logs)))) if logs else None


def agreement(checked: Sequence[Checked], times: Sequence[int] = TIMES) -> Agreement | None:
    """Compare forecasts and measurements over models.

    Args:
        checked: two models or more.
        times: multiples of T to rank at; those that not all models reach are left out.

    Returns:
        The agreement; None for fewer than two models or no common multiple.
    """
    common = [k for k in times if all(k * c.forecast.train_length in c.forecast.lengths for c in checked)]
    if len(checked) < 2 or not common:
        return None

    def rank(of: Callable[[Checked, int], float], at: Sequence[int]) -> float | None:
        cells = [(c, k * c.forecast.train_length) for c in checked for k in at]
        return _spearman([of(c, n) for c, n in cells], [c.harm(n) for c, n in cells])

    def error(of: Callable[[Checked, int], float]) -> float | None:
        cells = [(c, k * c.forecast.train_length) for c in checked for k in common]
        found = [abs(of(c, n) / c.harm(n) - 1) for c, n in cells if c.harm(n) > HARM_BITS]
        return float(np.median(found)) if found else None

    def predicted(c: Checked, n: int) -> float:
        return c.forecast.harm(n)

    def growth(c: Checked, n: int) -> float:
        return c.forecast.growth(n)

    def held_inputs(c: Checked, n: int) -> float:
        assert c.open_loop is not None
        return c.open_loop.harm(n)

    opened = all(c.open_loop for c in checked)
    onsets = [(c.forecast.onset(), c.onset(), c.forecast.train_length) for c in checked]
    broke = [(said, found, T) for said, found, T in onsets if found is not None]
    foreseen = [(said, found, T) for said, found, T in broke if said is not None]
    errors = [float(np.log2(said / found)) for said, found, _ in foreseen]
    guesses = [float(np.log2(2 * T / found)) for _, found, T in broke]
    return Agreement(
        models=len(checked),
        cells=len(checked) * len(common),
        rank=rank(predicted, common),
        rank_open=rank(held_inputs, common) if opened else None,
        rank_growth=rank(growth, common),
        rank_by_times={k: rank(predicted, [k]) for k in common},
        rank_growth_by_times={k: rank(growth, [k]) for k in common},
        harm_error=error(predicted),
        harm_error_open=error(held_inputs) if opened else None,
        broke=len(broke),
        forecast_to_break=len(foreseen),
        within_two=sum(abs(e) <= 1 for e in errors),
        error_factor=_factor(errors),
        guess_within_two=sum(abs(e) <= 1 for e in guesses),
        guess_error_factor=_factor([e for e, (said, _, _) in zip(guesses, broke, strict=True) if said is not None]),
        held=len(checked) - len(broke),
        forecast_to_hold=sum(said is None for said, found, _ in onsets if found is None),
    )
