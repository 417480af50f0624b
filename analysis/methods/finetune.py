"""Full fine-tuning, the method that changes everything: all weights trained on longer text, or on the passkey task.

It is the upper end of what scales are compared with: as many numbers are moved as there are weights. What comes out is
a checkpoint of its own.
"""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from mambascope.spectra.model import Model

from ..arrays import Arrays
from ..calibration.objective import window_bits
from ..calibration.plan import GRADIENT_PASSES
from ..calibration.windows import draw_windows, spread_windows
from ..passkey.answer_rows import AnswerRows
from ..passkey.problem import Look, Tick
from ..passkey.record import TunedHistory
from ..passkey.weights import LOOK_EVERY, Reads, WeightPlan, train_weights, with_weights
from ..texts import Texts
from .citations import DECIMATION, RATIO, Citation
from .method import BOTH, Description, Fitted, Role, Setting, Setup, Task

RATES = (1e-4, 1e-3)
"""Learning rates to choose between on validation. The first is that of DeciMamba's released training; the second ours:
models as small as the bundled ones were trained at ten times that."""
TRIAL_SHARE = 0.1
"""Steps of a trial of a learning rate, as a share of all. Ours."""
STEPS = 100
"""As jzhang38/LongMamba fine-tuned for."""
BATCH = 4
"""Windows of a step. Ours; DeciMamba has 32."""
WEIGHT_DECAY = 0.1
"""Source: DeciMamba's released training on text."""
CHOSEN_ON = 8
"""Validation windows that the learning rate and the step are chosen on. Ours, as for calibrations."""

_made: weakref.WeakKeyDictionary[Model, tuple[str, Model]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class TextReads:
    """Windows of ordinary text of one length."""

    texts: Texts
    """Calibration documents to train on, validation documents to choose on."""
    train_length: int
    """T in tokens."""
    length: int
    """Tokens of a window."""
    seed: int
    """Of every draw."""

    def rows(self, step: int) -> list[tuple[float, AnswerRows]]:
        """Return a step's windows, every token scored."""
        documents = [document.ids for document in self.texts.calibration]
        return [(1.0, AnswerRows(draw_windows(documents, self.length, BATCH, self.seed, step), 0))]

    def look(self, model: Model, scales: None, count: Tick) -> Look:
        """Return the bits of the validation windows."""
        documents = [document.ids for document in self.texts.validation]
        windows = spread_windows(documents, self.length, CHOSEN_ON, "validation")
        bits = window_bits(model, windows, scales, self.train_length).whole
        count(windows.size)
        return Look(bits, bits)


@dataclass(frozen=True)
class Finetuned:
    """Weights, and how they came to be."""

    weights: Arrays
    """By name, after ``w/``."""
    how: str
    """In words."""
    tokens: int
    """Tokens read, a gradient's counted four times."""


def finetune(
    model: Model,
    reads: Reads,
    plan: WeightPlan,
    *,
    rates: tuple[float, ...] = RATES,
    folder: Path | None = None,
    tick: Tick = lambda _: None,
) -> Finetuned:
    """Choose a learning rate by short trials, then train.

    Args:
        model: stays as it is.
        reads: what is read.
        plan: how; its learning rate is replaced.
        rates: learning rates to choose among.
        folder: keeps trials and training.
        tick: called with tokens as they pass.

    Returns:
        The weights of the step that was best on what is chosen on.
    """

    def trained(rate: float, steps: int, name: str) -> TunedHistory:
        path = None if folder is None else folder / f"{name}.safetensors"
        of_trial = replace(plan, learning_rate=rate, steps=steps, look_every=min(plan.look_every, steps))
        return train_weights(model, reads, of_trial, path=path, tick=tick)

    short = max(1, round(TRIAL_SHARE * plan.steps))
    trials = {rate: trained(rate, short, f"trial-{rate:g}") for rate in rates} if len(rates) > 1 else {}
    chosen = min(trials, key=lambda rate: trials[rate].objective()) if trials else rates[0]
    found = trained(chosen, plan.steps, "training")
    tokens = sum(history.steps[-1].tokens for history in (*trials.values(), found))
    begun, best = found.steps[0].look, found.steps[found.best_step].look
    assert begun is not None
    assert best is not None
    how = (
        f"step {found.best_step} of {plan.steps} at learning rate {chosen:g}, out of "
        f"{', '.join(f'{rate:g}' for rate in rates)}; objective on validation {begun.objective:.4f} -> "
        f"{best.objective:.4f}"
    )
    return Finetuned(dict(found.best), how, tokens)


def weights_setup(fitted: Fitted, model: Model) -> Setup:
    """Return a setup that runs a copy of a model with the weights that were fitted.

    Args:
        fitted: with weights in its arrays.
        model: what they were trained from; the last copy is kept for as long as the model is.

    Returns:
        The setup, named by a hash of the weights.
    """
    digest = hashlib.sha256()
    for name in sorted(fitted.arrays):
        digest.update(name.encode() + np.ascontiguousarray(fitted.arrays[name]).tobytes())
    name = digest.hexdigest()[:24]
    if _made.get(model, ("", model))[0] != name:
        _made[model] = (name, with_weights(model, fitted.arrays))
    return Setup(_made[model][1], name=name)


@dataclass(frozen=True, slots=True)
class FullFinetuning:
    """All weights on windows of ordinary text."""

    reads: ClassVar[frozenset[Role]] = BOTH

    name: str = "full-finetuning"
    """What it is called."""

    def describe(self) -> Description:
        """Say what it does."""
        return Description(
            "all weights trained on windows of calibration text of the calibration length",
            (
                Setting("optimiser", f"AdamW, weight decay {WEIGHT_DECAY:g}, norm clipped to 1", "DeciMamba"),
                Setting(
                    "learning rate",
                    f"chosen on validation among {', '.join(f'{rate:g}' for rate in RATES)}, to 0 on half a cosine",
                    "the first DeciMamba's, the others ours",
                ),
                Setting("steps", str(STEPS), "jzhang38/LongMamba"),
                Setting("windows of a step", str(BATCH), "ours; DeciMamba has 32"),
            ),
        )

    def cite(self) -> tuple[Citation, ...]:
        """Return its sources."""
        return (DECIMATION, RATIO)

    def expected_tokens(self, task: Task) -> float:
        """Estimate the tokens that fitting reads, a gradient's counted four times."""
        steps = task.steps or STEPS
        trials = len(RATES) * max(1, round(TRIAL_SHARE * steps))
        looks = 2 * len(RATES) + steps / LOOK_EVERY + 2
        return task.fit_length * (GRADIENT_PASSES * BATCH * (steps + trials) + CHOSEN_ON * looks)

    def fit(self, task: Task) -> Fitted:
        """Train, in files of its own below the task's run folder."""
        reads = TextReads(task.texts, task.train_length, task.fit_length, task.seed)
        plan = WeightPlan(RATES[0], WEIGHT_DECAY, task.steps or STEPS)
        return fitted_weights(self.name, task, reads, plan, RATES)

    def setup(self, fitted: Fitted, model: Model, length: int, tail: int = 1) -> Setup:
        """Return the model with the trained weights."""
        del length, tail
        return weights_setup(fitted, model)


def fitted_weights(name: str, task: Task, reads: Reads, plan: WeightPlan, rates: tuple[float, ...]) -> Fitted:
    """Train all weights for a method and return what came of it."""
    trials = [f"trial-{rate:g}" for rate in rates] if len(rates) > 1 else []
    folder = training_folder(task, name, [*trials, "training"])
    found = finetune(task.model, reads, plan, rates=rates, folder=folder, tick=task.tick)
    return Fitted(
        name,
        None,
        found.how,
        passes=found.tokens / task.fit_length,
        bakes="yes: it is a checkpoint of its own",
        arrays=found.weights,
    )


def training_folder(task: Task, name: str, files: list[str]) -> Path | None:
    """Claim files for a training below a task's run folder.

    Args:
        task: whose run folder.
        name: the method's name.
        files: names without suffix.

    Returns:
        The folder that they go into; None where nothing is kept.
    """
    if task.run is None:
        return None
    place = f"data/{task.prefix}train/{name}".replace(":", "-")
    claimed = [task.run.output(f"{place}/{each}.safetensors") for each in files]
    claimed[0].parent.mkdir(parents=True, exist_ok=True)
    return claimed[0].parent
