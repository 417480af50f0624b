"""One model's comparison on the way: what is fitted, which passes that asks for, and what of it is there already."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mambascope.spectra.model import Model

from .arrays import Arrays, kept_arrays
from .compare_cells import Cut, Pass, Scored, run_pass
from .compare_keys import Keys, KeyShare, ask_one, does_the_task
from .compare_plan import ComparePlan
from .compare_pool import Piece, fit_one
from .costs import Cost, CostBook
from .evaluate.bits import WINDOWS_AT_ONCE
from .evaluate.position_sums import LAST, PositionSums
from .methods import Fitted, Method, find_method, fit, setup_of
from .methods.constants import Constant
from .methods.plain import FRESH, FreshWindow, FromFile, Unscaled
from .runs import RunFolder
from .study import Tick

QUICK = (Unscaled, FreshWindow, Constant, FromFile)
"""Methods whose fit reads no text: done by the parent, at once, so that their passes need not wait for long fits."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a method runs at one length, in what a comparison must know of it before any pass."""

    name: str
    """What is done; ``none`` for the model as it is."""
    by_length: bool
    """It depends on the length."""
    last_only: bool
    """Losses exist for the last tokens alone."""


class Bench:
    """The cells of one model: made into pieces of work, kept as they arrive, read when all are there."""

    def __init__(self, plan: ComparePlan, run: RunFolder | None, book: CostBook, *, nested: bool) -> None:
        self.plan, self.run, self.book, self.nested = plan, run, book, nested
        self.cuts = plan.cuts()
        self.task = replace(plan.task(), run=run, prefix=plan.prefix)
        self.fitted: dict[str, Fitted] = {}
        self._arrays: dict[str, Arrays] = {}
        self._values: dict[str, Any] = {}
        self._ways: dict[tuple[str, int], Way] = {}

    # -- fits ----------------------------------------------------------------------------------------------------------

    def fits(self, tick: Tick) -> Iterator[Piece]:
        """Fit what is quick, read what is there, and return the other fits."""
        for method in self.plan.methods:
            if isinstance(method, QUICK) or self._is_fitted(method):
                if not isinstance(method, QUICK):
                    tick(round(method.expected_tokens(self.task)))
                self.fitted[method.name] = fit(method, self.task)
            else:
                yield self._fit(method)

    def _is_fitted(self, method: Method) -> bool:
        key = self.plan.prefix + f"fit/{method.name}"
        return self.run is not None and ("cell", key) in self.run.journal

    def _fit(self, method: Method) -> Piece:
        run, place = self.run, f"{self.plan.prefix}{method.name}".replace(":", "-")
        folder = None if run is None or not self.nested else run.folder / "fits" / place
        resumed = folder is not None and run is not None and run.resuming and folder.exists()
        bare = replace(self.task, run=None, prefix="")

        def keep(found: Fitted, cost: Cost) -> None:
            self.book.note(self._fit_key(method.name), replace(cost, resumed=resumed))
            self.fitted[method.name] = fit(method, self.task, found)

        arguments = (method.name, bare, folder, run is not None and run.resuming)
        return Piece(fit_one, arguments, max(1.0, method.expected_tokens(self.task)), keep)

    def _ready(self) -> list[str]:
        """Return the methods that are fitted, in the order of the plan, not in that in which workers fitted them."""
        return [method.name for method in self.plan.methods if method.name in self.fitted]

    def _fit_key(self, method: str) -> str:
        return f"{self.plan.prefix}fit/{method}"

    # -- passes --------------------------------------------------------------------------------------------------------

    def way(self, method: str, length: int) -> Way:
        """Return how a fitted method runs at a length."""
        if (method, length) not in self._ways:
            setup = setup_of(self.fitted[method], self.plan.model, length, LAST + 1)
            self._ways[method, length] = Way(setup.name, setup.by_length, setup.last_only)
        return self._ways[method, length]

    def passes(self, tick: Tick, *, early: bool = False) -> Iterator[Piece]:
        """Return the passes that the methods fitted so far ask for and that are not there, each once.

        Early ones are of methods without a fit worth the name, whatever else is there: a run that goes on then takes
        its pieces in the order of one that was never stopped.

        Yields:
            The pieces.
        """
        methods = [name for name in self._ready() if not early or isinstance(find_method(name), QUICK)]
        for cut in self.cuts:
            wanted: dict[str, Pass] = {}
            for method in methods:
                for length in cut.lengths:
                    for key, job in self._of(cut, method, length).items():
                        if key not in wanted or job.lengths[-1] > wanted[key].lengths[-1]:
                            wanted[key] = job
            for key, job in wanted.items():
                if self._has(key):
                    if key not in self._arrays:
                        tick(job.tokens)
                    continue
                yield Piece(run_pass, (job,), job.tokens, functools.partial(self._keep_pass, key))

    def _of(self, cut: Cut, method: str, length: int) -> dict[str, Pass]:
        """Return the pass over long passages and that over windows which a method needs at a length, by key."""
        plan, T, fitted = self.plan, self.plan.train_length, self.fitted[method]
        long, within = self.keys(cut, method, length)
        if method == FRESH:
            return {long: Pass(fitted, plan.model, cut.passages, cut.lengths, length, plan.batch, T)}
        way = self.way(method, length)
        lengths = (length,) if way.last_only else tuple(n for n in cut.lengths if n <= self._far(cut, way.name))
        told = T if way.by_length else length
        return {
            long: Pass(fitted, plan.model, cut.passages, lengths, length, plan.batch),
            within: Pass(fitted, plan.model, cut.windows, (T,), told, WINDOWS_AT_ONCE),
        }

    def _far(self, cut: Cut, name: str) -> int:
        """Return the longest length at which any method does this."""
        return max(n for m in self.fitted if m != FRESH for n in cut.lengths if self.way(m, n).name == name)

    def keys(self, cut: Cut, method: str, length: int) -> tuple[str, str]:
        """Return the names of a method's two passes in the run folder."""
        place = f"{self.plan.prefix}sums/{cut.corpus}/"
        if method == FRESH:
            return place + FRESH, place + "none-inside"
        way = self.way(method, length)
        at_home = self.way(method, self.plan.train_length) if way.by_length else way
        far = length if way.last_only else self._far(cut, way.name)
        return f"{place}{way.name}-{far}", f"{place}{at_home.name}-inside"

    def _keep_pass(self, key: str, found: Arrays, cost: Cost) -> None:
        self.book.note(key, cost)
        self._arrays[key] = found if self.run is None else kept_arrays(self.run, key, lambda: found)

    def _has(self, key: str) -> bool:
        if key in self._arrays or self.run is None:
            return key in self._arrays
        return ("arrays", key) in self.run.journal and (self.run.folder / f"data/{key}.safetensors").is_file()

    def scored(self, cut: Cut, method: str, length: int) -> Scored:
        """Return a method's bits on one corpus; what an earlier session kept is read, and made anew if it was lost."""
        jobs = self._of(cut, method, length)

        def sums(key: str) -> PositionSums:
            if key not in self._arrays:
                assert self.run is not None
                self._arrays[key] = kept_arrays(self.run, key, lambda: run_pass(jobs[key], lambda _: None))
            return PositionSums.of_arrays(self._arrays[key])

        long, within = self.keys(cut, method, length)
        if method == FRESH:
            return Scored(sums(long), self.scored(cut, "none", length).inside)
        return Scored(sums(long), sums(within))

    # -- keys ----------------------------------------------------------------------------------------------------------

    def key_note(self) -> str | None:
        """Say why no keys are asked for; None where they are."""
        plan = self.plan
        if plan.passkey is None:
            return "not asked for"
        return does_the_task(plan.passkey, plan.model, plan.train_length, self._cell)

    def _cell(self, key: str, compute: Callable[[], Any]) -> Any:
        if self.run is not None:
            return self.task.cell(key, compute)
        if key not in self._values:
            self._values[key] = compute()
        return self._values[key]

    def _asked(self) -> Iterator[tuple[str, str, int]]:
        """Return each method, length and cell of keys."""
        ask, model = self.plan.passkey, self.plan.model
        if ask is None or self.key_note() is not None:
            return
        for method in self._ready():
            for length in ask.lengths:
                if method == FRESH or ask.problem(length):
                    continue
                context = ask.plan.context_tokens(ask.task, length)
                setup = setup_of(self.fitted[method], model, ask.task.prompt_tokens(context))
                yield method, f"passkey/{setup.name}/{ask.cell(length)}", length

    def key_pieces(self, tick: Tick) -> Iterator[Piece]:
        """Return the cells of keys that are not there, each once."""
        ask, seen = self.plan.passkey, set()
        for method, key, length in self._asked():
            assert ask is not None
            if key in seen:
                continue
            seen.add(key)
            if key in self._values or (self.run is not None and ("cell", self.plan.prefix + key) in self.run.journal):
                tick(length * ask.examples)
                continue

            def keep(found: list[int], cost: Cost, key: str = key) -> None:
                self.book.note(self.plan.prefix + key, cost)
                self._cell(key, lambda: found)

            arguments: tuple[Fitted, Model, Any] = (self.fitted[method], self.plan.model, ask.at(length))
            yield Piece(ask_one, arguments, length * ask.examples, keep)

    def found_keys(self) -> Keys:
        """Return the shares of keys that every method finds."""
        ask = self.plan.passkey
        if (note := self.key_note()) is not None or ask is None:
            return Keys((), note)
        told = [problem for n in ask.lengths if (problem := ask.problem(n))]
        shares = []
        for method, key, length in self._asked():
            job = functools.partial(ask_one, self.fitted[method], self.plan.model, ask.at(length), lambda _: None)
            shares.append(KeyShare.of(method, length, sum(self._cell(key, job)), ask.examples))
        return Keys(tuple(shares), "; ".join(told) or None)

    # -- costs ---------------------------------------------------------------------------------------------------------

    def cost_rows(self) -> list[dict[str, Any]]:
        """Return one row a method: what fitting took and how fast it runs."""
        return [self._cost_row(self.fitted[name]) for name in self._ready()]

    def _cost_row(self, fitted: Fitted) -> dict[str, Any]:
        spent, tokens, seconds = self.book.of(self._fit_key(fitted.method)), 0, 0.0
        for cut in self.cuts:
            key = self.keys(cut, fitted.method, cut.lengths[-1])[0]
            if (cost := self.book.of(key)) is not None:
                tokens += len(cut.passages) * cut.lengths[-1]
                seconds += cost.seconds
        return {
            "model": self.plan.model.name,
            "method": fitted.method,
            "passes": fitted.passes,
            "fit_seconds": spent.seconds if spent else None,
            "fit_peak_bytes": spent.peak_bytes if spent else None,
            "fit_resumed": spent.resumed if spent else None,
            "tokens_per_second": tokens / seconds if seconds else None,
            "bakes": fitted.bakes,
        }
