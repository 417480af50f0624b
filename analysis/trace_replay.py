"""Replay real heads while the model runs: traces of any length in the memory of one block.

The model runs once, under ``upstream``; what drives the chosen heads is recorded block by block and replayed at once
under any number of other decays. Only the replayed heads change: their inputs stay those of the run, so a head is seen
alone, without what it would do to the layers behind it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mambascope.simulate.replay import Change, replay
from mambascope.spectra.dynamics import Intervention, Observation, Observer
from mambascope.spectra.errors import ScaleError
from mambascope.spectra.model import Model, Tokens
from mambascope.spectra.scales import Scales
from mambascope.spectra.traces import Trace, TraceRecorder

Floats = npt.NDArray[np.float64]
Selection = Mapping[int, Sequence[int] | None]

PIECE_TOKENS = 256
"""Tokens of a row that are recorded before they are replayed. Ours: with eight rows of mamba2-tiny 64 and 256 took the
same time, 512 a fifth more."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way to replay the heads."""

    changes: Mapping[int, Sequence[Change]] = field(default_factory=dict)
    """By layer: what differs from the model's own rates and step sizes; nothing in layers left out."""
    restart_every: int = 0
    """Start from a fresh state at every multiple of this; 0 for never."""


class StepMeans:
    """Observer of the mean step sizes from a position on."""

    def __init__(self, start: int) -> None:
        self.start = start
        self._sums: dict[int, tuple[int, Floats]] = {}

    def boundaries(self) -> tuple[int, ...]:
        """Return the position, where a block ends."""
        return (self.start,)

    def update(self, observation: Observation) -> None:
        """Add one block of one layer, if it lies beyond."""
        if observation.start >= self.start:
            dt = observation.dynamics.dt.flatten(0, 1)
            tokens, total = self._sums.get(observation.layer, (0, np.zeros(dt.shape[1])))
            added = dt.sum(0, dtype=torch.float64).cpu().numpy()
            self._sums[observation.layer] = (tokens + dt.shape[0], total + added)

    def mean(self, layer: int) -> Floats:
        """Return a layer's mean dt, (nheads,) or (d_inner,)."""
        tokens, total = self._sums[layer]
        return total / tokens


def every_head(model: Model) -> Selection:
    """Return the selection of all heads of all layers."""
    return dict.fromkeys(range(model.config.n_layer))


def replayed_squares(
    model: Model,
    tokens: Tokens,
    cases: Mapping[str, Case],
    stops_tokens: Sequence[int],
    *,
    selection: Selection | None = None,
    upstream: Intervention | None = None,
    observers: Sequence[Observer] = (),
) -> dict[str, dict[int, Floats]]:
    """Replay heads on the inputs that they have in a run of the model.

    Args:
        model: a loaded model.
        tokens: ids, (rows, length).
        cases: by name. The model's own rates are the starting point of each, whatever ``upstream`` made of them.
        stops_tokens: lengths after which the states are read.
        selection: heads or channels by layer. Default: all.
        upstream: what the model runs with while the traces are recorded. It must leave dt and the gain as they are,
            as scales of kind ``a`` and ``a_power`` do.
        observers: see every layer's work in that run.

    Returns:
        By case and layer: squared norms (stops, rows, heads), or (stops, rows, channels, d_state) of Mamba-1's modes.

    Raises:
        ScaleError: upstream scales dt.
    """
    if isinstance(upstream, Scales) and any(factor.kind == "dt" for factor in upstream.factors):
        raise ScaleError("a trace of a run with scaled dt does not hold the model's own dt; give scales of kind a")
    selection = every_head(model) if selection is None else selection
    recorder = TraceRecorder(selection, max_tokens=PIECE_TOKENS)
    rates = [-np.exp(layer.mixer.A_log.double().cpu().numpy()) for layer in model.layers()]
    stops = sorted(set(stops_tokens))
    states: dict[tuple[str, int], Any] = {}
    found: dict[str, dict[int, list[Floats]]] = {name: {layer: [] for layer in sorted(selection)} for name in cases}
    with torch.no_grad():
        for _ in model.stream(
            np.asarray(tokens)[:, : stops[-1]],
            intervention=upstream,
            observers=[recorder, *observers],
            block_length=PIECE_TOKENS,
        ):
            for layer, trace in recorder.take().items():
                A = rates[layer][trace.heads]
                for name, case in cases.items():
                    key = (name, layer)
                    squares, states[key] = _advance(trace, A, case, stops, states.get(key))
                    found[name][layer] += squares
    return {name: {layer: np.array(s) for layer, s in of.items()} for name, of in found.items()}


def _advance(trace: Trace, A: Floats, case: Case, stops: Sequence[int], state: Any) -> tuple[list[Floats], Floats]:
    """Replay one block in pieces that end where the state is to be cleared."""
    every = case.restart_every or trace.stop + 1
    cuts = [trace.start, *range((trace.start // every + 1) * every, trace.stop, every), trace.stop]
    squares: list[Floats] = []
    for start, stop in itertools.pairwise(cuts):
        part = slice(start - trace.start, stop - trace.start)
        replayed = replay(
            A,
            *(v[:, part] for v in (trace.dt, trace.gain, trace.B, trace.x)),
            groups=trace.groups,
            changes=case.changes.get(trace.layer, ()),
            state=None if start % every == 0 else state,
            start_tokens=start,
            stops_tokens=[s for s in stops if start < s <= stop],
        )
        squares += list(replayed.squared_l2)
        state = replayed.state
    return squares, state
