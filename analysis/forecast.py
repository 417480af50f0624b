r"""The harm that a model will do beyond its training length, foretold from windows of that length alone.

Theory makes the states that a model would have after s tokens (``forecast_states``), step by step from T on: a pass
over the windows from the states at s gives decays and writes there, and with them the states at sqrt(2) s. So what a
layer gets from a broken layer below it is followed, and no text longer than T is read. The same pass scores the second
half of each window; its bits less those of a fresh window on the same tokens are the harm at age s + 3/4 T. The harm at
a length n is the mean over the ages of its tail, n/2 to n, as ``evaluate.perplexity`` measures it.

What it leaves out: a text that differs from the calibration texts or changes along the way, and the use a model makes
of what older text said, which can make the measured harm negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from mambascope.spectra.dynamics import Observer
from mambascope.spectra.errors import RefusedInputError, TextError
from mambascope.spectra.html_table import html_table
from mambascope.spectra.model import Model

from .forecast_states import age_states, run_windows, state_sizes
from .state_rows import take_rows

Floats = npt.NDArray[np.float64]
Loop = Literal["closed", "open"]

WINDOWS = 128
"""Ours: with half or twice as many, forecasts over 0.1 bits of three models of the study (mamba2-t128-wide,
mamba-t128-wide, mamba2-t64-fast) move by up to 10 %."""
STEPS_PER_DOUBLING = 2
"""Ours: with twice as many, the same forecasts move by up to 3 %; with half as many, by up to 6 %."""
HARM_BITS = 0.05
"""Harm in bits per token from which a model counts as broken down. Ours: 3.5 % of perplexity."""


def crossing(lengths: Sequence[int], harm: Sequence[float] | Floats, bits: float = HARM_BITS) -> float | None:
    """Return the first length with harm over a threshold, between two lengths by a straight line on a log axis.

    Args:
        lengths: ascending.
        harm: at each length.
        bits: the threshold.

    Returns:
        Tokens; None if the harm stays below it.

    >>> crossing([64, 128, 256], [0.0, 0.0, 0.1])
    181.01933598375618
    >>> crossing([64, 128, 256], [0.0, 0.0, 0.04]) is None
    True
    """
    for k, value in enumerate(harm):
        if value <= bits:
            continue
        if k == 0:
            return float(lengths[0])
        share = (bits - harm[k - 1]) / (value - harm[k - 1])
        return float(lengths[k - 1] * (lengths[k] / lengths[k - 1]) ** share)
    return None


def doublings(train_length: int, target_length: int) -> tuple[int, ...]:
    """Return T, 2T, 4T ... up to L, and L.

    Args:
        train_length: T.
        target_length: L.

    Returns:
        Lengths in tokens.

    Raises:
        RefusedInputError: L is below 2 T, or T below 4.
    """
    if train_length < 4 or target_length < 2 * train_length:
        raise RefusedInputError(
            f"target length {target_length}, training length {train_length}: expected a training length of at least 4 "
            "tokens and a target of at least twice that"
        )
    found = [train_length]
    while found[-1] * 2 < target_length:
        found.append(found[-1] * 2)
    return (*found, target_length)


def forecast_windows(
    documents: Sequence[npt.NDArray[np.integer]], train_length: int, windows: int = WINDOWS
) -> npt.NDArray[np.integer]:
    """Cut windows of T tokens, evenly spread over each document, one document after the other.

    Args:
        documents: ids of each.
        train_length: T.
        windows: how many at most, but at least two of each document.

    Returns:
        Ids, (windows, T).

    Raises:
        TextError: no document gives two windows.
    """
    kept = [ids for ids in documents if len(ids) >= 2 * train_length]
    if not kept:
        longest = max(map(len, documents), default=0)
        raise TextError(
            f"no calibration document gives two windows of {train_length} tokens (the longest has {longest}); "
            "give longer texts"
        )
    rows = []
    for ids in kept:
        room = len(ids) // train_length
        each = min(room, max(2, windows // len(kept)))
        rows += [ids[s : s + train_length] for s in (k * room // each * train_length for k in range(each))]
    return np.stack(rows)


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """Harm by age of the state, in windows of the training length."""

    name: str
    """Model's name."""
    train_length: int
    """T in tokens."""
    target_length: int
    """L in tokens."""
    loop: Loop
    """``closed``: writes are measured anew at each age; ``open``: they stay those of fresh windows."""
    ages_tokens: Floats
    """Mean age of the state in the scored half of the windows, ascending; the first is that of a fresh window."""
    harm_by_age: Floats
    """Bits per token above a fresh window on the same tokens, (windows, ages); 0 at the first."""
    growth_by_age: Floats
    """Each layer's state norm over that at T, if all inputs stay those of fresh windows, (ages, n_layer)."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """T, 2T, 4T ... L."""
        return doublings(self.train_length, self.target_length)

    def _of_windows(self, length: int) -> Floats:
        """Harm over the tail of a length, one number a window."""
        if length <= self.train_length:
            return np.zeros(len(self.harm_by_age))
        tail = np.linspace(length / 2, length, 257)
        ages = np.eye(len(self.ages_tokens))
        weights = np.array([np.interp(tail, self.ages_tokens, age).mean() for age in ages])
        return np.asarray(self.harm_by_age @ weights)

    def harm(self, length: int) -> float:
        """Return the harm to expect at a length, in bits per token."""
        return float(self._of_windows(length).mean())

    def error(self, length: int) -> float:
        """Return its standard error over windows; the error of the states is not in it."""
        of = self._of_windows(length)
        return float(of.std(ddof=1) / np.sqrt(len(of)))

    def growth(self, length: int) -> float:
        """Return the growth from T of the layer that grows most, inputs in range: what theory says without a loss."""
        ages = self.ages_tokens - 0.75 * self.train_length  # of the state at the start of a window
        return float(np.interp(length, ages, self.growth_by_age.max(1)))

    def onset(self) -> float | None:
        """Return the first length with harm over ``HARM_BITS``, in tokens; None if there is none up to L."""
        return crossing(self.lengths, [self.harm(n) for n in self.lengths])

    def sentence(self) -> str:
        """Return the forecast in words."""
        onset, T, L = self.onset(), self.train_length, self.target_length
        if onset is None:
            return (
                f"{self.name}: harm is expected to stay below {HARM_BITS} bits per token up to {L:,} tokens "
                f"({L / T:g} T); {self.harm(L):+.3f} at that length."
            )
        return (
            f"{self.name}: harm is expected to pass {HARM_BITS} bits per token at about {onset:,.0f} tokens "
            f"({onset / T:.1f} T) and to reach {self.harm(L):+.2f} at {L:,} ({L / T:g} T)."
        )

    def _repr_html_(self) -> str:
        return html_table(self.rows(), self.sentence())

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a length beyond T."""
        return [
            {
                "length": n,
                "times_T": n / self.train_length,
                "harm_predicted": self.harm(n),
                "standard_error": self.error(n),
                "growth_predicted": self.growth(n),
            }
            for n in self.lengths[1:]
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "name": self.name,
            "train_length": self.train_length,
            "target_length": self.target_length,
            "loop": self.loop,
            "windows": len(self.harm_by_age),
            "harm_bits": HARM_BITS,
            "onset_tokens": self.onset(),
            "rows": self.rows(),
            "says": self.sentence(),
        }

    def arrays(self) -> dict[str, Floats]:
        """Return every number as named arrays."""
        lengths = np.array([self.train_length, self.target_length], dtype=np.float64)
        names = ("ages_tokens", "harm_by_age", "growth_by_age")
        return {name: getattr(self, name) for name in names} | {"lengths": lengths}

    @classmethod
    def of_arrays(cls, name: str, arrays: Mapping[str, npt.NDArray[Any]], loop: Loop = "closed") -> Forecast:
        """Make a forecast from a model's name and ``arrays``."""
        T, L = (int(n) for n in arrays["lengths"])
        return cls(name, T, L, loop, arrays["ages_tokens"], arrays["harm_by_age"], arrays["growth_by_age"])


def _starts(train_length: int, target_length: int) -> list[float]:
    """Return the ages of start states from T on, up to L."""
    steps = int(np.ceil(np.log2(target_length / train_length) * STEPS_PER_DOUBLING - 1e-9))
    return [train_length * 2 ** (k / STEPS_PER_DOUBLING) for k in range(steps + 1)]


def planned_forecast_tokens(windows: npt.NDArray[np.integer], target_length: int) -> int:
    """Return how many tokens a forecast runs through the model."""
    passes = 2.5 + len(_starts(windows.shape[1], target_length))
    return int(windows.size * passes)


def forecast(
    model: Model,
    windows: npt.NDArray[np.integer],
    target_length: int,
    *,
    loop: Loop = "closed",
    observers: Sequence[Observer] = (),
) -> Forecast:
    """Foretell the harm up to a length.

    Args:
        model: a loaded model.
        windows: ids, (windows, T), from ``forecast_windows``: all that is read.
        target_length: L.
        loop: ``open`` leaves out that what a layer gets changes with the states below it.
        observers: see every layer's work on the way.

    Returns:
        The forecast.
    """
    rows, T = windows.shape
    doublings(T, target_length)
    second_half = slice(T // 2 - 1, None)

    def source(step: int) -> torch.Tensor:
        """Take from the row ``step`` before: mostly one of the same document, and another one at every step."""
        return torch.arange(rows).roll(step % (rows - 1) + 1)

    fresh = run_windows(model, windows, observers=observers)
    half = run_windows(model, windows[:, : T // 2], observers=observers)
    control = fresh.bits[:, second_half].mean(1)
    seen = run_windows(model, windows, take_rows(half.end, source(0)), observers)
    ages, harm = [0.75 * T, 1.25 * T], [np.zeros(rows), seen.bits[:, second_half].mean(1) - control]
    at_T = state_sizes(fresh.end)
    growth = [np.ones_like(at_T), np.ones_like(at_T)]
    expected = state = take_rows(fresh.end, source(0))
    starts = _starts(T, target_length)
    for step, (age, following) in enumerate(zip(starts, [*starts[1:], None], strict=True), start=1):
        seen = run_windows(model, windows, state, observers)
        ages.append(age + 0.75 * T)
        harm.append(seen.bits[:, second_half].mean(1) - control)
        growth.append(state_sizes(expected) / at_T)
        if following is not None:
            k = (following - age) / T
            expected = age_states(expected, fresh, k, source(step))
            state = age_states(state, seen, k, source(step)) if loop == "closed" else expected
    return Forecast(model.name, T, target_length, loop, np.array(ages), np.stack(harm, axis=1), np.stack(growth))
