"""Methods by name, scored on the same tokens: what ``mambascope evaluate`` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mambascope.spectra.config import Config
from mambascope.spectra.dynamics import Observer
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import KINDS, Scales, scaling
from mambascope.spectra.tokens import Document

from ..arrays import Arrays, kept_arrays
from ..proposal import Proposal, propose_for
from ..rules import find_rule
from ..runs import RunFolder
from .curve import curve_rows
from .pairs import pair_rows
from .passages import Ints, Passages
from .perplexity import Perplexity
from .position_sums import PositionSums, edges_for, score, score_fresh
from .rows import rows_of

CONTROL = "fresh-window"
METHODS = ("none", "spectrum", "fresh-window", "scales", "constant:S", "constant:KIND:S", "rule:NAME")
"""Names; ``constant:2`` scales A by 2 everywhere, ``constant:dt:2`` the steps, ``rule:hard-clip`` applies a rule."""


def constant_of(method: str) -> Scales | None:
    """Return what ``constant:S`` or ``constant:KIND:S`` scales by.

    Args:
        method: a method's name.

    Returns:
        One factor for the whole model; None for another method.

    Raises:
        RefusedInputError: S is not a number, or there is no such kind.
    """
    name, colon, rest = method.partition(":")
    if name != "constant" or not colon:
        return None
    kind, _, number = rest.rpartition(":")
    found = next((known for known in KINDS if known == (kind or "a")), None)
    if found is None:
        raise RefusedInputError(f"method {method!r}: expected a kind out of {', '.join(KINDS)}, as in constant:dt:2")
    try:
        return scaling(found, float(number))
    except ValueError as error:
        raise RefusedInputError(f"method {method!r}: expected a number, as in constant:2") from error


def rule_of(method: str) -> str | None:
    """Return NAME of ``rule:NAME``.

    Args:
        method: a method's name.

    Returns:
        The rule's name; None for another method.

    Raises:
        RefusedInputError: there is no such rule.
    """
    name, colon, rule = method.partition(":")
    return find_rule(rule).name if colon and name == "rule" else None


def needs_train_length(method: str) -> bool:
    """Return whether a method needs to know the training length."""
    return method == CONTROL or needs_calibration(method)


def needs_calibration(method: str) -> bool:
    """Return whether a method is made from calibration text."""
    return method == "spectrum" or rule_of(method) is not None


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
        if (constant := constant_of(method)) is not None:
            constant.check(config)
        elif rule_of(method) is None and method not in METHODS[:4]:
            raise RefusedInputError(f"method {method!r}: expected some of {', '.join(METHODS)}")


def check_reference(reference: str | None, methods: Sequence[str]) -> str | None:
    """Return the method that the others are compared with.

    Args:
        reference: the one asked for.
        methods: those that are run.

    Returns:
        Its name. Default: ``spectrum`` where it is run, else none.

    Raises:
        RefusedInputError: it is not run.
    """
    if reference is None:
        return "spectrum" if "spectrum" in methods else None
    if reference not in methods:
        raise RefusedInputError(f"reference {reference!r}: expected one of the methods, {', '.join(methods)}")
    return reference


@dataclass
class Evaluation:
    """Methods scored on one set of passages."""

    model: Model
    """A loaded model."""
    passages: Passages
    """What to score, cut to the longest length; shorter ones to another of the lengths."""
    lengths: Sequence[int]
    """Lengths to report."""
    train_length: int | None = None
    """T; needed by ``spectrum``, rules and ``fresh-window``."""
    calibration: Sequence[Document] = ()
    """Documents for ``spectrum`` and rules; none of those scored."""
    scales: Scales | None = None
    """What ``scales`` runs with."""
    batch: int = 8
    """Passages that run side by side."""
    reference: str | None = None
    """Method that the others are compared with. Default: ``spectrum`` where it is run, else none."""
    notes: list[str] = field(default_factory=list)
    """Why ``spectrum`` and rules did what they did."""
    _proposals: dict[str, Proposal] = field(default_factory=dict, init=False, repr=False)

    def run(
        self, methods: Sequence[str], *, folder: RunFolder | None = None, observers: Sequence[Observer] = ()
    ) -> Perplexity:
        """Score the methods one after another.

        Args:
            methods: names out of ``METHODS``.
            folder: keeps what has been scored, batch by batch, so that a stopped evaluation resumes.
            observers: see every layer's work on the way.

        Returns:
            One row a method and length, with harm where ``fresh-window`` is among the methods; the paired differences
            from the reference; the curve by position.

        Raises:
            RefusedInputError: a method is unknown or lacks something, or the reference is not among them.
        """
        check_methods(methods, self.model.config)
        reference = check_reference(self.reference, methods)
        made = [method for method in methods if needs_calibration(method)]

        def reasons() -> list[str]:
            return [f"{method}: {self._propose(method, observers).reason}" for method in made]

        if made:  # before the scores: a resumed run that has them needs no proposal
            self.notes[:] = folder.cell("notes", reasons) if folder else reasons()
        sums = {method: self._sums(method, folder, observers) for method in methods}
        control, passages = sums.get(CONTROL), self.passages
        rows = [row for m in methods for row in rows_of(m, sums[m], passages, self.lengths, control)]
        pairs = pair_rows(sums, passages, self.lengths, reference) if reference else []
        curve = [row for m in methods for row in curve_rows(m, sums[m], passages, control)]
        return Perplexity(tuple(rows), tuple(pairs), tuple(curve))

    def _sums(self, method: str, folder: RunFolder | None, observers: Sequence[Observer]) -> PositionSums:
        edges = edges_for(self.lengths)
        parts: list[tuple[Ints, Arrays]] = []
        for k, rows in enumerate(self.passages.batches(self.batch)):

            def part(rows: Ints = rows) -> Arrays:
                return self._score(method, self.passages.part(rows), edges, observers).arrays()

            cell = f"sums/{method.replace(':', '-')}/{k}"
            parts.append((rows, kept_arrays(folder, cell, part) if folder else part()))
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return PositionSums(edges, *(np.concatenate([of[name] for _, of in parts])[order] for name in ("sums", "rest")))

    def _score(self, method: str, part: Passages, edges: Ints, observers: Sequence[Observer]) -> PositionSums:
        if method == CONTROL:
            return score_fresh(self.model, part, edges, self._needs_train_length(method), observers=observers)
        scales = self._scales(method, observers)
        return score(self.model, part, edges, scales, batch=self.batch, observers=observers)

    def _scales(self, method: str, observers: Sequence[Observer]) -> Scales | None:
        if (constant := constant_of(method)) is not None:
            return constant.check(self.model.config)
        if method == "scales":
            if self.scales is None:
                raise RefusedInputError("method 'scales' needs --scales FILE (make one with `mambascope propose`)")
            return self.scales.check(self.model.config)
        if needs_calibration(method):
            return self._propose(method, observers).scales.check(self.model.config)
        return None

    def _propose(self, method: str, observers: Sequence[Observer]) -> Proposal:
        """Propose once for the longest length; a rule asked for by name acts even where states stay in range."""
        if method not in self._proposals:
            T, rule = self._needs_train_length(method), rule_of(method)
            target, always = max(self.lengths), rule is not None
            self._proposals[method] = propose_for(
                self.model, self.calibration, T, target, rule=rule, always=always, observers=observers
            )
        return self._proposals[method]

    def _needs_train_length(self, method: str) -> int:
        if self.train_length is None:
            raise RefusedInputError(f"method {method!r} needs the training length: give --train-length")
        return self.train_length
