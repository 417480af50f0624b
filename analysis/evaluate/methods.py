"""Methods by name, scored on the same tokens: what ``mambascope evaluate`` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mambascope.spectra.config import Config
from mambascope.spectra.dynamics import Observer
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales, scaling
from mambascope.spectra.tokens import Document

from ..arrays import Arrays, kept_arrays
from ..proposal import Proposal, propose_for
from ..runs import RunFolder
from .perplexity import Floats, Perplexity, fresh_window_bits, rows_by_length, token_bits

METHODS = ("none", "spectrum", "fresh-window", "scales", "constant:S")
"""Names; ``constant:2`` scales A by 2 everywhere."""


def constant_of(method: str) -> float | None:
    """Return S of ``constant:S``.

    Args:
        method: a method's name.

    Returns:
        The factor; None for another method.

    Raises:
        RefusedInputError: S is not a number.
    """
    name, colon, number = method.partition(":")
    if name != "constant" or not colon:
        return None
    try:
        return float(number)
    except ValueError as error:
        raise RefusedInputError(f"method {method!r}: expected a number, as in constant:2") from error


def check_methods(methods: Sequence[str], config: Config) -> None:
    """Refuse a method that is unknown or that the model cannot have.

    Args:
        methods: names.
        config: shape of the model.

    Raises:
        RefusedInputError: unknown method.
        ScaleError: a constant that is no factor.
    """
    for method in methods:
        constant = constant_of(method)
        if constant is not None:
            scaling("a", constant).check(config)
        elif method not in METHODS[:-1]:
            raise RefusedInputError(f"method {method!r}: expected some of {', '.join(METHODS)}")


@dataclass
class Evaluation:
    """Methods scored on one set of documents."""

    model: Model
    """A loaded model."""
    tokens: npt.NDArray[np.integer]
    """Ids, (documents, longest length)."""
    lengths: Sequence[int]
    """Lengths to report."""
    train_length: int | None = None
    """T; needed by ``spectrum`` and ``fresh-window``."""
    calibration: Sequence[Document] = ()
    """Documents for ``spectrum``; none of those scored."""
    scales: Scales | None = None
    """What ``scales`` runs with."""
    batch: int = 8
    """Documents that run side by side."""
    notes: list[str] = field(default_factory=list)
    """Why ``spectrum`` did what it did."""

    def run(
        self, methods: Sequence[str], *, folder: RunFolder | None = None, observers: Sequence[Observer] = ()
    ) -> Perplexity:
        """Score the methods one after another.

        Args:
            methods: names out of ``METHODS``.
            folder: keeps each method's bits, so that a stopped evaluation resumes.
            observers: see every layer's work on the way.

        Returns:
            One row a method and length; with ``fresh-window`` among the methods, each with its harm.
        """
        check_methods(methods, self.model.config)
        bits: dict[str, Floats] = {}
        for method in methods:

            def score(method: str = method) -> Arrays:
                return {"bits": self._bits(method, observers)}

            cell = "bits-" + method.replace(":", "-")
            bits[method] = (kept_arrays(folder, cell, score) if folder else score())["bits"]
            if folder and method == "spectrum":  # a resumed run gives the reason, too
                self.notes[:] = folder.cell("notes", self._reasons)
        control = bits.get("fresh-window")
        rows = [row for m in methods for row in rows_by_length(m, bits[m], self.lengths, control)]
        return Perplexity(tuple(rows))

    def _bits(self, method: str, observers: Sequence[Observer]) -> Floats:
        parts = [self.tokens[i : i + self.batch] for i in range(0, len(self.tokens), self.batch)]
        if method == "fresh-window":
            T = self._needs_train_length(method)
            return np.concatenate([fresh_window_bits(self.model, part, T, observers=observers) for part in parts])
        scales = self._scales(method)
        return np.concatenate([token_bits(self.model, part, scales, observers=observers) for part in parts])

    def _scales(self, method: str) -> Scales | None:
        if (constant := constant_of(method)) is not None:
            return scaling("a", constant).check(self.model.config)
        if method == "scales":
            if self.scales is None:
                raise RefusedInputError("method 'scales' needs --scales FILE (make one with `mambascope propose`)")
            return self.scales.check(self.model.config)
        if method == "spectrum":
            return self._propose().scales.check(self.model.config)
        return None

    def _propose(self) -> Proposal:
        T = self._needs_train_length("spectrum")
        found = propose_for(self.model, self.calibration, T, max(self.lengths))
        self.notes[:] = [f"spectrum: {found.reason}"]
        return found

    def _reasons(self) -> list[str]:
        if not self.notes:  # killed after the bits were kept and before the reason was
            self._propose()
        return list(self.notes)

    def _needs_train_length(self, method: str) -> int:
        if self.train_length is None:
            raise RefusedInputError(f"method {method!r} needs the training length: give --train-length")
        return self.train_length
