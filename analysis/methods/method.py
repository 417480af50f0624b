"""What every method of length generalisation is asked, and what it answers.

A method is fitted once: on calibration text, where it chooses a setting on validation text, and never sees test text.
What comes out are scales (one set for all lengths, or one for each), or arrays that the method itself turns into a way
to run the model, and what they cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from mambascope.spectra.config import Config
from mambascope.spectra.dynamics import Intervention
from mambascope.spectra.errors import RefusedInputError, ScaleError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales
from mambascope.spectra.state import StreamState

from ..arrays import Arrays, kept_arrays
from ..folds import plan_folds
from ..runs import RunFolder
from ..study import Texts
from .citations import Citation


@dataclass(frozen=True, slots=True)
class Task:
    """What a method is fitted to."""

    model: Model
    """A loaded model."""
    texts: Texts
    """Calibration and validation documents; test documents are only told apart from them."""
    train_length: int
    """T in tokens."""
    lengths: tuple[int, ...]
    """Lengths that the scales will be used at, ascending."""
    fit_length: int
    """Tokens of a window of a calibration, and the unit in which costs are counted."""
    seed: int = 0
    """Of every random draw."""
    steps: int | None = None
    """Steps of every calibration; None for each method's own."""
    run: RunFolder | None = None
    """Keeps what has been computed."""
    prefix: str = ""
    """Before the names of this task's cells in the run folder."""
    tick: Callable[[int], None] = lambda _: None
    """Called with tokens as they pass through the model."""

    @property
    def target_length(self) -> int:
        """The longest length."""
        return max(self.lengths)

    def cell(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return a cell of the run folder, or compute it where there is none."""
        return compute() if self.run is None else self.run.cell(self.prefix + key, compute)


Role = Literal["calibration", "validation"]
"""A set of texts that methods are fitted on."""
NOTHING: frozenset[Role] = frozenset()
CALIBRATION: frozenset[Role] = frozenset({"calibration"})
VALIDATION: frozenset[Role] = frozenset({"validation"})
BOTH = CALIBRATION | VALIDATION


@dataclass(frozen=True, slots=True)
class Setting:
    """A hyperparameter and where its value is from."""

    name: str
    """What it is."""
    value: str
    """As it is used."""
    origin: str
    """The source, or ours and why."""


@dataclass(frozen=True, slots=True)
class Description:
    """A method in words."""

    words: str
    """What it does, in one sentence."""
    settings: tuple[Setting, ...] = ()
    """Its hyperparameters."""

    def __str__(self) -> str:
        told = "; ".join(f"{s.name} {s.value} ({s.origin})" for s in self.settings)
        return f"{self.words}{': ' if told else ''}{told}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One candidate of a search, at one length, on validation text."""

    kind: str
    """What the factor multiplies."""
    factor: float
    """The candidate."""
    length: int
    """Tokens."""
    bits: float | None
    """Bits per token; None where the run broke down numerically."""
    tail_bits: float | None
    """Bits per token of the second half: what is chosen by."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A method fitted to a model."""

    method: str
    """Its name."""
    scales: Scales | None
    """What the model runs with; None for the model as it is."""
    how: str
    """How it was made, in words."""
    passes: float = 0.0
    """What fitting cost, in forward passes over one window of the fit length."""
    bakes: str = "yes"
    """``yes``, or why the scales cannot become weights."""
    by_length: tuple[tuple[int, Scales], ...] = ()
    """Scales of single lengths, where they differ from ``scales``."""
    choices: tuple[Choice, ...] = ()
    """What was tried, where there was a search."""
    arrays: Arrays = field(default_factory=dict)
    """What was fitted, where it is not scales: thresholds, a state, weights."""

    def at(self, length: int) -> Scales | None:
        """Return the scales for a length."""
        return dict(self.by_length).get(length, self.scales)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "method": self.method,
            "scales": None if self.scales is None else self.scales.to_dict(),
            "how": self.how,
            "passes": self.passes,
            "bakes": self.bakes,
            "by_length": [[length, scales.to_dict()] for length, scales in self.by_length],
            "choices": [asdict(choice) for choice in self.choices],
            "arrays": sorted(self.arrays),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Fitted:
        """Make it from what ``to_dict`` returned, but for the arrays, of which that gives the names alone."""
        scales, by_length = stored["scales"], stored["by_length"]
        return cls(
            method=stored["method"],
            scales=None if scales is None else Scales.from_dict(scales),
            how=stored["how"],
            passes=stored["passes"],
            bakes=stored["bakes"],
            by_length=tuple((length, Scales.from_dict(each)) for length, each in by_length),
            choices=tuple(Choice(**choice) for choice in stored["choices"]),
        )

    def __repr__(self) -> str:
        return f"Fitted({self.method}: {self.how}; {self.passes:.0f} passes, bakes: {self.bakes})"


@dataclass(frozen=True, slots=True)
class Setup:
    """How a model runs under a method, at one length."""

    model: Model
    """The model; another one where the method changed weights."""
    intervention: Intervention | None = None
    """Rewrites its dynamics."""
    state: StreamState | None = None
    """State before the first token, of one row; None for zeros."""
    name: str = "none"
    """What is done; the same name is the same thing, and only run once."""
    by_length: bool = False
    """True where what is done depends on how many tokens will be read."""
    last_only: bool = False
    """True where losses exist for the last tokens alone, because others are dropped on the way."""

    def start(self, rows: int) -> StreamState | None:
        """Return the state before the first token for so many rows side by side."""
        return None if self.state is None else self.state.repeated(rows)


class Method(Protocol):
    """A way to run a model on more tokens than it was trained on."""

    reads: ClassVar[frozenset[Role]]
    """Sets of texts that a fit may read: ``NOTHING``, ``CALIBRATION``, ``VALIDATION`` or ``BOTH``."""

    @property
    def name(self) -> str:
        """What it is called on a command line."""
        ...

    def describe(self) -> Description:
        """Say what it does, with the origin of every hyperparameter."""
        ...

    def cite(self) -> tuple[Citation, ...]:
        """Return its sources; none for what is ours."""
        ...

    def expected_tokens(self, task: Task) -> float:
        """Estimate the tokens that a fit runs through the model; those of a gradient count as calibrations count."""
        ...

    def fit(self, task: Task) -> Fitted:
        """Make its scales for a model."""
        ...


@runtime_checkable
class OwnSetup(Method, Protocol):
    """A method whose result is more than scales."""

    def setup(self, fitted: Fitted, model: Model, length: int, tail: int = 1) -> Setup:
        """Return how a model runs.

        Args:
            fitted: what ``fit`` returned.
            model: the model it was fitted to.
            length: tokens that will be read.
            tail: tokens at the end whose outputs are wanted: 1 to generate, more to read losses off.
        """
        ...


def fit(method: Method, task: Task, made: Fitted | None = None) -> Fitted:
    """Fit a method, or read from the run folder what an earlier session has fitted.

    Args:
        method: what to fit.
        task: the model and the texts.
        made: what a worker has fitted; it is kept as if it had been made here. Default: fit now.

    Returns:
        The fitted method, its scales checked against the model.

    Raises:
        RefusedInputError: calibration windows that are no longer than training was.
        ScaleError: scales that do not fit the model.
    """
    if task.fit_length < 2 * task.train_length:
        raise RefusedInputError(
            f"--calibrate-at {task.fit_length}: expected at least {2 * task.train_length}, twice the training length"
        )
    arrays: Arrays = {}
    place = f"{task.prefix}fit/{method.name}".replace(":", "-")

    def compute() -> dict[str, Any]:
        found = made or method.fit(task)
        arrays.update(found.arrays if task.run is None or not found.arrays else _kept(task.run, place, found))
        return found.to_dict()

    stored = task.cell(f"fit/{method.name}", compute)
    if stored.get("arrays") and not arrays and task.run is not None:
        arrays.update(kept_arrays(task.run, place, lambda: method.fit(task).arrays))
    found = replace(Fitted.from_dict(stored), arrays=arrays)
    for scales in (found.scales, *(each for _, each in found.by_length)):
        if scales is not None:
            scales.check(task.model.config)
    return found


def _kept(run: RunFolder, place: str, made: Fitted) -> Arrays:
    return kept_arrays(run, place, lambda: made.arrays)


def whether_baked(scales: Scales, config: Config) -> str:
    """Say whether scales can become weights.

    Args:
        scales: the factors.
        config: shape of the model.

    Returns:
        ``yes``, ``yes, up to the epsilon of a norm``, or the reason why not.
    """
    try:
        folds = plan_folds(scales, config)
    except ScaleError as error:
        return str(error).partition(";")[0]
    return "yes, up to the epsilon of a norm" if any(fold.write == "norm" for fold in folds) else "yes"
