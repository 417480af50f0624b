"""What a head's writes look like in windows of the training length: all that a prediction of its norm may rest on.

A state is a sum of writes gain_t B_t x_t, each decayed by the steps after it. Two numbers of the writes matter for slow
modes: how much of them is the same from token to token (coherent, adds up like n) and how much is not (noise, adds up
like sqrt n). The coherent part is read from pairs of windows of one document: <W_i, W_j> of their final states has no
noise in it, as each window starts from a fresh state, while what is common to a document's windows stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mambascope.spectra.dynamics import Intervention, Observation
from mambascope.spectra.errors import TextError
from mambascope.spectra.model import Model, Tokens

from .training_windows import training_windows

Floats = npt.NDArray[np.float64]

WINDOWS_PER_DOCUMENT = 64
"""Ours: half as many change predicted norms by far less than they are wrong."""

ROWS = 8
"""Windows that run side by side. Ours: as fast as 16, with half the states."""


@dataclass(frozen=True, slots=True)
class WriteMoments:
    """One layer's modes in windows of T tokens: arrays (nheads,) for Mamba-2, (d_inner, d_state) for Mamba-1."""

    train_length: int
    """T in tokens."""
    windows: int
    """Windows observed."""
    mean_dt: Floats
    """E dt, (nheads,) or (d_inner,)."""
    rate: Floats
    """|A| E dt per token."""
    write_energy: Floats
    """E ||gain B x||^2 of a token."""
    mean_write_squared: Floats
    """||E gain B x||^2, over all tokens."""
    coherent: Floats
    """E <W_i, W_j> over pairs of windows of one document, W a window's final state; less noise, it may be negative."""
    squares: Floats
    """(3, ...): E ||h||^2 after T/4, T/2 and T tokens from a fresh state."""

    @property
    def trained_l2(self) -> Floats:
        """RMS norm after T tokens: what training showed."""
        return np.asarray(np.sqrt(self.squares[-1]))


class _Sums:
    """Sums of one layer."""

    def __init__(self) -> None:
        self.tokens = 0
        self.A = torch.zeros(())
        self.dt = self.energy = self.write = torch.zeros((), dtype=torch.float64)
        self.squares: dict[int, Tensor] = {}
        self.documents: list[tuple[int, Tensor, Tensor]] = []  # windows, sum of W, sum of ||W||^2

    def add(self, other: _Sums) -> None:
        self.tokens += other.tokens
        self.A = other.A
        self.dt, self.energy, self.write = self.dt + other.dt, self.energy + other.energy, self.write + other.write
        for stop, squares in other.squares.items():
            self.squares[stop] = self.squares.get(stop, torch.zeros_like(squares)) + squares
        self.documents += other.documents


def _write_sums(gain: Tensor, B: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums over tokens of the writes' energies and of the writes themselves, in float64."""
    gain, B, x = gain.flatten(0, 1).double(), B.flatten(0, 1).double(), x.flatten(0, 1).double()
    if x.dim() == 2:  # (tokens, d_inner): Mamba-1
        u = gain * x
        return u.square().T @ B.square(), u.T @ B
    tokens, H, P = x.shape
    ngroups, d_state = B.shape[1:]
    u = gain[..., None] * x  # (tokens, nheads, headdim)
    size = B.square().sum(-1).repeat_interleave(H // ngroups, dim=1)  # (tokens, nheads)
    energy = (u.square().sum(-1) * size).sum(0)
    write = torch.einsum("tgq,tgn->gqn", u.reshape(tokens, ngroups, -1), B)
    return energy, write.reshape(H, P, d_state)


class WriteStatistics:
    """Observer of windows of one document, all from a fresh state; merge those of several documents."""

    def __init__(self, train_length: int) -> None:
        self.train_length = train_length
        self._layers: dict[int, _Sums] = {}

    def boundaries(self) -> tuple[int, ...]:
        """Return T/4, T/2 and T, where states are read."""
        return (self.train_length // 4, self.train_length // 2, self.train_length)

    def update(self, observation: Observation) -> None:
        """Add one block of one layer."""
        dynamics, state, found = observation.dynamics, observation.state.ssm.double(), _Sums()
        found.tokens = dynamics.dt.shape[0] * dynamics.dt.shape[1]
        found.A, found.dt = dynamics.A.double(), dynamics.dt.sum((0, 1), dtype=torch.float64)
        found.energy, found.write = _write_sums(dynamics.gain, observation.B, observation.x)
        sums = self._layers.setdefault(observation.layer, _Sums())
        if observation.stop in self.boundaries():
            squares = _squared(state).sum(0)
            found.squares = {observation.stop: squares}
            if observation.stop == self.train_length:  # all windows of this observer are of one document
                n, total, size = sums.documents.pop() if sums.documents else (0, 0, 0)
                found.documents = [(n + state.shape[0], total + state.sum(0), size + squares)]
        sums.add(found)

    def merge(self, other: WriteStatistics) -> None:
        """Add another document's sums to these."""
        for layer, sums in other._layers.items():
            self._layers.setdefault(layer, _Sums()).add(sums)

    def result(self) -> tuple[WriteMoments, ...]:
        """Return the moments of every layer.

        Returns:
            One a layer, in order.

        Raises:
            TextError: a document has fewer than two windows, so that none of its pairs exist.
        """
        return tuple(_moments(self.train_length, sums) for _, sums in sorted(self._layers.items()))


def _squared(state: Tensor) -> Tensor:
    """Squared norms of the modes: of heads (batch, nheads, headdim, d_state), or of Mamba-1's numbers one by one."""
    return state.square().sum((-1, -2)) if state.dim() == 4 else state.square()


def _moments(T: int, sums: _Sums) -> WriteMoments:
    if not sums.documents or min(n for n, _, _ in sums.documents) < 2:
        raise TextError(f"a document gives fewer than two windows of {T} tokens; give longer texts or more windows")
    pairs = [(_squared(total[None])[0] - size) / (n * (n - 1)) for n, total, size in sums.documents]
    windows = sum(n for n, _, _ in sums.documents)
    dt = sums.dt / sums.tokens
    values = {
        "mean_dt": dt,
        "rate": -sums.A * dt.view(-1, *(1,) * (sums.A.dim() - 1)),
        "write_energy": sums.energy / sums.tokens,
        "mean_write_squared": _squared((sums.write / sums.tokens)[None])[0],
        "coherent": torch.stack(pairs).mean(0),
        "squares": torch.stack([sums.squares[stop] / windows for stop in sorted(sums.squares)]),
    }
    return WriteMoments(T, windows, **{name: v.cpu().numpy() for name, v in values.items()})


def write_moments(
    model: Model,
    tokens: Tokens,
    train_length: int,
    *,
    windows_per_document: int = WINDOWS_PER_DOCUMENT,
    intervention: Intervention | None = None,
) -> tuple[WriteMoments, ...]:
    """Measure the writes of all modes on windows of the training length, each from a fresh state.

    Args:
        model: a loaded model.
        tokens: ids, (documents, length); windows are spread evenly over each document.
        train_length: T, at least 4.
        windows_per_document: how many, at least 2.
        intervention: what the model runs with; its rates are those measured.

    Returns:
        Moments of every layer.

    Raises:
        TextError: the documents are shorter than two windows.
    """
    found = WriteStatistics(train_length)
    with torch.no_grad():
        for document in np.asarray(tokens):
            own = WriteStatistics(train_length)
            windows = training_windows(document[None], train_length, windows_per_document)
            for first in range(0, len(windows), ROWS):
                for _ in model.stream(windows[first : first + ROWS], intervention=intervention, observers=[own]):
                    pass
            found.merge(own)
    return found.result()
