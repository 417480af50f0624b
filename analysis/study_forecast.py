"""A study's forecast: the harm to expect, from windows of the training length, kept before any test text is scored.

It is ``forecast.forecast`` on calibration text. Its cost in memory is states, those of all windows side by side, so
models with large states get fewer windows; their training lengths are longer.
"""

from __future__ import annotations

from collections.abc import Sequence

from mambascope.spectra.model import Model
from mambascope.spectra.tokens import Document

from .arrays import Arrays, kept_arrays
from .evaluate.perplexity import Floats, rows_by_length
from .forecast import WINDOWS, Forecast, forecast, forecast_windows, planned_forecast_tokens
from .forecast_check import Checked
from .runs import RunFolder
from .texts import Tick, token_counter

LEAST_TRAINING_LENGTH = 4
"""T below which nothing is foretold: half a window must hold a token and its target."""
COPIES = 12
"""States of all windows alive at once, with what is computed from them. Ours: peak memory over the states of a row,
of a random Mamba-2 with 16 layers."""
MOST_STATE_BYTES = 2 << 30
"""Memory for these. Ours: bundled models keep all their windows, mamba2-130m has 9 of 2,048 tokens."""
FEWEST_WINDOWS = 8
"""Ours: with 8 windows instead of 128, harms over 0.1 bits foretold for mamba2-tiny and mamba-tiny move by up to 17 %,
and so does the first length with harm."""


def windows_within(model: Model, most_bytes: int = MOST_STATE_BYTES) -> int:
    """Return how many windows a forecast may run side by side.

    Args:
        model: a loaded model.
        most_bytes: memory for states.

    Returns:
        At most ``forecast.WINDOWS``, at least ``FEWEST_WINDOWS``.
    """
    row = sum(layer.conv.nbytes + layer.ssm.nbytes for layer in model.zero_state(1).layers)
    return max(FEWEST_WINDOWS, min(WINDOWS, most_bytes // (COPIES * row)))


def planned_tokens(documents: Sequence[Document], train_length: int, target_length: int) -> int:
    """Estimate how many tokens a study's forecast runs through the model."""
    if train_length < LEAST_TRAINING_LENGTH:
        return 0
    windows = forecast_windows([d.ids for d in documents], train_length)
    return planned_forecast_tokens(windows, target_length)


def foretell(
    model: Model,
    documents: Sequence[Document],
    run: RunFolder,
    *,
    train_length: int,
    target_length: int,
    key: str | None = None,
    tick: Tick = lambda _: None,
) -> Forecast | None:
    """Foretell the harm of a model up to the target length, and keep it.

    Args:
        model: a loaded model.
        documents: calibration text, of which windows of T tokens are read.
        run: keeps the forecast.
        train_length: T.
        target_length: L.
        key: what the run files the cell under. Default: the model's name.
        tick: called with numbers of tokens as they pass.

    Returns:
        The forecast; None for a T below ``LEAST_TRAINING_LENGTH``.
    """
    if train_length < LEAST_TRAINING_LENGTH:
        return None

    def compute() -> Arrays:
        windows = forecast_windows([d.ids for d in documents], train_length, windows_within(model))
        found = forecast(model, windows, target_length, observers=[token_counter(tick)])
        left = planned_tokens(documents, train_length, target_length) - planned_forecast_tokens(windows, target_length)
        tick(left)  # windows that there is no memory for
        return dict(found.arrays())

    return Forecast.of_arrays(model.name, kept_arrays(run, f"{key or model.name}/forecast", compute))


def outcome(forecast: Forecast | None, bits: Floats, control: Floats) -> Checked | None:
    """Set a forecast beside the bits of a study.

    Args:
        forecast: from ``foretell``.
        bits: of every test token but the first, unscaled, (documents, L - 1).
        control: the fresh-window control's on the same tokens.

    Returns:
        Both, by length; None without a forecast.
    """
    if forecast is None:
        return None
    return Checked(forecast, tuple(rows_by_length("none", bits, forecast.lengths, control)))
