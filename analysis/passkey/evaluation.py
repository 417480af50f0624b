"""Every method on the passkey task: fitted once, then asked for keys in every cell, and what it costs inside T.

Methods are fitted on calibration and validation text; the keys and the noise that are reported are of a part of their
own. What a method costs inside the training length is read twice: in bits per token on windows of T tokens of the same
text as the noise, and in keys within T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mambascope.spectra.errors import NonFiniteStateError
from mambascope.spectra.html_table import html_table
from mambascope.spectra.tokens import Document

from ..compare_cells import WINDOWS_INSIDE
from ..evaluate.intervals import by_document
from ..evaluate.passages import Passages, cut_passages
from ..evaluate.position_sums import LAST, edges_for
from ..evaluate.setups import score_setup
from ..methods.method import Fitted, Method, Setup, fit
from ..methods.on_passkey import KINDS, ON_PASSKEY, PasskeyFits
from ..methods.registry import setup_of
from .answers import Decode, solver
from .grid import PasskeyGrid, PasskeyPlan, Way, passkey_grid
from .task import PasskeyTask
from .tuning import STARTS
from .which_heads import WhichHeads, which_heads

Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class PasskeySummary:
    """What a method is worth on the task, and what it costs."""

    method: str
    """Its name."""
    solved_lengths: tuple[int, ...]
    """Lengths with at least ``SOLVED`` of the keys found at every depth."""
    solved_up_to: int | None
    """The longest of them that has no unsolved length below it; None where there is none."""
    times_T: float | None
    """The same in training lengths."""
    times_none: float | None
    """The same in units of what the model solves as it is."""
    share_inside: float | None
    """Share of keys found in cells within T; None where no cell is."""
    bits_inside: float | None
    """Bits per token on windows of T tokens; None where a method has none for every token, or broke down."""
    loss_inside: float | None
    """Those bits less the unscaled model's."""
    passes: float
    """What fitting cost, in forward passes over one window of the fit length."""
    bakes: str
    """``yes``, or why it cannot become weights."""
    how: str
    """How it was fitted, in words."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, lengths as text for a cell of a table."""
        return asdict(self) | {"solved_lengths": " ".join(map(str, self.solved_lengths))}


@dataclass(frozen=True, slots=True)
class PasskeyFound:
    """An evaluation on the task."""

    model: str
    """Model's name."""
    train_length: int
    """T in tokens."""
    keys: str
    """Part of the keys."""
    plan: PasskeyPlan
    """Which cells."""
    grids: tuple[PasskeyGrid, ...]
    """A method each."""
    summaries: tuple[PasskeySummary, ...]
    """Likewise."""
    fitted: tuple[Fitted, ...]
    """Likewise."""
    heads: tuple[WhichHeads, ...] = ()
    """What scales trained on the task do to each head, beside theory's proposal."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "keys": self.keys,
            "plan": asdict(self.plan),
            "rows": self.rows(),
            "methods": [asdict(each) for each in self.summaries],
            "heads": [each.to_dict() for each in self.heads],
            "sentences": self.sentences(),
        }

    def sentences(self) -> list[str]:
        """Say which heads were lengthened and whether theory foresaw it."""
        return [told for each in self.heads for told in each.sentences()]

    def examples_words(self) -> str:
        """Say how many keys a cell has."""
        plan, far = self.plan, self.plan.far_examples
        few = far is not None and far != plan.examples and max(plan.lengths) > plan.far_from
        return f"{plan.examples} keys a cell" + (f", {far} beyond {plan.far_from} tokens" if few else "")

    def _repr_html_(self) -> str:
        return html_table(self.rows(), "Keys found")

    def rows(self) -> list[dict[str, Any]]:
        """Return all cells as rows."""
        return [cell.to_dict() for grid in self.grids for cell in grid.cells]

    def grid(self, method: str) -> PasskeyGrid:
        """Return the cells of a method."""
        return self.grids[[each.method for each in self.fitted].index(method)]


@dataclass(frozen=True, slots=True)
class PasskeyJob:
    """What is asked of all methods alike."""

    fits: PasskeyFits
    """What they are fitted to; its run folder keeps the cells, too."""
    task: PasskeyTask
    """Reported keys and noise."""
    plan: PasskeyPlan
    """Cells."""
    decode: Decode
    """The model's decoder."""
    inside: tuple[Document, ...]
    """Texts whose windows of T tokens are scored; the documents of the noise."""
    batch: int | None = None
    """Examples side by side. Default: by the device."""

    def run(self, methods: Sequence[Method], tick: Tick = lambda _: None) -> PasskeyFound:
        """Fit and evaluate.

        Args:
            methods: in the order of the result.
            tick: called with tokens as they pass through the model.

        Returns:
            The result.
        """
        T = self.fits.train_length
        windows = cut_passages(self.inside, T, WINDOWS_INSIDE)
        fits = replace(self.fits, tick=tick)
        fitted = [fit(method, fits) for method in methods]
        grids = [self._grid(each, tick) for each in fitted]
        bits = {each.method: self._inside(each, windows) for each in fitted}
        own = bits["none"] if "none" in bits else self._inside(Fitted("none", None, ""), windows)
        alone = next((g.solved_up_to() for g, f in zip(grids, fitted, strict=True) if f.method == "none"), None)
        summaries = [
            _summary(each, grid, T, bits[each.method], own, alone) for each, grid in zip(fitted, grids, strict=True)
        ]
        return PasskeyFound(
            self.fits.model.name, T, self.task.part, self.plan, tuple(grids), tuple(summaries), tuple(fitted),
            self._heads(fitted),
        )  # fmt: skip

    def planned_tokens(self, methods: Sequence[Method]) -> int:
        """Estimate how many tokens pass through the model, for a progress bar."""
        fits = sum(method.expected_tokens(self.fits) for method in methods)
        return round(fits) + len(methods) * self.plan.planned_tokens(self.task)

    def way(self, fitted: Fitted, prompt_tokens: int) -> Way:
        """Return how the model answers under a fitted method."""
        setup = setup_of(fitted, self.fits.model, prompt_tokens)
        solve = solver(
            setup.model,
            self.decode,
            criterion=self.plan.criterion,
            intervention=setup.intervention,
            state=setup.state,
            batch=self.batch,
        )
        return Way(setup.name, solve)

    def _grid(self, fitted: Fitted, tick: Tick) -> PasskeyGrid:
        def way(prompt_tokens: int) -> Way:
            return self.way(fitted, prompt_tokens)

        return passkey_grid(self.task, self.plan, way, method=fitted.method, run=self.fits.run, tick=tick)

    def _heads(self, fitted: Sequence[Fitted]) -> tuple[WhichHeads, ...]:
        own = {each.name for each in ON_PASSKEY}
        trained = {each.method: each.scales for each in fitted if each.method in own and each.scales is not None}
        if not trained:
            return ()
        task = self.fits
        began = {f"passkey:{word}": STARTS[kind] for word, kind in KINDS.items()}
        return tuple(which_heads(task.model, task.texts.calibration, task.train_length, trained, began=began))

    def _inside(self, fitted: Fitted, windows: Passages) -> float | None:
        """Return bits per token on windows of T tokens, the mean over documents."""
        setup = setup_of(fitted, self.fits.model, self.fits.train_length, LAST + 1)
        if setup.last_only:
            return None
        cell = f"passkey/inside/{setup.name}"
        found = self.fits.cell(cell, lambda: self._inside_bits(setup, windows))
        return None if found is None else float(found)

    def _inside_bits(self, setup: Setup, windows: Passages) -> float | None:
        T = self.fits.train_length
        try:
            sums = score_setup(setup, windows, edges_for([T]), tick=self.fits.tick)
        except NonFiniteStateError:
            return None
        return float(np.mean(by_document(sums.whole(T), windows)))


def _summary(
    fitted: Fitted, grid: PasskeyGrid, train_length: int, bits: float | None, own: float | None, alone: int | None
) -> PasskeySummary:
    near = [cell for cell in grid.cells if cell.length <= train_length]
    far = grid.solved_up_to()
    return PasskeySummary(
        method=fitted.method,
        solved_lengths=tuple(grid.solved_lengths()),
        solved_up_to=far,
        times_T=far / train_length if far else None,
        times_none=far / alone if far and alone else None,
        share_inside=sum(c.solved for c in near) / sum(c.examples for c in near) if near else None,
        bits_inside=bits,
        loss_inside=None if bits is None or own is None else bits - own,
        passes=fitted.passes,
        bakes=fitted.bakes,
        how=fitted.how,
    )
