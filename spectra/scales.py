"""Scaling factors: three kinds with names, never just "scale".

* ``a``: A -> s A. The horizon of a mode shrinks by s, its write stays.
* ``a_power``: |A| -> |A|^s, that is A_log -> s A_log. A mode with |A| = 1 does not move.
* ``dt``: dt -> s dt after the softplus, in the decay and in the write alike.

Each kind takes one factor for the model, for a layer, for a head (Mamba-2) or channel (Mamba-1), or (``a`` and
``a_power`` on Mamba-1) for each channel and state, and an optional onset token before which it does nothing. Factors
compose. A :class:`Scales` is an intervention: give it to ``Model.stream``.

Source: Mamba Modulation (arXiv 2509.19633) for ``a`` (its text) and ``a_power`` (its released code), MambaExtend for
``dt``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .config import Config
from .dynamics import Dynamics
from .errors import ScaleError
from .html_table import html_table

Kind = Literal["a", "a_power", "dt"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FORMAT = 1
_PRODUCTS = "dt |A| of 1e-8 to 1e8 times the factor would leave the numbers of float32"
RANGES: dict[Kind, tuple[float, float, str]] = {
    "a": (2.0**-96, 2.0**96, _PRODUCTS),
    "a_power": (0.0, 128.0, "|A| = 2 to that power would leave the numbers of float32"),
    "dt": (2.0**-96, 2.0**96, _PRODUCTS),
}
"""Least and largest factor, and what is lost outside. Ours: numbers of float32 go from 2^-126 to 2^127, so that
dt |A| may lie 2^30 on either side of 1; at the start of a training it is between 1e-3 and 2. Calibrations stay inside.
"""


@dataclass(frozen=True, slots=True)
class Factor:
    """One set of factors of one kind."""

    kind: Kind
    """What the factors multiply."""
    values: Tensor
    """float64 factors: () for the model, (n_layer,), (n_layer, nheads or d_inner), or (n_layer, d_inner, d_state)."""
    onset_tokens: int = 0
    """Position from which the factors act."""

    @property
    def granularity(self) -> str:
        """``model``, ``layer``, ``head`` (a head or a channel) or ``state`` (a channel and state)."""
        return ("model", "layer", "head", "state")[self.values.dim()]

    def of_layer(self, layer: int, like: Tensor) -> Tensor:
        """Return one layer's factors on the device and in the dtype of ``like``."""
        return (self.values if self.values.dim() == 0 else self.values[layer]).to(like)

    def apply(self, layer: int, dynamics: Dynamics) -> Dynamics:
        """Return the dynamics with this factor in them."""
        dt, A, gain = dynamics.dt, dynamics.A, dynamics.gain
        s = self.of_layer(layer, A)
        if self.kind == "dt":
            return Dynamics(dt * s, A, gain * s)
        if s.dim() == 1 and A.dim() == 2:
            s = s[:, None]  # a channel's factor holds for all its states
        return Dynamics(dt, A * s if self.kind == "a" else -((-A) ** s), gain)


@dataclass(frozen=True, slots=True)
class Scales:
    """Factors that act one after another; the empty ``Scales()`` changes nothing."""

    factors: tuple[Factor, ...] = ()
    """Applied in this order."""

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a set of factors: what it is, and how far its factors reach."""
        return [
            {
                "kind": f.kind,
                "granularity": f.granularity,
                "factors": f.values.numel(),
                "min": float(f.values.min()),
                "median": float(f.values.median()),
                "max": float(f.values.max()),
                "onset_tokens": f.onset_tokens,
            }
            for f in self.factors
        ]

    def _repr_html_(self) -> str:
        return html_table(self.rows(), "Scales" if self.factors else "Scales: none, nothing is changed")

    def boundaries(self) -> tuple[int, ...]:
        """Return the onsets, where a stream must end a block."""
        return tuple(sorted({f.onset_tokens for f in self.factors if f.onset_tokens > 0}))

    def __call__(self, layer: int, position: int, dynamics: Dynamics) -> Dynamics:
        """Return the scaled dynamics of a block that starts at ``position``."""
        for factor in self.factors:
            if position >= factor.onset_tokens:
                dynamics = factor.apply(layer, dynamics)
        return dynamics

    def then(self, other: Scales) -> Scales:
        """Return the scales that apply these factors first and the others after them."""
        return Scales(self.factors + other.factors)

    @property
    def is_identity(self) -> bool:
        """True if every factor is 1."""
        return all(bool((f.values == 1).all()) for f in self.factors)

    def check(self, config: Config) -> Scales:
        """Return these scales if they fit a model.

        Args:
            config: shape of the model.

        Returns:
            The scales themselves.

        Raises:
            ScaleError: shapes differ from the model's, or a factor is outside of its kind's ``RANGES``.
        """
        for f in self.factors:
            fits = [(), (config.n_layer,), (config.n_layer, config.dt_width)]
            if f.kind != "dt":  # a step size belongs to a channel, not to one of its states
                fits.append((config.n_layer, *config.A_shape))
            if tuple(f.values.shape) not in fits:
                raise ScaleError(
                    f"factors of kind {f.kind!r} have shape {tuple(f.values.shape)}; this {config.arch} model takes "
                    f"{' or '.join(map(str, dict.fromkeys(fits)))}: were they made for another model?"
                )
            least, most, lost = RANGES[f.kind]
            bad = ~((f.values >= least) & (f.values <= most))  # NaN is neither
            if bool(bad.any()):
                where = tuple(int(i) for i in bad.nonzero()[0]) if bad.dim() else ()
                value = float(f.values.detach()[where])
                sign = "positive" if least else "not negative"
                raise ScaleError(
                    f"factor {value} of kind {f.kind!r} at {where}: must be {sign} and from {least:.3g} to "
                    f"{most:.3g}; outside, {lost}: take one nearer to 1"
                )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "format": FORMAT,
            "factors": [
                {"kind": f.kind, "onset_tokens": f.onset_tokens, "values": f.values.tolist()} for f in self.factors
            ],
        }

    def save(self, path: str | Path) -> None:
        """Write the factors as JSON, every digit kept."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Scales:
        """Read factors written by ``save``.

        Args:
            path: a JSON file.

        Returns:
            The scales; ``check`` them against a model before use.

        Raises:
            ScaleError: the file is missing or is not a file of scales.
        """
        path = Path(path)
        try:
            return cls._of(msgspec.json.decode(path.read_bytes(), type=_StoredScales), str(path))
        except OSError as error:
            raise ScaleError(f"{path}: cannot read the scales: {error.strerror}") from error
        except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
            raise ScaleError(f"{path}: not a file of scales: {error}; make one with `mambascope propose`") from error

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Scales:
        """Make scales from what ``to_dict`` returned."""
        return cls._of(msgspec.convert(stored, type=_StoredScales), "stored scales")

    @classmethod
    def _of(cls, stored: _StoredScales, where: str) -> Scales:
        factors = [scaling(f.kind, f.values, onset_tokens=f.onset_tokens).factors[0] for f in stored.factors]
        if stored.format != FORMAT:
            raise ScaleError(f"{where}: scales of format {stored.format}; this version reads format {FORMAT}")
        return cls(tuple(factors))


class _StoredFactor(msgspec.Struct, forbid_unknown_fields=True):
    kind: Kind
    onset_tokens: int
    values: float | list[Any]


class _StoredScales(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    factors: list[_StoredFactor]
    note: str = ""
    """Why, in words."""
    provenance: dict[str, Any] = {}
    """How the factors were made: model, texts by content, method, losses. Absent in older files."""


def _tensor(values: float | Sequence[Any] | npt.ArrayLike | Tensor) -> Tensor:
    if isinstance(values, Tensor):
        return values.double()
    return torch.from_numpy(np.array(values, dtype=np.float64))


def scaling(kind: Kind, values: float | Sequence[Any] | npt.ArrayLike | Tensor, *, onset_tokens: int = 0) -> Scales:
    """Make scales of one kind.

    Args:
        kind: ``a``, ``a_power`` or ``dt``.
        values: one factor, or an array of them: (n_layer,), (n_layer, nheads or d_inner), (n_layer, d_inner, d_state).
        onset_tokens: position from which the factors act. Default: 0, everywhere.

    Returns:
        The scales.

    Raises:
        ScaleError: unknown kind or negative onset.

    >>> scaling("a", 2.0).factors[0].granularity
    'model'
    """
    if kind not in KINDS:
        raise ScaleError(f"unknown kind of scaling {kind!r}; there are {', '.join(KINDS)}")
    if onset_tokens < 0 or math.isnan(onset_tokens):
        raise ScaleError(f"onset_tokens must be 0 or more, got {onset_tokens}")
    return Scales((Factor(kind, _tensor(values), onset_tokens),))
