r"""States as they would be after more tokens than a window has, made from windows of the training length alone.

A pass over windows of T tokens gives the decay of every mode over a window and its write W, what the window adds to
the state. Over k more windows like these the mean M of a mode over rows and a row's distance r from it go on as

    M' = D_1^k M + (1 - D_1^k) / (1 - D_1) E W,    r' = D_2^{k/2} r + ((1 - D_2^k) / (1 - D_2))^{1/2} (W - E W),

D_1 and D_2 the means of the decay and of its square: the first two moments are exact where windows are independent of
each other. W - E W is that of another row, of all heads and layers at once, so that their joint law is kept. E W is a
mean over R rows, and its error, of energy 1 / R of a row's noise, would add up like a constant: that is taken off the
noise. Source: ours; the sums are those of ``norm_forms``, with whole states in the place of their norms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mambascope.spectra.dynamics import Observation, Observer
from mambascope.spectra.model import Model
from mambascope.spectra.state import LayerState, StreamState

from .evaluate.perplexity import block_bits
from .state_rows import join_rows, take_rows

Floats = npt.NDArray[np.float64]

_ROWS_AT_ONCE = 16  # windows that run side by side; no effect on the result


@dataclass(frozen=True, slots=True)
class WindowPass:
    """What a pass over windows of T tokens gave; rows are windows."""

    bits: Floats
    """Bits of every token but the first, (rows, T - 1)."""
    start: StreamState
    """States before the windows."""
    end: StreamState
    """States after them."""
    loss: tuple[Tensor, ...]
    """1 - decay over the window, a layer each, (rows, nheads) or (rows, d_inner, d_state), float64."""

    def write(self, layer: int) -> Tensor:
        """Return what the windows added to a layer's states, in float64."""
        before, after = self.start.layers[layer].ssm.double(), self.end.layers[layer].ssm.double()
        return after - (1 - _wide(self.loss[layer], before)) * before


class _Steps:
    """Observer that sums every row's step sizes, layer by layer."""

    def __init__(self) -> None:
        self.sums: dict[int, Tensor] = {}
        self.A: dict[int, Tensor] = {}

    def boundaries(self) -> tuple[int, ...]:
        return ()

    def update(self, observation: Observation) -> None:
        layer, dynamics = observation.layer, observation.dynamics
        dt = dynamics.dt.sum(1, dtype=torch.float64)
        self.sums[layer] = self.sums[layer] + dt if layer in self.sums else dt
        self.A[layer] = dynamics.A.double()

    def losses(self) -> list[Tensor]:
        return [-torch.expm1(_wide(self.sums[i], A[None]) * A) for i, A in sorted(self.A.items())]


def _wide(modes: Tensor, like: Tensor) -> Tensor:
    """Give numbers of modes as many axes as ``like`` has."""
    return modes.reshape(*modes.shape, *(1,) * (like.dim() - modes.dim()))


@torch.no_grad()
def run_windows(
    model: Model,
    windows: npt.NDArray[np.integer],
    start: StreamState | None = None,
    observers: Sequence[Observer] = (),
) -> WindowPass:
    """Run windows from given states; what a model makes of a token does not depend on its position.

    Args:
        model: a loaded model.
        windows: ids, (rows, T).
        start: a state for every row; zeros if left out.
        observers: see every layer's work on the way.

    Returns:
        The pass.
    """
    start = model.zero_state(len(windows)) if start is None else start
    bits, ends, losses = [], [], []
    for first in range(0, len(windows), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        ids, steps, scored = model.ids(windows[rows]), _Steps(), []
        state = take_rows(start, rows)
        for block in model.stream(ids, state=state, observers=[steps, *observers]):
            targets = ids[:, block.start + 1 : block.stop + 1]
            if targets.shape[1]:
                scored.append(block_bits(block.hidden[:, : targets.shape[1]], block.head, targets))
            state = block.state
        bits.append(torch.cat(scored, dim=1).double().cpu().numpy())
        ends.append(state)
        losses.append(steps.losses())
    return WindowPass(
        np.concatenate(bits), start, join_rows(ends), tuple(torch.cat(of) for of in zip(*losses, strict=True))
    )


def _kept_and_gain(loss: Tensor, k: float) -> tuple[Tensor, Tensor]:
    """Return D^k and (1 - D^k) / (1 - D) for decays D = 1 - loss."""
    loss = loss.clamp(1e-300, 1 - 1e-15)
    gone = -torch.expm1(k * torch.log1p(-loss))
    return 1 - gone, gone / loss


def age_states(state: StreamState, seen: WindowPass, k: float, source: Tensor) -> StreamState:
    """Return states after k more windows.

    Args:
        state: of every row.
        seen: a pass with decays and writes like those of the tokens to come.
        k: windows, not necessarily whole.
        source: for every row, the row that its new noise and its convolution's last inputs come from.

    Returns:
        The states, at position 0.
    """
    layers = []
    for layer, (now, end, loss) in enumerate(zip(state.layers, seen.end.layers, seen.loss, strict=True)):
        h, write = now.ssm.double(), seen.write(layer)
        kept, gain = _kept_and_gain(loss.mean(0, keepdim=True), k)
        kept_square, gain_square = _kept_and_gain((loss * (2 - loss)).mean(0, keepdim=True), k)  # 1 - D^2
        noise = (gain_square - gain.square() / len(h)).clamp(min=0).sqrt()
        mean, mean_write = h.mean(0, keepdim=True), write.mean(0, keepdim=True)
        aged = _wide(kept, h) * mean + _wide(kept_square.sqrt(), h) * (h - mean)
        aged += _wide(gain, h) * mean_write + _wide(noise, h) * (write - mean_write)[source]
        layers.append(LayerState(end.conv[source], aged.to(now.ssm.dtype)))
    return StreamState(0, tuple(layers))


def state_sizes(state: StreamState) -> Floats:
    """Return the RMS norm over rows of every layer's state, (n_layer,)."""
    return np.array([float(s.ssm.double().square().sum() / len(s.ssm)) ** 0.5 for s in state.layers])
