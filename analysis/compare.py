"""Every method on every corpus at every length: the paper's Table 3, with intervals and what each method costs.

A method is fitted once, on calibration text of one corpus (validation text of the same chooses where it chooses), as
the published ones use one foreign set for all. Its scales are then scored on the test text of each corpus; one pass
over the longest length gives all shorter ones. Methods that end at equal scales share a pass. Each fit and each pass is
a cell of the run folder: a stopped comparison goes on where it was, and more methods can join a finished one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.model import Model

from .calibration.plan import make_plan
from .compare_cells import Cut, Scored, Scorer, cut_corpus
from .compare_rows import CompareRow, make_row, verdict
from .evaluate.position_sums import LAST
from .methods import Fitted, Method, Setup, Task, find_method, fit, setup_of
from .methods.calibrated import Calibration
from .methods.constants import CHOOSE_UP_TO, GRIDS, BestConstant
from .methods.plain import FRESH
from .runs import RunFolder
from .study import Texts, Tick


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
        return [verdict([r for r in self.rows if (r.corpus, r.length) == cell], self.reference) for cell in cells]

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

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "model": self.model,
            "train_length": self.train_length,
            "fit_on": self.fit_on,
            "fit_length": self.fit_length,
            "reference": self.reference,
            "methods": self.method_rows(),
            "rows": [row.to_dict() for row in self.rows],
            "verdicts": self.verdicts(),
        }

    def __repr__(self) -> str:
        return f"Comparison({self.model}: {len(self.fitted)} methods on {', '.join(self.corpora())})"


def with_needed(methods: Sequence[Method], reference: str) -> tuple[Method, ...]:
    """Add what every comparison needs: the unscaled model, the control, the reference."""
    needed = [find_method(name) for name in ("none", FRESH, reference)]
    return tuple({method.name: method for method in (*needed[:2], *methods, needed[2])}.values())


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
    run: RunFolder | None = None,
    key: str = "",
    tick: Tick = lambda _: None,
) -> Comparison:
    """Fit every method and score it.

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
        run: keeps every fit and every pass.
        key: name of the model in the run folder.
        tick: called with tokens as they pass through the model.

    Returns:
        The comparison.

    Raises:
        RefusedInputError: a document is both calibration and test text, or a length below T.
        TextError: too little text.
    """
    if min(lengths) < train_length:
        raise RefusedInputError(f"--lengths {min(lengths)}: expected at least the training length {train_length}")
    chosen = with_needed(methods, reference)
    base = corpora[fit_on]
    tests = tuple(d for each in corpora.values() for d in each.test)
    Texts(base.calibration, base.validation, tests).check()
    prefix = f"{key}/" if key else ""
    task = Task(
        model, base, train_length, tuple(sorted(lengths)), fit_length, seed=seed, steps=steps, run=run, prefix=prefix,
        tick=tick,
    )  # fmt: skip
    cuts = _cuts(corpora, lengths, train_length, starts, documents, longest)
    fitted = {method.name: fit(method, task) for method in chosen}
    rows = [row for cut in cuts for row in _rows(Scorer(cut, batch, run, prefix, tick), fitted, task, reference)]
    return Comparison(model.name, train_length, fit_on, fit_length, reference, tuple(fitted.values()), tuple(rows))


def _rows(scorer: Scorer, fitted: Mapping[str, Fitted], task: Task, reference: str) -> list[CompareRow]:
    """Score all methods on one corpus."""
    cut, model = scorer.cut, task.model
    setups = {(name, n): setup_of(each, model, n, LAST + 1) for name, each in fitted.items() for n in cut.lengths}
    for (_, length), setup in setups.items():
        scorer.expect(setup, length)
    plain = Setup(model)
    control, unscaled = scorer.control(plain, task.train_length), scorer(plain)

    def scored(name: str, length: int) -> Scored:
        if name == FRESH:
            return control
        setup = setups[name, length]
        at_home = setup_of(fitted[name], model, task.train_length, LAST + 1) if setup.by_length else setup
        return scorer(setup, at_home)

    return [
        make_row(cut, each, n, scored(name, n), control, scored(reference, n), unscaled)
        for name, each in fitted.items() for n in cut.lengths
    ]  # fmt: skip


def _cuts(
    corpora: Mapping[str, Texts],
    lengths: Sequence[int],
    train_length: int,
    starts: int,
    documents: int | None,
    longest: Mapping[str, int] | None,
) -> list[Cut]:
    cuts = []
    for name, texts in corpora.items():
        here = [n for n in lengths if n <= (longest or {}).get(name, max(lengths))]
        cuts.append(cut_corpus(name, texts.test, here, train_length, starts, documents))
    return cuts


def planned_tokens(
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
    steps: int | None = None,
) -> int:
    """Estimate how many tokens a comparison runs through the model, for a progress bar.

    Args:
        corpora: texts by name of the corpus.
        methods: what is compared.
        lengths: lengths that are reported.
        train_length: T.
        fit_length: tokens of a window of a calibration.
        fit_on: corpus that methods are fitted on.
        starts: passages of a document at most.
        documents: documents of a corpus at most.
        longest: longest length to read of single corpora.
        steps: steps of every calibration.

    Returns:
        Tokens.
    """
    cuts = _cuts(corpora, lengths, train_length, starts, documents, longest)
    a_pass = sum(cut.passages.tokens.size + cut.windows.tokens.size for cut in cuts)
    validation = [len(d) for d in corpora[fit_on].validation]
    reach = max((n for n in lengths if n <= min(max(validation), CHOOSE_UP_TO * train_length)), default=min(lengths))
    total = 0.0
    for method in methods:
        total += a_pass * (2 if method.name == FRESH else 1)
        if isinstance(method, BestConstant):
            total += len(GRIDS[method.kind]) * reach * sum(n >= reach for n in validation)
        if isinstance(method, Calibration):
            plan = make_plan(
                train_length=train_length, target_length=fit_length, kind=method.kind, granularity=method.granularity,
                start=method.start, method=method.method, seed=0, steps=steps or method.steps,
            )  # fmt: skip
            total += plan.expected_passes() * fit_length
    return round(total)
