r"""Which layers and heads leave the range that training showed, by how much, and what theory expects of each.

Up to T norms come from windows of T tokens of the calibration text, beyond T from the states of its documents. Theory
knows the windows alone: with coherent part c and noise q of a head's writes (``norm_forms``), its norm at any length.
Where the measured norm of a layer more than doubles from n to 2n tokens, no stationary input explains it (the doubling
bound: the state after 2n is a damped state after n plus an equally large one): its inputs have changed, because a layer
before it has left its range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mambascope.spectra.html_table import html_table

from .diagnosis import Diagnosis
from .evidence import Evidence
from .memory import decay_per_token
from .norm_forms import second_moment
from .write_statistics import WriteMoments

Floats = npt.NDArray[np.float64]

OUT_OF_RANGE = 1.1
"""A head predicted to grow beyond this from T to L counts as out of distribution at L. Ours: ten percent."""
FAR_OUT = 2.0
"""And beyond this as far out of it."""
DOUBLING_BOUND = 2.0
"""On the growth of an RMS norm from n to 2n tokens."""


_ARRAYS = (
    "rate", "horizon_tokens", "decay_first", "decay_second", "kappa",
    "norms", "norms_at_T", "predicted", "least_doubling",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Breakdown:
    """Modes are heads (Mamba-2) or states of channels (Mamba-1); units are heads or channels."""

    name: str
    """Model's name."""
    unit: Literal["head", "channel"]
    """What a state norm belongs to."""
    train_length: int
    """T in tokens."""
    target_length: int
    """L in tokens."""
    rate: Floats
    """|A|, (n_layer, nheads) or (n_layer, d_inner, d_state)."""
    horizon_tokens: Floats
    """tau = 1 / (|A| E dt), same shape."""
    decay_first: Floats
    """R_1 = -ln E e^{-|A| dt} per token, same shape."""
    decay_second: Floats
    """R_2 = -ln E e^{-2 |A| dt} per token, same shape."""
    kappa: Floats
    """Coherence of the writes, same shape."""
    lengths_tokens: tuple[int, ...]
    """T/4, T/2, T, then 2T, 4T ... L."""
    norms: Floats
    """RMS norms of the units, (lengths, n_layer, units); up to T in windows, beyond it in documents."""
    norms_at_T: Floats
    """RMS norms of the units after T tokens of the documents, (n_layer, units): what growth beyond T is taken from."""
    predicted: Floats
    """RMS norms that theory expects, from the windows alone, (lengths, n_layer, units)."""
    least_doubling: Floats
    """Growth of each layer's norm over each doubling from T on, (doublings, n_layer): the least when any one document
    is left out, so that a single odd document proves nothing."""

    def growth(self) -> Floats:
        """Return measured growth of every unit's norm from T to L, (n_layer, units)."""
        return np.asarray(self.norms[-1] / _positive(self.norms_at_T))

    def predicted_growth(self) -> Floats:
        """Return predicted growth of every unit's norm from T to L, (n_layer, units)."""
        return np.asarray(self.predicted[-1] / _positive(self.predicted[2]))

    def exponents(self) -> Floats:
        """Return d ln E ||h||^2 / d ln t between successive lengths, (lengths - 1, n_layer, units).

        0: saturated, 1: noise adds up, 2: a constant does; above 2 over a doubling: inputs that change.
        """
        at = np.log(np.array(self.lengths_tokens, dtype=np.float64))
        squares = 2 * np.log(_positive(self.norms))
        rise = np.diff(squares, axis=0)
        rise[2] = squares[3] - 2 * np.log(_positive(self.norms_at_T))  # both from documents
        return np.asarray(rise / np.diff(at)[:, None, None])

    def layer_growth(self) -> tuple[Floats, Floats]:
        """Return each layer's growth from T to L, measured and predicted."""

        def rms(norms: Floats) -> Floats:
            return np.asarray(np.sqrt(np.square(norms).sum(-1)))

        return rms(self.norms[-1]) / rms(self.norms_at_T), rms(self.predicted[-1]) / rms(self.predicted[2])

    def beyond_the_bound(self) -> list[tuple[int, int, float]]:
        """Return layers whose inputs have changed: layer, first length from which it more than doubled, and growth."""
        found = []
        for layer, of_layer in enumerate(self.least_doubling.T):
            over = np.flatnonzero(of_layer > DOUBLING_BOUND)
            if over.size:
                k = int(over[0])
                found.append((layer, self.train_length * 2**k, float(of_layer[k])))
        return found

    def outgrown_at(self, times: float) -> list[int | None]:
        """Return for each layer the first measured length beyond T at which its norm is ``times`` that at T."""
        rms = np.sqrt(np.square(self.norms[3:]).sum(-1)) / np.sqrt(np.square(self.norms_at_T).sum(-1))
        return [next((n for n, v in zip(self.lengths_tokens[3:], of, strict=True) if v >= times), None) for of in rms.T]

    def _repr_html_(self) -> str:
        return html_table(self.layers(), f"{self.name} from {self.train_length:,} to {self.target_length:,} tokens")

    def layers(self) -> list[dict[str, Any]]:
        """Return one row a layer."""
        growth, expected = self.layer_growth()
        of_unit, exponents, changed = self.predicted_growth(), self.exponents(), self.beyond_the_bound()
        return [
            {
                "layer": layer,
                "modes_beyond_T": float((self.horizon_tokens[layer] > self.train_length).mean()),
                "tau_median": float(np.median(self.horizon_tokens[layer])),
                "tau_max": float(self.horizon_tokens[layer].max()),
                "kappa": float(np.median(self.kappa[layer])),
                "exponent_at_T": float(np.median(exponents[1, layer])),
                "out_at_L": float((of_unit[layer] > OUT_OF_RANGE).mean()),
                "growth_predicted": float(expected[layer]),
                "growth_measured": float(growth[layer]),
                "inputs_change_at": next((n for i, n, _ in changed if i == layer), None),
            }
            for layer in range(len(self.rate))
        ]

    def heads(self) -> list[dict[str, Any]]:
        """Return one row a head or channel; of a channel's states the slowest stands for horizon and decays."""
        growth, expected, exponents = self.growth(), self.predicted_growth(), self.exponents()
        rows = []
        for layer, unit in np.ndindex(growth.shape):
            at = (layer, unit)
            slow = (*at, int(self.horizon_tokens[at].argmax())) if self.rate.ndim == 3 else at
            rows.append({
                "layer": layer,
                self.unit: unit,
                "rate": float(self.rate[slow]),
                "horizon_tokens": float(self.horizon_tokens[slow]),
                "decay_first_per_token": float(self.decay_first[slow]),
                "decay_second_per_token": float(self.decay_second[slow]),
                "kappa": float(self.kappa[slow]),
                **{f"norm_at_{n}": float(norm[at]) for n, norm in zip(self.lengths_tokens, self.norms, strict=True)},
                "exponent_at_T": float(exponents[1][at]),
                "exponent_at_L": float(exponents[-1][at]),
                "growth_predicted": float(expected[at]),
                "growth_measured": float(growth[at]),
                "out_at_L": bool(expected[at] > OUT_OF_RANGE),
            })
        return rows

    def arrays(self) -> dict[str, Floats]:
        """Return every number of every mode and unit as named arrays."""
        lengths = np.array(self.lengths_tokens, dtype=np.float64)
        return {name: getattr(self, name) for name in _ARRAYS} | {"lengths_tokens": lengths}

    @classmethod
    def of_arrays(cls, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Breakdown:
        """Make a breakdown from a model's name and ``arrays``."""
        lengths = tuple(int(n) for n in arrays["lengths_tokens"])
        of = {key: np.asarray(arrays[key], dtype=np.float64) for key in _ARRAYS}
        unit: Literal["head", "channel"] = "head" if of["rate"].ndim == 2 else "channel"
        return cls(
            name=name, unit=unit, train_length=lengths[2], target_length=lengths[-1], lengths_tokens=lengths, **of
        )


def _positive(norms: Floats) -> Floats:
    return np.maximum(norms, 1e-300)


def _of_units(squares: Floats, modes_of_a_unit: bool) -> Floats:
    """Root of second moments, summed over the states of a channel."""
    return np.asarray(np.sqrt(squares.sum(-1) if modes_of_a_unit else squares))


def breakdown(diagnosis: Diagnosis) -> Breakdown:
    """Work out which layers and heads break.

    Args:
        diagnosis: with writes.

    Returns:
        The breakdown.

    Raises:
        ValueError: the writes were not measured.
    """
    evidence, T = Evidence.of(diagnosis), diagnosis.train_length
    if diagnosis.writes is None:
        raise ValueError("a breakdown rests on measured writes: diagnose(..., writes=True)")
    writes, layers = diagnosis.writes, evidence.layers
    channels = layers[0].rate.ndim == 2
    beyond = [n for n in diagnosis.norms.lengths_tokens if n > T]
    lengths = (T // 4, T // 2, T, *beyond)  # those of WriteStatistics up to T
    heads = diagnosis.norms.head_l2()  # (lengths, n_layer, documents, units)
    at = {n: np.sqrt(np.square(heads[k]).mean(1)) for k, n in enumerate(diagnosis.norms.lengths_tokens)}
    inside = [np.stack([_of_units(w.squares[k], channels) for w in writes]) for k in range(3)]
    return Breakdown(
        name=diagnosis.spectrum.name,
        unit="channel" if channels else "head",
        train_length=T,
        target_length=diagnosis.target_length,
        rate=np.stack([layer.rate for layer in layers]),
        horizon_tokens=np.stack([layer.horizon_tokens for layer in layers]),
        decay_first=np.stack([decay_per_token(layer, 1.0, 1) for layer in layers]),
        decay_second=np.stack([decay_per_token(layer, 1.0, 2) for layer in layers]),
        kappa=np.stack([layer.kappa for layer in layers]),
        lengths_tokens=lengths,
        norms=np.stack([*inside, *(at[n] for n in beyond)]),
        norms_at_T=at[T],
        predicted=np.stack([_predicted(writes, n, channels) for n in lengths]),
        least_doubling=_least_doublings(diagnosis),
    )


def _predicted(writes: tuple[WriteMoments, ...], length: int, channels: bool) -> Floats:
    return np.stack([_of_units(second_moment(w, length), channels) for w in writes])


def _least_doublings(diagnosis: Diagnosis) -> Floats:
    squares = np.square(diagnosis.norms.layer_l2())  # (lengths, n_layer, documents)
    rows = []
    for k, n in enumerate(diagnosis.norms.lengths_tokens[:-1]):
        if diagnosis.norms.lengths_tokens[k + 1] != 2 * n:
            break
        start, stop = squares[k], squares[k + 1]
        ratios = [stop.sum(-1) / start.sum(-1)]
        if start.shape[-1] > 1:
            ratios += [np.delete(stop, i, -1).sum(-1) / np.delete(start, i, -1).sum(-1) for i in range(start.shape[-1])]
        rows.append(np.sqrt(np.min(ratios, axis=0)))
    return np.array(rows).reshape(-1, squares.shape[1])
