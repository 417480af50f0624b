"""Spectrum and state norms of a foreign model, as results of the usual types, with the layers' true indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..dynamics import Observer
from ..eigenvalues import ROWS_AT_ONCE, Floats, Spectrum, static_spectrum
from ..errors import TextError
from ..mode_statistics import ModeStatistics
from ..model import Tokens
from ..norms import StateNormObserver, StateNorms, check_lengths
from .checkpoint import ForeignCheckpoint
from .forward import ForeignModel


def foreign_spectrum(
    source: ForeignCheckpoint | ForeignModel,
    tokens: Tokens | None = None,
    *,
    name: str | None = None,
    observers: Sequence[Observer] = (),
) -> Spectrum:
    """Return the spectrum of the Mamba layers, with the effective one where a text is given.

    Args:
        source: a checkpoint, of which only A_log and the step sizes' biases are read; or a model that is watched, for
            the effective spectrum.
        tokens: ids (batch, length); each row from a fresh state.
        name: how reports call the model. Default: its own.
        observers: see every Mamba layer's work on the way, ``ROWS_AT_ONCE`` rows at a time.

    Returns:
        The spectrum; ``layers`` has the true indices.

    Raises:
        TextError: tokens without a model to run, or no row of them.
    """
    checkpoint = source.checkpoint if isinstance(source, ForeignModel) else source
    found = static_spectrum(checkpoint, name=name)
    found = replace(found, layers=checkpoint.layers, bias_dt=_bias_steps(checkpoint))
    if tokens is None:
        return found
    if not isinstance(source, ForeignModel):
        raise TextError("the effective spectrum needs a model that runs: ForeignModel.load(checkpoint)")
    if not tokens.shape[0]:
        raise TextError("the effective spectrum needs at least one row of tokens")
    statistics = ModeStatistics()
    for first in range(0, tokens.shape[0], ROWS_AT_ONCE):
        source.watch(tokens[first : first + ROWS_AT_ONCE], [statistics, *observers])
    return replace(found, moments=statistics.result())


def _bias_steps(checkpoint: ForeignCheckpoint) -> tuple[Floats, ...]:
    """Return softplus(dt_bias) of each Mamba layer, (nheads,) or (d_inner,), within the model's limits."""
    config = checkpoint.config
    name = "dt_proj.bias" if config.arch == "mamba" else "dt_bias"
    biases = (
        checkpoint.read(f"backbone.layers.{k}.mixer.{name}").double().numpy() for k in range(config.n_layer)
    )  # each (dt_width,)
    return tuple(np.clip(np.logaddexp(0, bias), *config.dt_limit) for bias in biases)


def foreign_state_norms(
    model: ForeignModel, tokens: Tokens, lengths: Sequence[int], *, observers: Sequence[Observer] = ()
) -> StateNorms:
    """Measure state norms at several lengths by watching the model's own forward once.

    Args:
        model: a watched model.
        tokens: ids, (batch, length).
        lengths: lengths in tokens, each at least 1 and at most that of the text.
        observers: see every Mamba layer's work on the way.

    Returns:
        The norms of the Mamba layers, with their true indices.

    Raises:
        TextError: a length is not within the text.
    """
    check_lengths(tokens, lengths)
    observer = StateNormObserver(lengths)
    model.watch(tokens[:, : max(lengths)], [observer, *observers])
    return replace(observer.result(model.name), layers=model.checkpoint.layers)
