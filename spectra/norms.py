"""Hidden-state norms by layer at chosen lengths, all from one pass over the text.

The basic quantity is the L2 norm of a state vector: of the d_state numbers that one channel of one head (Mamba-2) or
one channel (Mamba-1) holds. Larger norms (head, layer) are made from these.
Source: Mamba Modulation (arXiv 2509.19633), Table 1 and the notebook behind it (``protocol table1``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from .dynamics import Intervention, Observation, Observer
from .errors import TextError
from .html_table import html_table

if TYPE_CHECKING:
    from .model import Model, Tokens

Floats = npt.NDArray[np.floating]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class StateNorms:
    """Vector norms of every layer's state after each of the lengths."""

    name: str
    """Model's name."""
    lengths_tokens: tuple[int, ...]
    """Lengths, ascending."""
    vector_l2: Floats
    """(lengths, n_layer, batch, nheads, headdim); Mamba-1 has d_inner heads of one channel."""
    conv_l2: Floats
    """(lengths, n_layer, batch, conv_dim): norms of the last d_conv inputs of each convolution channel."""
    layers: tuple[int, ...] = ()
    """True index of each layer, where others stand between them; empty where none do."""

    def head_l2(self) -> Floats:
        """Return Frobenius norms of the heads' states, (lengths, n_layer, batch, nheads)."""
        return np.asarray(np.sqrt(np.square(self.vector_l2, dtype=np.float64).sum(-1)))

    def layer_l2(self) -> Floats:
        """Return Frobenius norms of the layers' states, (lengths, n_layer, batch)."""
        return np.asarray(np.sqrt(np.square(self.vector_l2, dtype=np.float64).sum((-1, -2))))

    def rms(self) -> Floats:
        """Return the root mean square of the layers' norms over the batch, (lengths, n_layer)."""
        return np.asarray(np.sqrt(np.square(self.layer_l2()).mean(-1)))

    def _repr_html_(self) -> str:
        return html_table(self.rows(), f"State norms of {self.name}")

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a length and layer: max, min, mean, quantiles of the vector norms, and where the max sits."""
        rows = []
        for length, of_length in zip(self.lengths_tokens, self.vector_l2, strict=True):
            for layer, values in enumerate(of_length):
                _, head, channel = np.unravel_index(values.argmax(), values.shape)
                row: dict[str, Any] = {"layer": self.layers[layer] if self.layers else layer, "length": length}
                row |= {"max": float(values.max()), "min": float(values.min()), "mean": float(values.mean())}
                row |= {
                    f"q{q * 100:g}": float(v) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
                }
                layer_rms = float(np.sqrt(np.square(values, dtype=np.float64).sum((-1, -2)).mean()))
                rows.append(row | {"layer_l2": layer_rms, "max_head": int(head), "max_channel": int(channel)})
        return rows


@dataclass(frozen=True, slots=True)
class Table1Cell:
    """One length of the paper's Table 1: the norms of the cache with the widest range."""

    length_tokens: int
    """Length L of the text."""
    max: float
    """Largest vector norm of that cache."""
    min: float
    """Smallest vector norm of that same cache; not the smallest of the model."""
    layer: int
    """Its layer."""
    cache: str
    """``ssm`` or ``conv``."""
    runner_up_layer: int
    """Layer of the cache with the second widest range; -1 where there is none."""


def table1(norms: StateNorms) -> list[Table1Cell]:
    """Apply the definition behind the paper's Table 1.

    Over all layers and both caches (SSM state, convolution inputs), the one whose (max - min) is largest gives the
    pair. The authors read one document; of a batch, the last row is taken, as they do for Mamba-2.

    Args:
        norms: vector norms by length.

    Returns:
        One cell a length.
    """
    cells = []
    for k, length in enumerate(norms.lengths_tokens):
        caches = []
        for layer in range(norms.vector_l2.shape[1]):
            for cache, values in (("conv", norms.conv_l2[k, layer, -1]), ("ssm", norms.vector_l2[k, layer, -1])):
                caches.append((float(values.max()), float(values.min()), layer, cache))
        ranked = sorted(caches, key=lambda each: each[0] - each[1], reverse=True)
        runner_up = ranked[1][2] if len(ranked) > 1 else -1
        cells.append(Table1Cell(length, *ranked[0], runner_up))
    return cells


class StateNormObserver:
    """Observer that reads the state after each of the given lengths."""

    def __init__(self, lengths_tokens: Iterable[int]) -> None:
        self.lengths_tokens = tuple(sorted(set(lengths_tokens)))
        self._ssm: dict[tuple[int, int], Floats] = {}
        self._conv: dict[tuple[int, int], Floats] = {}

    def boundaries(self) -> tuple[int, ...]:
        """Return the lengths: a block ends at each."""
        return self.lengths_tokens

    def update(self, observation: Observation) -> None:
        """Keep the norms if the block ends at one of the lengths."""
        if observation.stop not in self.lengths_tokens:
            return
        ssm = observation.state.ssm.norm(dim=-1)
        if ssm.dim() == 2:  # Mamba-1: a channel is its own head
            ssm = ssm[..., None]
        key = (observation.stop, observation.layer)
        self._ssm[key] = ssm.detach().cpu().numpy()
        self._conv[key] = observation.state.conv.to(ssm.dtype).norm(dim=1).detach().cpu().numpy()

    def result(self, name: str = "model") -> StateNorms:
        """Return the norms of all lengths that were reached."""
        reached = tuple(sorted({length for length, _ in self._ssm}))
        layers = sorted({layer for _, layer in self._ssm})
        return StateNorms(
            name,
            reached,
            np.stack([np.stack([self._ssm[n, i] for i in layers]) for n in reached]),
            np.stack([np.stack([self._conv[n, i] for i in layers]) for n in reached]),
        )


def check_lengths(tokens: Tokens, lengths: Sequence[int]) -> None:
    """Refuse lengths that a text does not have.

    Args:
        tokens: ids, (batch, length).
        lengths: lengths in tokens.

    Raises:
        TextError: one is below 1 or beyond the text, or there is none.
    """
    room = tokens.shape[1]
    if not lengths or min(lengths) < 1 or max(lengths) > room:
        raise TextError(f"lengths {list(lengths)} need a text of {max(lengths, default=1)} tokens; this one has {room}")


def state_norms(
    model: Model,
    tokens: Tokens,
    lengths: Sequence[int],
    *,
    intervention: Intervention | None = None,
    observers: Sequence[Observer] = (),
) -> StateNorms:
    """Measure state norms at several lengths from one pass.

    Args:
        model: a loaded model.
        tokens: ids, (batch, length).
        lengths: lengths in tokens, each at least 1 and at most that of the text.
        intervention: rewrites the dynamics, such as scales.
        observers: see every layer's work on the way.

    Returns:
        The norms.

    Raises:
        TextError: a length is not within the text.
    """
    check_lengths(tokens, lengths)
    observer = StateNormObserver(lengths)
    with torch.no_grad():
        for _ in model.stream(tokens[:, : max(lengths)], intervention=intervention, observers=[observer, *observers]):
            pass
    return observer.result(model.name)


def trajectory_lengths(longest: int, points_per_doubling: int = 2) -> list[int]:
    """Return lengths that grow geometrically from 16 to ``longest``, for a curve over positions."""
    steps = max(0, int(np.floor(np.log2(max(longest, 16) / 16) * points_per_doubling)))
    grown = {round(16 * 2 ** (k / points_per_doubling)) for k in range(steps + 1)}
    return sorted({length for length in grown if length <= longest} | {longest})
