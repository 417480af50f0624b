"""The recurrence of a Mamba state, with everything about it that is random.

h_t = exp(-a dt_t) h_{t-1} + gain_t u_t from h_0 = 0, in d channels: ``diagonal`` (Mamba) has a rate a for each channel,
``scalar_identity`` (a head of Mamba-2) one rate for all. The gain is dt_t (Euler, what Mamba uses) or
(1 - exp(-a dt_t)) / a (zero-order hold). One step size a token is shared by the channels, as it is in both models.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from ._kernels import run_group
from .arrays import Floats
from .laws import EigenvalueLaw
from .modes import Discretisation
from .step_laws import Constant, InputLaw, StepLaw, encode
from .threefry import DECAYS, MIXING, Words, normals, uniforms

Kind = Literal["diagonal", "scalar_identity"]

_LANES = 2048  # (channel, trial) pairs that run at once: their states, decays, gains and noise fit the first two caches
_MOST_STEPS = 2**31


def check_times(times_steps: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return times as an array.

    Args:
        times_steps: steps after which norms are wanted.

    Returns:
        The same as int64.

    Raises:
        ValueError: they do not ascend from 1 or more, or go beyond 2^31 steps.
    """
    times = np.asarray(times_steps, dtype=np.int64)
    if times.ndim != 1 or not times.size or times[0] < 1 or (np.diff(times) <= 0).any() or times[-1] > _MOST_STEPS:
        raise ValueError(f"times {times}: expected ascending steps from 1 to {_MOST_STEPS}")
    return times


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A recurrence and the laws of its eigenvalues, step sizes and inputs."""

    kind: Kind
    """``diagonal`` or ``scalar_identity``."""
    channels: int
    """d, size of the state."""
    eigenvalues: EigenvalueLaw
    """Law of the rates: independent for each channel (diagonal), or one a trial (scalar identity)."""
    steps: StepLaw = field(default_factory=Constant)
    """Law of dt_t."""
    inputs: InputLaw = field(default_factory=InputLaw)
    """Law of the inputs: of each u_i,t by itself, or of each x_j,t where they are mixed."""
    discretisation: Discretisation = "euler"
    """What the write gain is."""
    mixing: int | None = None
    """Inputs m of a random B (d, m) with standard normal entries, u = B x. Default: one input a channel, no B."""
    redraw: bool = True
    """Whether rates and B are drawn anew in each trial, or once for all."""

    def __post_init__(self) -> None:
        if self.kind not in {"diagonal", "scalar_identity"} or self.discretisation not in {"euler", "zoh"}:
            raise ValueError(f"{self.kind}, {self.discretisation}: expected diagonal or scalar_identity, euler or zoh")
        if self.channels < 1 or (self.mixing is not None and self.mixing < 1):
            raise ValueError(f"channels {self.channels}, mixing {self.mixing}: expected at least 1")

    def rates(self, key: Words, first: int, trials: int) -> Floats:
        """Return the rates that trials run with.

        Args:
            key: the simulation's key.
            first: number of the first trial.
            trials: how many.

        Returns:
            (trials, channels).
        """
        drawn = self.channels if self.kind == "diagonal" else 1
        first, rows = (first, trials) if self.redraw else (0, 1)
        rates = self.eigenvalues.rates(uniforms(key, DECAYS, first, rows, drawn))
        return np.broadcast_to(rates, (trials, self.channels))

    def mixing_matrix(self, key: Words, first: int, trials: int) -> Floats:
        """Return B of each trial, (trials, channels, mixing), or an empty array without mixing."""
        if self.mixing is None:
            return np.zeros((0, 0, 0))
        first, rows = (first, trials) if self.redraw else (0, 1)
        B = normals(key, MIXING, first, rows, self.channels * self.mixing).reshape(rows, self.channels, self.mixing)
        return np.broadcast_to(B, (trials, self.channels, self.mixing))

    def squared_norms(self, key: Words, times: npt.NDArray[np.int64], first: int, trials: int) -> Floats:
        """Run trials and return their squared state norms.

        Args:
            key: from ``threefry.key_words``.
            times: steps after which norms are wanted, ascending.
            first: number of the first trial.
            trials: how many.

        Returns:
            (trials, times). A trial's row depends on the key and its number alone.

        Raises:
            ValueError: times that do not ascend from 1 or more, or beyond 2^31 steps.
        """
        times = check_times(times)
        kind, two, table = encode(self.steps)
        law = np.array([self.inputs.mean, np.sqrt(self.inputs.variance), self.inputs.rho], dtype=np.float64)
        norms = np.empty((trials, times.size))
        size = max(1, _LANES // self.channels)
        for start in range(0, trials, size):
            group = min(size, trials - start)
            rates = self.rates(key, first + start, group)
            a = np.ascontiguousarray(rates.T).ravel()  # trial fastest
            B = np.ascontiguousarray(self.mixing_matrix(key, first + start, group).transpose(1, 2, 0))
            out = np.empty((times.size, group))
            h = np.zeros(a.size)
            run_group(key, first + start, a, B, law, kind, two, table, self.discretisation == "zoh", times, h, out)
            norms[start : start + group] = out.T
        return norms
