"""The running of a sweep: what is done, what is missing, in which order the rest is done, and what is kept of it.

What is done is found by its address and not done again. Each fit is done once for all cells that use it, and these
follow it; cells that need none run beside. A fit or a cell that fails is recorded, tried once more after those that
wait at that moment (an input that is refused is not: it would be again), and costs only what rests on it. A process
holds what it works on; what another one holds is left to it, and waited for once all else is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, overload

from .atomic import NotFiniteError
from .compare_pool import do
from .costs import Cost, CostBook
from .engine import check_engine
from .engine_each import TRIES, Failure, run_each
from .sweep import Event, Sweep, Watch
from .sweep_cells import Cell, SweepJob
from .sweep_keys import Facts, SweepFacts, key_of
from .sweep_rows import CellState
from .sweep_store import SweepStore
from .sweep_tokens import cell_tokens, fit_tokens
from .sweep_work import Answer, Nothing, answer, find_cell, fit_method, nothing
from .texts import Tick


class SweepRun:
    """A job and its store: what is done, what is missing, and the running of it."""

    def __init__(self, job: SweepJob, store: SweepStore, book: CostBook | None = None) -> None:
        self.job, self.store, self.book = job, store, book or CostBook()
        self.facts = SweepFacts(job)
        self.cells = job.cells()
        self._key_of_cell = cache(lambda cell: key_of(self.facts.cell(cell)))
        self._together: dict[str, list[Cell]] = {}
        """Cells that come out the same, such as those of one model under two names; of a run of all of them."""

    def key(self, cell: Cell) -> str:
        """Return the address of a cell."""
        return self._key_of_cell(cell)

    def fit_key(self, cell: Cell) -> str | None:
        """Return the address of a cell's fit; None where there is none of its own."""
        key: str | None = self.facts.cell(cell)["fit"]
        return key

    def _by_key(self) -> dict[str, list[Cell]]:
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(self.key(cell), []).append(cell)
        return found

    def state(self, cell: Cell) -> CellState:
        """Return what has become of a cell."""
        key = self.key(cell)
        result = self.store.cell(key)
        return CellState(cell, key, result, None if result is not None else self.store.failure(key))

    def sweep(self) -> Sweep:
        """Return all cells as they are now."""
        return Sweep(self.job, tuple(self.state(cell) for cell in self.cells))

    def missing(self) -> list[Cell]:
        """Return the cells that are to be done, one an address."""
        return [cells[0] for key, cells in self._by_key().items() if self.store.cell(key) is None]

    def missing_fits(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return a cell for each fit that cells need and that is not there."""
        found: dict[str, Cell | None] = {}
        for cell in cells:
            key = self.fit_key(cell)
            if key is not None and key not in found:
                found[key] = cell if self.store.fit(key) is None else None
        return [cell for cell in found.values() if cell is not None]

    # -- all of them ---------------------------------------------------------------------------------------------------

    def run(
        self,
        *,
        engine: str = "sequential",
        jobs: int = 1,
        gpus: Sequence[str] = (),
        watch: Watch = lambda _: None,
    ) -> Sweep:
        """Do what is missing.

        Args:
            engine: where, see ``engine.ENGINES``; results do not depend on it.
            jobs: worker processes.
            gpus: one for each worker, in turn.
            watch: called with what happens, in this process.

        Returns:
            All cells.

        Raises:
            RefusedInputError: an engine that is not there, or a text that is both fitted on and scored.
            StorageError: a result could not be written.
        """
        check_engine(engine, jobs)
        self._together, missing = self._by_key(), self.missing()
        todo, told = {self.key(cell) for cell in missing}, set[str]()
        for cell in self.cells:
            if self.key(cell) not in todo:
                watch(Event("kept", cell))
        while missing:
            first, then, waiting = self._plan(missing)
            waiting += self._run_parts(first, then, watch, engine=engine, jobs=jobs, gpus=gpus)
            held: dict[str, Part] = {}
            for part in map(self._awaited, waiting):
                held.setdefault(self.key_of_part(part), part)
            for key, part in held.items():
                if key not in told and self.store.busy(key):
                    watch(Event("waits", part.cell, is_fit=part.is_fit))
                    told.add(key)
            if held:
                self.store.wait_for_one(held)
            missing = self._still_missing([part.cell for part in waiting], watch)
        return self.sweep()

    def _plan(self, missing: Sequence[Cell]) -> tuple[list[Part], list[Cell], list[Part]]:
        """Return the parts to begin with, the cells that wait for a fit of these, and what other processes are at."""
        fits = {self.fit_key(cell): cell for cell in self.missing_fits(missing)}
        theirs = {key for key in fits if key is not None and self.store.busy(key)}
        free = [cell for cell in missing if self.fit_key(cell) not in theirs and not self.store.busy(self.key(cell))]
        needed = {self.fit_key(cell) for cell in free}
        first = [Part(cell, is_fit=True) for key, cell in fits.items() if key in needed]
        first += [Part(cell) for cell in free if self.fit_key(cell) not in fits]
        then = [cell for cell in free if self.fit_key(cell) in fits]
        kept = {self.key(cell) for cell in free}
        return first, then, [Part(cell) for cell in missing if self.key(cell) not in kept]

    def _awaited(self, part: Part) -> Part:
        """Return what another process is at: the fit of a cell, where that is not there, or the cell itself."""
        fit = Part(part.cell, is_fit=True)
        waits = self.fit_key(part.cell) is not None and self.store.fit(self.key_of_part(fit)) is None
        return fit if waits and not self.store.busy(self.key(part.cell)) else part

    def _still_missing(self, cells: Sequence[Cell], watch: Watch) -> list[Cell]:
        """Tell of the cells that other processes have done, and return the others."""
        missing = [cell for cell in cells if self.store.cell(self.key(cell)) is None]
        left = {self.key(cell) for cell in missing}
        for cell in cells:
            if self.key(cell) not in left:
                self._tell_kept(cell, cell_tokens(self.facts, cell), watch)
        return missing

    def _tell_kept(self, cell: Cell, tokens: int, watch: Watch) -> None:
        for same in self._together.get(self.key(cell), [cell]):
            watch(Event("kept", same, tokens))
            tokens = 0

    def _run_parts(
        self,
        first: Iterable[Part],
        then: Iterable[Cell],
        watch: Watch,
        *,
        engine: str = "sequential",
        jobs: int = 1,
        gpus: Sequence[str] = (),
        tick: Tick | None = None,
    ) -> list[Part]:
        """Run parts, model after model and the longest first, and after each fit the cells that wait for it.

        Returns:
            The cells that were left to other processes, themselves or the fits they need.
        """
        order = {model.name: k for k, model in enumerate(self.job.models)}
        tokens = {part: (fit_tokens if part.is_fit else cell_tokens)(self.facts, part.cell) for part in first}

        parts = sorted(tokens, key=lambda part: (order[part.cell.model], -tokens[part]))
        theirs: list[Part] = []
        follow: dict[str, list[Part]] = {}
        for cell in then:
            follow.setdefault(self.key_of_part(Part(cell, is_fit=True)), []).append(Part(cell))

        def again(n: int, failure: Failure) -> None:
            part, facts = parts[n], self.facts_of(parts[n])
            self.store.put_failure(facts, failure, 1)
            watch(Event("again", part.cell, 0, None, failure, part.is_fit, facts.get("target_length")))

        work = partial(do, memory=False)  # to measure it takes longer than a small cell
        pieces = _Pieces(self, parts, tick, nested=engine in {"sequential", "loky"})
        with (
            closing(pieces),
            closing(run_each(work, pieces, engine=engine, jobs=jobs, gpus=gpus, failed_once=again)) as results,
        ):
            for n, found in results:
                part = parts[n]
                value, cost = (found, None) if isinstance(found, Failure) else found
                if isinstance(value, Nothing) and value.busy:
                    theirs += follow.pop(self.key_of_part(part), []) if part.is_fit else [part]
                    continue
                if not isinstance(value, Nothing):
                    value = self._keep(part, value, cost, tokens[part], watch)
                elif part.is_fit:
                    watch(Event("kept", part.cell, tokens[part], is_fit=True))
                else:
                    self._tell_kept(part.cell, tokens[part], watch)
                pieces.release(part)
                for next_part in follow.pop(self.key_of_part(part), ()) if part.is_fit else ():
                    tokens[next_part] = cell_tokens(self.facts, next_part.cell)
                    if isinstance(value, Failure):
                        self._keep(next_part, _of_fit(part.cell, value), None, tokens[next_part], watch)
                    else:
                        parts.append(next_part)
        return theirs

    def facts_of(self, part: Part) -> Facts:
        """Return what a part depends on."""
        if not part.is_fit:
            return self.facts.cell(part.cell)
        fit = self.facts.fit(part.cell)
        assert fit is not None
        return fit

    def key_of_part(self, part: Part) -> str:
        """Return the address of a part."""
        key = self.fit_key(part.cell) if part.is_fit else self.key(part.cell)
        assert key is not None
        return key

    def _keep(self, part: Part, found: Answer | Failure, cost: Cost | None, tokens: int, watch: Watch) -> Any:
        """Keep what came of a part, and return it: a failure where it cannot be kept."""
        facts = self.facts_of(part)
        value = found.value if isinstance(found, Answer) else found
        seconds = None if cost is None else cost.seconds
        if cost is not None:
            self.book.note(self.key_of_part(part), cost)
        try:
            if isinstance(found, Answer) and not isinstance(value, Failure):
                put = self.store.put_fit if part.is_fit else self.store.put_cell
                put(facts, value, found.made_on)
        except NotFiniteError as problem:
            value = Failure.of(problem)
        if isinstance(value, Failure):
            self.store.put_failure(facts, value, TRIES)
        failure = value if isinstance(value, Failure) else None
        what: Literal["done", "failed"] = "done" if failure is None else "failed"
        if part.is_fit:
            watch(Event(what, part.cell, tokens, seconds, failure, True, facts["target_length"]))
            return value
        for cell in self._together.get(self.key(part.cell), [part.cell]):
            watch(Event(what, cell, tokens, seconds, failure))
            tokens = 0
        return value

    # -- one of them ---------------------------------------------------------------------------------------------------

    def run_cell(
        self,
        number: int,
        *,
        watch: Watch = lambda _: None,
        waiting: Callable[[], None] = lambda: None,
        tick: Tick = lambda _: None,
    ) -> CellState:
        """Do one cell here, and its fit where no other process has: any number of processes may call this at once.

        A fit that another of them has given up is not tried again here: a run of the whole, or a fresh one, does that.

        Args:
            number: of the cell, from 1.
            watch: called with what happens.
            waiting: called when another process is doing the same, which is then waited for.
            tick: called with tokens as they pass.

        Returns:
            The cell.
        """
        cell = self.cells[number - 1]
        key, fit = self.key(cell), self.fit_key(cell)
        with self.store.claimed(key, waiting):
            if self.store.cell(key) is not None:
                watch(Event("kept", cell))
                return self.state(cell)
            if fit is not None:
                with self.store.claimed(fit, waiting):
                    if self.store.fit(fit) is None and not self.store.given_up(fit):
                        self._run_parts([Part(cell, is_fit=True)], [], watch, tick=tick)
            failure = None if fit is None else self.store.failure(fit)
            if failure is None:
                self._run_parts([Part(cell)], [], watch, tick=tick)
            else:
                self._keep(Part(cell), _of_fit(cell, failure), None, 0, watch)
            return self.state(cell)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of work: a cell, or the fit that it needs."""

    cell: Cell
    """Which."""
    is_fit: bool = False
    """True for its fit."""


def _of_fit(cell: Cell, failure: Failure) -> Failure:
    return Failure(failure.kind, f"the fit of {cell.method}: {failure.error}", failure.exit_code)


class _Pieces(Sequence[tuple[Any, ...]]):
    """Arguments of each part, made when it is sent: a fit can be as large as a model. What is sent is claimed first."""

    def __init__(self, run: SweepRun, parts: Sequence[Part], tick: Tick | None, *, nested: bool) -> None:
        self._run, self._parts, self._tick, self._nested = run, parts, tick, nested
        self._claimed: set[str] = set()

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, k: int) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, k: slice) -> Sequence[tuple[Any, ...]]: ...
    def __getitem__(self, k: int | slice) -> Any:
        if isinstance(k, slice):
            return [self[n] for n in range(*k.indices(len(self)))]
        run, part = self._run, self._parts[k]
        threads, key = run.job.threads, run.key_of_part(part)
        if key not in self._claimed:
            if not run.store.claim(key):
                return nothing, (True,), threads, None
            self._claimed.add(key)
            if (run.store.fit(key) if part.is_fit else run.store.cell(key)) is not None:
                return nothing, (False,), threads, None
        facts = run.facts_of(part)
        if part.is_fit:
            folder = run.store.work(key) if self._nested else None  # a cluster may not see it
            return answer, (fit_method, (run.job, part.cell, facts, folder), run.job.device), threads, self._tick
        fitted = None if facts["fit"] is None else run.store.fit(facts["fit"])
        return answer, (find_cell, (run.job, part.cell, facts, fitted), run.job.device), threads, self._tick

    def release(self, part: Part) -> None:
        """Let go of a part that is done with."""
        if (key := self._run.key_of_part(part)) in self._claimed:
            self._claimed.remove(key)
            self._run.store.release(key)

    def close(self) -> None:
        """Let go of everything, as when a run is interrupted."""
        while self._claimed:
            self._run.store.release(self._claimed.pop())
