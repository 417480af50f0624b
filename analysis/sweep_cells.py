"""The cells of a sweep: which there are, in which order, and what each needs to know.

A cell is a task, model, corpus, length, method and seed. Numbers follow from the plan alone: they are the same on every
machine, whatever is finished, so that ``--cell 17`` of an array of jobs means the same in each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mambascope.spectra.tokens import Document
from mambascope.spectra.zoo import FOLDER

from .methods import Method, find_method
from .methods.calibrated import Calibration
from .methods.constants import BestConstant
from .methods.finetune import FullFinetuning
from .methods.longmamba import LongMamba
from .methods.plain import FRESH
from .methods.proposed import ByRule, Spectrum
from .methods.state_passing import StatePassing
from .passkey.task import DEPTHS
from .sweep_plan import TaskName

FOR_ONE_LENGTH = (BestConstant, LongMamba, Spectrum, ByRule)
"""Methods whose fit depends on the length that it is for."""
_ZOO = "bundled:"


@dataclass(frozen=True, slots=True)
class SweepModel:
    """A model of a sweep."""

    name: str
    """As the plan has it."""
    source: str
    """Its folder, or its bundled name: what a worker opens."""
    train_length: int
    """T in tokens."""
    lengths: tuple[int, ...]
    """Lengths that are asked for, ascending."""
    fit_length: int
    """Tokens of a window of a calibration."""
    target_length: int | None
    """Length that proposals are made for; None for each cell's own."""


@dataclass(frozen=True, slots=True)
class SweepCorpus:
    """Texts of a sweep, by file."""

    name: str
    """As the plan has it."""
    calibration: tuple[str, ...]
    """Files; none where nothing is fitted on this corpus. So for the next."""
    validation: tuple[str, ...]
    """Files."""
    test: tuple[str, ...]
    """Files."""
    longest: int | None = None
    """Longest length to read of it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number to find."""

    number: int
    """From 1, in the order of the plan."""
    task: TaskName
    """What is measured."""
    model: str
    """Name of the model."""
    corpus: str
    """Name of the corpus."""
    length: int
    """Tokens that are read."""
    method: str
    """Name of the method."""
    seed: int | None
    """Of its random draws; None where there are none."""

    def words(self) -> str:
        """Say which cell it is."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.task} of {self.model} on {self.corpus}, {self.length} tokens, {self.method}{seed}"


@dataclass(frozen=True)
class SweepJob:
    """A plan with its words turned into files and tokens: all that a worker needs to run any of its cells."""

    models: tuple[SweepModel, ...]
    """In the order of the plan, as all that follows."""
    corpora: tuple[SweepCorpus, ...]
    """Texts."""
    methods: Mapping[str, str]
    """Names in the registry, by the names that tables give them; they differ for files of scales."""
    fit_on: str
    """Corpus that methods are fitted on."""
    seeds: tuple[int, ...] = (0,)
    """Seeds."""
    tasks: tuple[TaskName, ...] = ("perplexity",)
    """What is measured."""
    steps: int | None = None
    """Steps of every calibration; None for each method's own."""
    documents: int | None = None
    """Documents of a cell at most; None for all that reach its length."""
    starts: int = 1
    """Passages of a document at most."""
    batch: int = 8
    """Passages that run side by side."""
    examples: int = 10
    """Keys at each depth."""
    depths: tuple[float, ...] = DEPTHS
    """Shares of the text before a key."""
    tokenizer: str | None = None
    """A ``tokenizer.json`` for all models; None for each model's own."""
    device: str = "cpu"
    """Where models run."""
    dtype: str = "float32"
    """Of the weights."""
    threads: int = 1
    """CPU threads of a worker."""

    def model(self, name: str) -> SweepModel:
        """Return a model by name."""
        return next(model for model in self.models if model.name == name)

    def corpus(self, name: str) -> SweepCorpus:
        """Return a corpus by name."""
        return next(corpus for corpus in self.corpora if corpus.name == name)

    def method(self, name: str) -> Method:
        """Return a method by the name that tables give it."""
        return find_method(self.methods[name])

    def cells(self) -> tuple[Cell, ...]:
        """Return every cell, in order: by task, model, corpus, length, method, seed."""
        return tuple(Cell(number, *each) for number, each in enumerate(self._product(), 1))

    def _product(self) -> Iterator[tuple[TaskName, str, str, int, str, int | None]]:
        for task, model, corpus in itertools.product(self.tasks, self.models, self.corpora):
            lengths = [n for n in model.lengths if corpus.longest is None or n <= corpus.longest]
            for length, name in itertools.product(lengths, self.methods):
                for seed in self._seeds(task, self.method(name)):
                    yield task, model.name, corpus.name, length, name, seed

    def _seeds(self, task: TaskName, method: Method) -> Sequence[int | None]:
        if task == "passkey":  # keys are drawn, whatever the method; the control cannot answer
            return () if method.name == FRESH else self.seeds
        return self.seeds if draws(method) else (None,)

    def fit_seed(self, cell: Cell) -> int | None:
        """Return the seed of a cell's fit; None where it draws nothing."""
        return cell.seed if draws(self.method(cell.method)) else None

    def fit_target(self, cell: Cell) -> int | None:
        """Return the length that a cell's fit is for; None where it serves any."""
        method = self.method(cell.method)
        if not isinstance(method, FOR_ONE_LENGTH):
            return None
        pinned = self.model(cell.model).target_length if isinstance(method, Spectrum | ByRule) else None
        return pinned or cell.length


def draws(method: Method) -> bool:
    """Return True if the fit of a method depends on its seed."""
    return isinstance(method, Calibration | FullFinetuning) or (isinstance(method, StatePassing) and method.noise)


def scored_documents(documents: Sequence[Document], length: int, most: int | None) -> list[Document]:
    """Return the documents of a cell: the first of those that reach its length."""
    return [document for document in documents if len(document) >= length][:most]


def portable(path: Path) -> str:
    """Return a file's name as a worker on another machine can find it: texts that are bundled lie where it has them."""
    whole = path.resolve()
    return _ZOO + str(whole.relative_to(FOLDER.resolve())) if whole.is_relative_to(FOLDER.resolve()) else str(whole)


def located(name: str) -> Path:
    """Return the path of a name that ``portable`` gave."""
    return FOLDER / name.removeprefix(_ZOO) if name.startswith(_ZOO) else Path(name)
