"""Every method on every corpus at every length: the paper's Table 3, with intervals and what each method costs.

A method is fitted once, on calibration text of one corpus (validation text of the same chooses where it chooses), as
the published ones use one foreign set for all. What comes of it is then scored on the test text of each corpus; one
pass over the longest length gives all shorter ones, and methods that do the same share it. Each fit and each pass is a
cell of the run folder and a piece of work of its own, in this process or another: a stopped comparison goes on where it
was, and more methods can join a finished one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mambascope.spectra.html_table import html_table
from mambascope.spectra.model import Model

from .compare_bench import Bench
from .compare_best import Best, best_of, best_row
from .compare_keys import Keys, PasskeyAsk
from .compare_plan import ComparePlan, planned_tokens, with_needed
from .compare_pool import run_pieces
from .compare_rows import CompareRow, make_row
from .compare_words import verdict
from .costs import CostBook
from .engine import check_engine
from .methods import Fitted, Method, find_method
from .methods.plain import FRESH
from .runs import RunFolder
from .study import Texts, Tick

__all__ = ["ComparePlan", "Comparison", "planned_tokens", "run_compare", "run_comparisons", "with_needed"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Methods on the corpora, for one model."""

    model: str
    """Its name."""
    train_length: int
    """T in tokens."""
    fit_on: str
    """Corpus whose calibration and validation text the methods were fitted on."""
    fit_length: int
    """Tokens of a window of a calibration."""
    reference: str
    """Method that differences are taken to."""
    fitted: tuple[Fitted, ...]
    """The methods, fitted."""
    rows: tuple[CompareRow, ...]
    """One row a corpus, method and length."""
    best: tuple[Best, ...] = ()
    """The best method of each corpus and length: by tail bits, and by the last tokens."""
    keys: Keys = field(default_factory=Keys)
    """Pass keys found."""
    costs: tuple[dict[str, Any], ...] = ()
    """One row a method: what fitting took and how fast it runs, on this machine; other machines differ."""

    def corpora(self) -> list[str]:
        """Return the corpora, in their order."""
        return list(dict.fromkeys(row.corpus for row in self.rows))

    def lengths(self, corpus: str) -> list[int]:
        """Return the lengths that a corpus reaches."""
        return sorted({row.length for row in self.rows if row.corpus == corpus})

    def row(self, corpus: str, method: str, length: int) -> CompareRow:
        """Return one cell."""
        wanted = (corpus, method, length)
        return next(r for r in self.rows if (r.corpus, r.method, r.length) == wanted)

    def verdicts(self) -> list[str]:
        """Say for each corpus and length who is ahead and by how much."""
        cells = dict.fromkeys((row.corpus, row.length) for row in self.rows)
        return [
            verdict(
                [r for r in self.rows if (r.corpus, r.length) == cell],
                [b for b in self.best if (b.corpus, b.length) == cell],
                self.reference,
            )
            for cell in cells
        ]

    def best_rows(self) -> list[dict[str, Any]]:
        """Return one row a corpus and length: the best method, how sure that is, and how far the reference is."""
        cells = dict.fromkeys((row.corpus, row.length) for row in self.rows)
        return [
            {"model": self.model} | best_row([b for b in self.best if (b.corpus, b.length) == cell]) for cell in cells
        ]

    def cost(self, method: str) -> dict[str, Any]:
        """Return the row of a method's costs, empty where there is none."""
        return next((row for row in self.costs if row["method"] == method), {})

    def method_rows(self) -> list[dict[str, Any]]:
        """Return one row a method: how it was made, from where, at what cost."""
        rows = []
        for each in self.fitted:
            method = find_method(each.method)
            rows.append({
                "model": self.model,
                "method": each.method,
                "description": str(method.describe()),
                "made": each.how,
                "passes": each.passes,
                "bakes": each.bakes,
                "cites": " ".join(citation.key for citation in method.cite()),
            })
        return rows

    def constant_rows(self) -> list[dict[str, Any]]:
        """Return one row a candidate of a constant and length, on validation text."""
        return [
            {
                "model": self.model, "kind": c.kind, "factor": c.factor, "length": c.length,
                "validation_bits": c.bits, "validation_tail_bits": c.tail_bits,
            }
            for each in self.fitted for c in each.choices
        ]  # fmt: skip

    def _repr_html_(self) -> str:
        return html_table([row.to_dict() for row in self.rows], repr(self))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; what was measured by a clock is not among them."""
        return {
            "model": self.model,
            "train_length": self.train_length,
            "fit_on": self.fit_on,
            "fit_length": self.fit_length,
            "reference": self.reference,
            "methods": self.method_rows(),
            "rows": [row.to_dict() for row in self.rows],
            "best": self.best_rows(),
            "keys": self.keys.to_dict(),
            "verdicts": self.verdicts(),
        }

    def __repr__(self) -> str:
        return f"Comparison({self.model}: {len(self.fitted)} methods on {', '.join(self.corpora())})"


def run_comparisons(
    plans: Sequence[ComparePlan],
    *,
    run: RunFolder | None = None,
    engine: str = "sequential",
    jobs: int = 1,
    tick: Tick = lambda _: None,
) -> list[Comparison]:
    """Fit every method to every model, and score it.

    Args:
        plans: one a model, each with a key of its own.
        run: keeps every fit and every pass.
        engine: where the work runs, see ``engine.ENGINES``; results do not depend on it.
        jobs: worker processes.
        tick: called with tokens as they pass through a model, those of kept cells at the start.

    Returns:
        The comparisons, in the order of the plans.

    Raises:
        RefusedInputError: a document is both calibration and test text, or a length below T, or an unknown engine.
        TextError: too little text.
    """
    check_engine(engine, jobs)
    nested = engine in {"sequential", "loky"}  # a cluster's machines may not see the folder
    with CostBook.open(run) as book:
        benches = [Bench(plan.checked(), run, book, nested=nested) for plan in plans]
        fits = [piece for bench in benches for piece in bench.fits(tick)]
        early = [
            piece for bench in benches for piece in bench.passes(tick, early=True)
        ]  # of what needs no fit, beside long fits
        run_pieces([*fits, *early], engine=engine, jobs=jobs, tick=tick)
        late = [piece for bench in benches for piece in (*bench.passes(lambda _: None), *bench.key_pieces(tick))]
        run_pieces(late, engine=engine, jobs=jobs, tick=tick)
        return [_comparison(bench) for bench in benches]


def _comparison(bench: Bench) -> Comparison:
    plan, rows, best = bench.plan, [], []
    fitted = {method.name: bench.fitted[method.name] for method in plan.methods}
    for cut in bench.cuts:
        scored = {(name, n): bench.scored(cut, name, n) for name in fitted for n in cut.lengths}
        rows += [
            make_row(
                cut, each, n, scored[name, n], scored[FRESH, n], scored[plan.reference, n], scored["none", n]
            )
            for name, each in fitted.items() for n in cut.lengths
        ]  # fmt: skip
        for n in cut.lengths:
            here = {name: scored[name, n] for name in fitted if name != FRESH}
            best += [found for by in ("tail", "last") if (found := best_of(cut, here, n, plan.reference, by))]
    return Comparison(
        plan.model.name, plan.train_length, plan.fit_on, plan.fit_length, plan.reference, tuple(fitted.values()),
        tuple(rows), tuple(best), bench.found_keys(), tuple(bench.cost_rows()),
    )  # fmt: skip


def run_compare(
    model: Model,
    corpora: Mapping[str, Texts],
    methods: Sequence[Method],
    lengths: Sequence[int],
    *,
    train_length: int,
    fit_length: int,
    fit_on: str,
    starts: int = 1,
    documents: int | None = None,
    longest: Mapping[str, int] | None = None,
    reference: str = "spectrum",
    steps: int | None = None,
    seed: int = 0,
    batch: int = 8,
    passkey: PasskeyAsk | None = None,
    run: RunFolder | None = None,
    key: str = "",
    engine: str = "sequential",
    jobs: int = 1,
    tick: Tick = lambda _: None,
) -> Comparison:
    """Fit every method to one model, and score it.

    Args:
        model: a loaded model.
        corpora: texts by name of the corpus.
        methods: what to compare; the unscaled model, the control and the reference join them.
        lengths: lengths to report, each at least T.
        train_length: T.
        fit_length: tokens of a window of a calibration.
        fit_on: corpus that methods are fitted on.
        starts: passages of a document at most.
        documents: documents of a corpus at most, the first of those that reach its longest length. Default: all.
        longest: longest length to read of single corpora. Default: none is held back.
        reference: method that paired differences are taken to.
        steps: steps of every calibration. Default: each method's own.
        seed: of every random draw.
        batch: passages that run side by side.
        passkey: keys to ask for, too. Default: none.
        run: keeps every fit and every pass.
        key: name of the model in the run folder.
        engine: where the work runs, see ``engine.ENGINES``.
        jobs: worker processes.
        tick: called with tokens as they pass through the model.

    Returns:
        The comparison.

    Raises:
        RefusedInputError: a document is both calibration and test text, or a length below T.
        TextError: too little text.
    """
    plan = ComparePlan(
        model, corpora, tuple(methods), tuple(lengths), train_length, fit_length, fit_on, starts, documents,
        longest or {}, reference, steps, seed, batch, passkey, key,
    )  # fmt: skip
    return run_comparisons([plan], run=run, engine=engine, jobs=jobs, tick=tick)[0]
