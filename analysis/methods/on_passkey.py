"""Methods that are trained on the passkey task: scales of four kinds with the model frozen, and all weights.

They need prompts, which a task of plain texts cannot make: ``mambascope evaluate --task passkey`` gives a
``PasskeyFits`` in its place. Keys of the part ``train`` and calibration text train, keys of the part ``validation`` and
validation text choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales

from ..passkey.curriculum import Curriculum
from ..passkey.horizons import measured
from ..passkey.problem import PasskeyTexts, StepsOnPasskey
from ..passkey.tuning import BATCH, RATES, STARTS, STEPS, TuningPlan, outputs, planned_tokens, tune
from ..passkey.weights import CLIP, WeightPlan
from ..rules import find_rule
from ..texts import token_counter
from .citations import ADAM, DECIMATION, EXTEND, MODULATION, Citation
from .finetune import RATES as WEIGHT_RATES
from .finetune import fitted_weights, training_folder, weights_setup
from .method import BOTH, Description, Fitted, Method, Role, Setting, Setup, Task, whether_baked

KINDS = {"a": "a", "dt": "dt", "a+dt": "joint", "a_power": "a_power"}
"""Kinds of factors by what a method's name says."""


@dataclass(frozen=True, slots=True)
class PasskeyFits(Task):
    """A task with prompts."""

    prompts: PasskeyTexts | None = None
    """Training and validation prompts."""
    longest: int = 0
    """Tokens of the longest prompt and answer that is trained on."""
    rates: tuple[float, ...] = ()
    """Learning rates to choose among; empty for each method's own."""
    rows: int = BATCH
    """Rows of each term of a step."""


def _prompts(task: Task, name: str) -> tuple[PasskeyFits, PasskeyTexts]:
    if not isinstance(task, PasskeyFits) or task.prompts is None:
        raise RefusedInputError(f"method {name!r} is trained on passkey prompts: give it to evaluate --task passkey")
    return task, task.prompts


@dataclass(frozen=True, slots=True)
class ScalesOnPasskey:
    """One factor a head or channel, trained on the task."""

    reads: ClassVar[frozenset[Role]] = BOTH

    word: str
    """The kind, as the name says it."""

    @property
    def name(self) -> str:
        """What it is called."""
        return f"passkey:{self.word}"

    def describe(self) -> Description:
        """Say what it does."""
        rates = ", ".join(f"{rate:g}" for rate in RATES)
        return Description(
            f"one factor a head or channel on {self.word.replace('+', ' and ')}, the model frozen, trained on passkey "
            "prompts of growing length and on text inside T",
            (
                Setting("start", STARTS[KINDS[self.word]] or "ones", "ours, see tuning"),
                Setting("learning rate", f"chosen on validation keys among {rates}", "Mamba Modulation; see tuning"),
                Setting("steps", str(STEPS), "ours, see tuning"),
                Setting("rows of a step", f"{BATCH} far, {BATCH} near, {BATCH} of text", "ours, see tuning"),
            ),
        )

    def cite(self) -> tuple[Citation, ...]:
        """Return its sources."""
        return (MODULATION, EXTEND, DECIMATION, ADAM)

    def _plan(self, on: PasskeyFits) -> TuningPlan:
        kind, rates = KINDS[self.word], on.rates or RATES
        return TuningPlan(
            on.train_length, on.longest, kind, rates=rates, steps=on.steps or STEPS, batch=on.rows, seed=on.seed
        )

    def expected_tokens(self, task: Task) -> float:
        """Estimate the tokens that fitting reads, a gradient's counted four times."""
        return planned_tokens(self._plan(_prompts(task, self.name)[0]))

    def fit(self, task: Task) -> Fitted:
        """Train, in files of its own below the task's run folder."""
        on, prompts = _prompts(task, self.name)
        plan = self._plan(on)
        folder = training_folder(on, self.name, list(outputs(plan)))
        read: list[int] = []
        start = _start(on, STARTS[plan.kind], read)
        found = tune(on.model, prompts, plan, start=start, folder=folder, tick=on.tick)
        passes = (found.tokens + sum(read)) / on.fit_length
        bakes = whether_baked(found.scales, on.model.config)
        return Fitted(self.name, found.scales, found.note(), passes=passes, bakes=bakes)


def _start(task: PasskeyFits, rule: str, read: list[int]) -> Scales | None:
    """Return the scales that training starts from; None for ones."""
    if not rule:
        return None
    observers = [token_counter(read.append), token_counter(task.tick)]
    return find_rule(rule)(measured(task.model, task.texts.calibration, task.train_length, observers=observers))


def _weight_rates(task: PasskeyFits) -> tuple[float, ...]:
    """Return the learning rates for weights: those asked for, without the ones that are for factors alone."""
    return tuple(rate for rate in task.rates if rate <= max(WEIGHT_RATES)) or WEIGHT_RATES


@dataclass(frozen=True, slots=True)
class WeightsOnPasskey:
    """All weights, trained on the task at the same lengths as the scales."""

    reads: ClassVar[frozenset[Role]] = BOTH

    name: str = "passkey:full"
    """What it is called."""

    def describe(self) -> Description:
        """Say what it does."""
        rates = ", ".join(f"{rate:g}" for rate in WEIGHT_RATES)
        return Description(
            "all weights trained on passkey prompts of growing length and on text inside T, as the scales are",
            (
                Setting(
                    "optimiser", f"AdamW without weight decay, norm clipped to {CLIP:g}", "DeciMamba's passkey code"
                ),
                Setting("learning rate", f"chosen on validation keys among {rates}", "see finetune"),
                Setting("steps", str(STEPS), "as for the scales"),
            ),
        )

    def cite(self) -> tuple[Citation, ...]:
        """Return its source."""
        return (DECIMATION,)

    def expected_tokens(self, task: Task) -> float:
        """Estimate the tokens that fitting reads, a gradient's counted four times."""
        on, _ = _prompts(task, self.name)
        rates = _weight_rates(on)
        return planned_tokens(TuningPlan(on.train_length, on.longest, rates=rates, steps=on.steps or STEPS))

    def fit(self, task: Task) -> Fitted:
        """Train, in files of its own below the task's run folder."""
        on, prompts = _prompts(task, self.name)
        steps = on.steps or STEPS
        lengths = Curriculum(on.train_length, on.longest, steps)
        reads = StepsOnPasskey(prompts, lengths, on.rows, on.seed)
        rates = _weight_rates(on)
        return fitted_weights(self.name, on, reads, WeightPlan(rates[0], 0.0, steps), rates)

    def setup(self, fitted: Fitted, model: Model, length: int, tail: int = 1) -> Setup:
        """Return the model with the trained weights."""
        del length, tail
        return weights_setup(fitted, model)


ON_PASSKEY: tuple[Method, ...] = (*(ScalesOnPasskey(word) for word in KINDS), WeightsOnPasskey())
"""All of them."""
