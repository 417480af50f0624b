"""What a calibration moves: positive multipliers u on given factors, values = base * u.

The base is what the start fixes (a proposal's factor for every head, say); u has one number for the model, a layer, a
head (Mamba-2) or channel (Mamba-1), or a channel and state, and may be coarser or finer than the base. So a proposal
for every head can be refined by one number a layer, and u = 1 changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mambascope.spectra.config import Config
from mambascope.spectra.errors import RefusedInputError, ScaleError
from mambascope.spectra.scales import Kind, Scales, scaling

Floats = npt.NDArray[np.float64]
CalibrationKind = Literal["a", "a_power", "dt", "joint"]
CALIBRATION_KINDS: tuple[CalibrationKind, ...] = get_args(CalibrationKind)
"""The three kinds of factors, and ``joint`` for ``a`` and ``dt`` together."""
Granularity = Literal["model", "layer", "head", "state"]
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)


@dataclass(frozen=True, slots=True)
class Part:
    """Factors of one kind."""

    kind: Kind
    """What they multiply."""
    base: Tensor
    """float64 factors at u = 1; of any granularity."""
    shape: tuple[int, ...]
    """Shape of this part's multipliers."""

    @property
    def size(self) -> int:
        """Number of multipliers."""
        return int(np.prod(self.shape))

    def values(self, u: Floats) -> Tensor:
        """Return base * u in the finer of the two shapes."""
        wide, mine = self._aligned(torch.from_numpy(u.reshape(self.shape)))
        return wide * mine

    def pull(self, gradient: Tensor) -> Floats:
        """Turn a gradient with respect to the values into one with respect to u."""
        base, mine = self._aligned(torch.zeros(self.shape, dtype=torch.float64))
        return (gradient * base).sum_to_size(mine.shape).reshape(-1).numpy()

    def _aligned(self, u: Tensor) -> tuple[Tensor, Tensor]:
        dims = max(u.dim(), self.base.dim())
        base, mine = (v.reshape((*v.shape, *(1,) * (dims - v.dim()))) for v in (self.base, u))
        return base, mine


@dataclass(frozen=True, slots=True)
class Parameters:
    """All multipliers of a calibration as one flat vector."""

    parts: tuple[Part, ...]
    """Factors of one or two kinds."""
    prefix: Scales = field(default_factory=Scales)
    """Scales that stay as they are and act first."""

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(part.size for part in self.parts)

    @property
    def kinds(self) -> list[Kind]:
        """Kind of each entry of the vector."""
        return [part.kind for part in self.parts for _ in range(part.size)]

    def values(self, u: Floats) -> list[Tensor]:
        """Return each part's factors, float64."""
        pieces = np.split(u, np.cumsum([part.size for part in self.parts])[:-1])
        return [part.values(piece) for part, piece in zip(self.parts, pieces, strict=True)]

    def scales_of(self, values: Sequence[Tensor]) -> Scales:
        """Return the scales with these factors, as part of torch's graph."""
        found = self.prefix
        for part, of_part in zip(self.parts, values, strict=True):
            found = found.then(scaling(part.kind, of_part))
        return found

    def scales(self, u: Floats) -> Scales:
        """Return the scales at a point."""
        return self.scales_of(self.values(u))

    def pull(self, gradients: Sequence[Tensor]) -> Floats:
        """Turn gradients with respect to the values into one with respect to u."""
        return np.concatenate([part.pull(g) for part, g in zip(self.parts, gradients, strict=True)])


def kinds_of(kind: str) -> tuple[Kind, ...]:
    """Return the kinds of factors behind a name.

    Args:
        kind: one of ``CALIBRATION_KINDS``.

    Returns:
        One kind, or two for ``joint``.

    Raises:
        RefusedInputError: unknown name.
    """
    if kind not in CALIBRATION_KINDS:
        raise RefusedInputError(f"--kind {kind!r}: expected one of {', '.join(CALIBRATION_KINDS)}")
    return ("a", "dt") if kind == "joint" else (kind,)


def shape_of(kind: Kind, granularity: str, config: Config, *, joint: bool = False) -> tuple[int, ...]:
    """Return the shape of one kind's multipliers.

    Args:
        kind: ``a``, ``a_power`` or ``dt``.
        granularity: one of ``GRANULARITIES``.
        config: shape of the model.
        joint: with ``a`` beside it, ``dt`` takes a factor a channel where ``a`` has one a channel and state.

    Returns:
        The shape.

    Raises:
        RefusedInputError: unknown granularity.
        ScaleError: a step size belongs to a channel, so ``dt`` has no factor for a state.
    """
    if granularity not in GRANULARITIES:
        raise RefusedInputError(f"--granularity {granularity!r}: expected one of {', '.join(GRANULARITIES)}")
    if granularity in {"model", "layer"}:
        return () if granularity == "model" else (config.n_layer,)
    if granularity == "head" or (kind == "dt" and (joint or config.arch == "mamba2")):
        return (config.n_layer, config.dt_width)
    if kind == "dt":
        raise ScaleError("kind dt takes no factor for each state: a step size belongs to a channel; use head or layer")
    return (config.n_layer, *config.A_shape)
