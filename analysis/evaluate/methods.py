"""Methods of the registry, scored on the same tokens: what ``mambascope evaluate`` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mambascope.spectra.config import Config
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales, scaling
from mambascope.spectra.tokens import Document

from ..arrays import Arrays, kept_arrays
from ..calibration.plan import TIMES
from ..methods import Fitted, Setup, Task, find_method, fit, setup_of
from ..methods.constants import BestConstant, Constant
from ..methods.method import OwnSetup
from ..methods.plain import FRESH
from ..methods.registry import name_of
from ..runs import RunFolder
from ..texts import Texts, Tick, token_counter
from .curve import curve_rows
from .pairs import pair_rows
from .passages import Ints, Passages
from .perplexity import Perplexity
from .position_sums import LAST, PositionSums, edges_for, score_fresh
from .rows import rows_of
from .setups import score_setup

GIVEN = "scales"
"""Name of the scales that are handed over; every other name is one of the registry."""


def needs_train_length(method: str) -> bool:
    """Return whether a method needs to know the training length."""
    return method == FRESH or needs_calibration(method)


def needs_calibration(method: str) -> bool:
    """Return whether a method may read calibration or validation text."""
    return method != GIVEN and bool(find_method(method).reads)


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
        if method != GIVEN and isinstance(constant := find_method(method), Constant):
            scaling(constant.kind, constant.factor).check(config)


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
    """T; needed by all methods but the unscaled model, fixed constants and given scales."""
    calibration: Sequence[Document] = ()
    """Documents that methods are fitted on; none of those scored."""
    validation: Sequence[Document] = ()
    """Documents that methods choose by; none of the others."""
    scales: Scales | None = None
    """What ``scales`` runs with."""
    fit_length: int | None = None
    """Tokens of a window of a calibration. Default: ``TIMES`` T."""
    batch: int = 8
    """Passages that run side by side."""
    reference: str | None = None
    """Method that the others are compared with. Default: ``spectrum`` where it is run, else none."""
    seed: int = 0
    """Of every random draw of a fit."""
    notes: list[str] = field(default_factory=list)
    """How fitted methods were made."""

    def run(
        self, methods: Sequence[str], *, folder: RunFolder | None = None, tick: Tick = lambda _: None
    ) -> Perplexity:
        """Score the methods one after another.

        Args:
            methods: names of the registry, or ``scales``.
            folder: keeps what has been fitted and scored, batch by batch, so that a stopped evaluation resumes.
            tick: called with tokens as they pass through the model.

        Returns:
            One row a method and length, with harm where ``fresh-window`` is among the methods; the paired differences
            from the reference; the curve by position. A method that drops tokens has its last tokens alone.

        Raises:
            RefusedInputError: a method is unknown or lacks something, or the reference is not among them.
        """
        check_methods(methods, self.model.config)
        reference = check_reference(self.reference, methods)
        for method in filter(needs_train_length, methods):
            self._needs_train_length(method)
        fitted = {m: fit(find_method(m), self._task(folder, tick)) for m in methods if needs_calibration(m)}
        self.notes[:] = [f"{method}: {each.how}" for method, each in fitted.items()]
        sums = {method: self._by_length(method, fitted.get(method), folder, tick) for method in methods}
        passages, far = self.passages, max(self.lengths)
        control = sums[FRESH][far] if FRESH in sums else None
        rows = [row for m in methods for n in self.lengths for row in rows_of(m, sums[m][n], passages, [n], control)]
        pairs = [
            row for m in methods for n in self.lengths if reference and m != reference
            for row in pair_rows({m: sums[m][n], reference: sums[reference][n]}, passages, [n], reference)
        ]  # fmt: skip
        curve = [
            row for m in methods if not np.isnan(sums[m][far].whole(far)).all()
            for row in curve_rows(m, sums[m][far], passages, control and control.where_scored(sums[m][far]))
        ]  # fmt: skip
        self._tell_what_has_no_tail(reference, sums)
        return Perplexity(tuple(rows), tuple(pairs), tuple(curve))

    def planned_tokens(self, methods: Sequence[str]) -> int:
        """Estimate the tokens that ``run`` takes through the model, for a progress bar."""
        task, total = self._task(None, lambda _: None), 0.0
        longest = float(self.passages.reaches.sum())
        each = float(sum(n * (self.passages.reaches >= n).sum() for n in self.lengths))  # a pass for every length
        for name in methods:
            method = None if name == GIVEN else find_method(name)
            if method is not None and needs_calibration(name):
                total += method.expected_tokens(task)
            by_length = isinstance(method, BestConstant | OwnSetup)
            total += 2 * longest if name == FRESH else each if by_length else longest
        return round(total)

    def _by_length(
        self, method: str, fitted: Fitted | None, folder: RunFolder | None, tick: Tick
    ) -> dict[int, PositionSums]:
        """Return the sums that each length is read off: one pass serves all lengths at which the same is done."""
        if method == FRESH:
            return dict.fromkeys(self.lengths, self._sums(None, self.lengths, method, folder, tick))
        setups = {n: self._setup(method, fitted, n) for n in self.lengths}
        groups: dict[str, list[int]] = {}
        for length, setup in setups.items():
            groups.setdefault(setup.name, []).append(length)
        found: dict[int, PositionSums] = {}
        for here in groups.values():
            far = max(here)
            cell = method if len(groups) == 1 else f"{method}/{far}"
            found |= dict.fromkeys(here, self._sums(setups[far], self._up_to(far), cell, folder, tick))
        return found

    def _tell_what_has_no_tail(self, reference: str | None, sums: dict[str, dict[int, PositionSums]]) -> None:
        if reference is None:
            return
        without = [n for n in self.lengths if np.isnan(sums[reference][n].tail(n)).all()]
        if without:
            told = ", ".join(map(str, without))
            self.notes.append(f"no differences from {reference} at {told}: it drops tokens, so that it has no tail")

    def _up_to(self, far: int) -> list[int]:
        return [n for n in self.lengths if n <= far]

    def _sums(
        self, setup: Setup | None, lengths: Sequence[int], cell: str, folder: RunFolder | None, tick: Tick
    ) -> PositionSums:
        edges = edges_for(lengths)
        parts: list[tuple[Ints, Arrays]] = []
        for k, rows in enumerate(self.passages.batches(self.batch)):

            def part(rows: Ints = rows) -> Arrays:
                here = self.passages.part(rows)
                if setup is None:
                    T = self._needs_train_length(FRESH)
                    return score_fresh(self.model, here, edges, T, observers=[token_counter(tick)]).arrays()
                return score_setup(setup, here, edges, batch=self.batch, tick=tick).arrays()

            name = f"sums/{cell.replace(':', '-')}/{k}"
            parts.append((rows, kept_arrays(folder, name, part) if folder else part()))
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return PositionSums(edges, *(np.concatenate([of[name] for _, of in parts])[order] for name in ("sums", "rest")))

    def _setup(self, method: str, fitted: Fitted | None, length: int) -> Setup:
        if method == GIVEN:
            if self.scales is None:
                raise RefusedInputError("method 'scales' needs --scales FILE (make one with `mambascope propose`)")
            return Setup(self.model, self.scales.check(self.model.config), name=name_of(self.scales))
        found = fitted or find_method(method).fit(self._task(None, lambda _: None))
        return setup_of(found, self.model, length, LAST + 1)

    def _task(self, folder: RunFolder | None, tick: Tick) -> Task:
        T = self.train_length or min(self.lengths)  # methods that fit nothing do not ask
        texts = Texts(tuple(self.calibration), tuple(self.validation), ())
        return Task(
            self.model, texts, T, tuple(sorted(self.lengths)), self.fit_length or TIMES * T, self.seed, run=folder,
            tick=tick,
        )  # fmt: skip

    def _needs_train_length(self, method: str) -> int:
        if self.train_length is None:
            raise RefusedInputError(f"method {method!r} needs the training length: give --train-length")
        return self.train_length
