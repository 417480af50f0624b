"""What a comparison is asked to do for one model, and about how many tokens that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.model import Model

from .compare_cells import Cut, cut_corpus
from .compare_keys import PasskeyAsk, does_the_task
from .methods import Method, Task, find_method
from .methods.constants import BestConstant
from .methods.method import OwnSetup
from .methods.plain import FRESH, FromFile
from .runs import RunFolder
from .study import Texts
from .texts import refuse_fitted_on


@dataclass(frozen=True)
class ComparePlan:
    """One model's part of a comparison."""

    model: Model
    """A loaded model."""
    corpora: Mapping[str, Texts]
    """Texts by name of the corpus."""
    methods: tuple[Method, ...]
    """What is compared; the unscaled model, the control and the reference are among them."""
    lengths: tuple[int, ...]
    """Lengths to report, ascending, none below T."""
    train_length: int
    """T in tokens."""
    fit_length: int
    """Tokens of a window of a calibration."""
    fit_on: str
    """Corpus that methods are fitted on."""
    starts: int = 1
    """Passages of a document at most."""
    documents: int | None = None
    """Documents of a corpus at most, the first of those that reach its longest length; None for all."""
    longest: Mapping[str, int] = field(default_factory=dict)
    """Longest length to read of single corpora."""
    reference: str = "spectrum"
    """Method that paired differences are taken to."""
    steps: int | None = None
    """Steps of every calibration; None for each method's own."""
    seed: int = 0
    """Of every random draw."""
    batch: int = 8
    """Passages that run side by side."""
    passkey: PasskeyAsk | None = None
    """Keys to ask for, too; None for no such task."""
    key: str = ""
    """Name of the model in the run folder."""

    @property
    def prefix(self) -> str:
        """What the names of this model's cells in the run folder start with."""
        return f"{self.key}/" if self.key else ""

    def checked(self) -> ComparePlan:
        """Return the plan with the methods that every comparison needs, if it makes sense.

        Returns:
            The plan.

        Raises:
            RefusedInputError: a length below T, windows too short to calibrate on, or a document that is both
                calibration and test text, for a method or for a file of scales.
        """
        if min(self.lengths) < self.train_length:
            raise RefusedInputError(
                f"--lengths {min(self.lengths)}: expected at least the training length {self.train_length}"
            )
        if self.fit_length < 2 * self.train_length:
            raise RefusedInputError(
                f"--calibrate-at {self.fit_length}: expected at least {2 * self.train_length}, twice the training "
                "length"
            )
        base = self.corpora[self.fit_on]
        tests = tuple(d for each in self.corpora.values() for d in each.test)
        Texts(base.calibration, base.validation, tests).check()
        methods = with_needed(self.methods, self.reference)
        for method in methods:
            if isinstance(method, FromFile):
                refuse_fitted_on(method.path, tests)
        return replace(self, methods=methods, lengths=tuple(sorted(self.lengths)))

    def task(self) -> Task:
        """Return what methods are fitted to; test texts are not among it."""
        base = self.corpora[self.fit_on]
        texts = Texts(base.calibration, base.validation, ())
        return Task(
            self.model, texts, self.train_length, self.lengths, self.fit_length, seed=self.seed, steps=self.steps
        )

    def asks(self, run: RunFolder | None) -> bool:
        """Return True if every method will be asked for keys: the model does that task inside T."""
        task = replace(self.task(), run=run, prefix=self.prefix)
        return self.passkey is not None and not does_the_task(self.passkey, self.model, self.train_length, task.cell)

    def cuts(self) -> list[Cut]:
        """Cut the test passages of every corpus."""
        found = []
        for name, texts in self.corpora.items():
            here = [n for n in self.lengths if n <= self.longest.get(name, max(self.lengths))]
            found.append(cut_corpus(name, texts.test, here, self.train_length, self.starts, self.documents))
        return found


def with_needed(methods: Sequence[Method], reference: str) -> tuple[Method, ...]:
    """Add what every comparison needs: the unscaled model, the control, the reference."""
    needed = [find_method(name) for name in ("none", FRESH, reference)]
    return tuple({method.name: method for method in (*needed[:2], *methods, needed[2])}.values())


def planned_tokens(plan: ComparePlan, *, passkey: bool = False) -> int:
    """Estimate how many tokens a comparison runs through the model, for a progress bar.

    Args:
        plan: what is compared.
        passkey: the model does the passkey task, so that every method is asked for keys.

    Returns:
        Tokens.
    """
    task, cuts = plan.task(), plan.cuts()
    inside = sum(cut.windows.tokens.size for cut in cuts)
    long = sum(cut.passages.tokens.size for cut in cuts)
    each = sum(len(cut.passages) * sum(cut.lengths) for cut in cuts)  # a pass for every length
    total = 0.0
    for method in plan.methods:
        total += method.expected_tokens(task)
        if method.name == FRESH:
            total += 2 * long
            continue
        by_length = isinstance(method, BestConstant | OwnSetup)  # an own setup may be the same for all lengths
        total += inside + (each if by_length else long)
        if passkey and plan.passkey is not None:
            total += plan.passkey.planned_tokens()
    return round(total)
