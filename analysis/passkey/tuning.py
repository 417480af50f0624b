"""Scales trained on the passkey task, the model frozen: one factor a head or channel, by back-propagation and Adam.

Parameters are logarithms of float64 factors, so that a step of 1e-4 moves them; the parametrisation, the gradient over
a stream of any length and the optimiser are those of ``analysis.calibration``. A learning rate is chosen by short
trials, a step to stop at by looks, both on keys and noise of the validation part.

Source: Mamba Modulation (arXiv 2509.19633) and MambaExtend for factors trained on the task and their learning rates;
lengths beyond 4,096 tokens, the curriculum and the terms that keep T are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales

from ..calibration.adam import Adam
from ..calibration.parameters import CALIBRATION_KINDS, Floats
from ..calibration.plan import GRADIENT_PASSES, make_plan
from ..calibration.starts import start_at
from .curriculum import GROWING, Curriculum
from .problem import PasskeyProblem, PasskeyTexts, StepsOnPasskey, Tick, looked_lengths
from .record import TunedHistory, TunedStep

RATES = (1e-4, 1e-3, 1e-2, 1e-1, 0.2)
"""Learning rates that are tried. Source: the released code of Mamba Modulation for the first four, in 1,920 steps; the
last one is ours, as a step moves ln s by the rate and far fewer of them have to do."""
STARTS = {"a": "hard-clip:4", "joint": "hard-clip:4", "dt": "", "a_power": ""}
"""Rule whose proposal training starts from, by kind; empty for ones, so that factors of one kind stay of that kind.
Ours, the rule of the goal ``retrieval``: after 20 steps on an earlier recall model 15 of 20 validation keys at 8 T were
found, 2 from ones; after 100 steps 18 from both."""
STEPS = 200
"""Ours: with validation keys of a model of the task, the best of 240 steps was the 170th."""
TRIAL_SHARE = 0.1
"""Steps of a trial of a learning rate, as a share of all. Ours."""
BATCH = 6
"""Rows of each term of a step. Ours, for time: on an earlier recall model 6 to 32 rows and 100 to 400 steps all ended
at 84 to 88 of 100 keys at 8 T, with factors on A and dt."""
TIMES = 10
"""Longest length that is trained on, in T. Ours, for time: on an earlier recall model, up to 16 T (200 steps of 16
rows) and up to 9 T (400 of 32), 84 and 85 of 100 test keys were found at 8 T, 43 and 30 at 16 T."""
LOOK_EVERY = 20
"""Steps between two looks at the validation part. Ours."""

Watch = Callable[[TunedStep], None]


@dataclass(frozen=True, slots=True)
class TuningPlan:
    """What is trained, and how."""

    train_length: int
    """T in tokens."""
    longest: int
    """Tokens of the longest prompt and answer."""
    kind: str = "joint"
    """What the factors multiply: ``a``, ``dt``, ``a_power`` or ``joint`` (``a`` and ``dt``)."""
    learning_rate: float | None = None
    """Adam's step in ln s; None to choose among ``rates``."""
    rates: tuple[float, ...] = RATES
    """Learning rates to choose among."""
    steps: int = STEPS
    """Steps."""
    batch: int = BATCH
    """Rows of each term of a step."""
    look_every: int = LOOK_EVERY
    """Steps between two looks."""
    looks: int = 25
    """Validation examples of a length. Ours: with 10, the choice among steps was mostly chance."""
    seed: int = 0
    """Of every draw."""
    growing: float = GROWING
    """Share of the steps in which lengths grow."""

    def check(self) -> TuningPlan:
        """Return the plan itself.

        Raises:
            RefusedInputError: an unknown kind, or a number out of range.
        """
        if self.kind not in CALIBRATION_KINDS:
            raise RefusedInputError(f"kind {self.kind!r}: expected one of {', '.join(CALIBRATION_KINDS)}")
        if self.longest < 2 * self.train_length:
            raise RefusedInputError(
                f"longest length {self.longest}: expected at least {2 * self.train_length}, twice the training length"
            )
        if not self.rates and self.learning_rate is None:
            raise RefusedInputError("no learning rate given; expected some, as in 0.01,0.1")
        return self


@dataclass(frozen=True, slots=True)
class Tuned:
    """Scales trained on the task."""

    scales: Scales
    """The best point on the validation part."""
    plan: TuningPlan
    """With the learning rate that was used."""
    steps: tuple[TunedStep, ...]
    """Of the training; trials left out."""
    best_step: int
    """Step of the scales."""
    trials: tuple[tuple[float, float], ...] = ()
    """Learning rates, and the objective that each reached in its trial."""
    tokens: int = 0
    """Tokens read in all, a gradient's counted four times."""

    def note(self) -> str:
        """Say how the scales came to be."""
        look = self.steps[self.best_step].look
        assert look is not None
        shares = ", ".join(f"{share:.0%} at {length}" for length, _, share in look.by_length)
        tried = f", out of {', '.join(f'{rate:g}' for rate, _ in self.trials)}" if self.trials else ""
        return (
            f"step {self.best_step} of {len(self.steps) - 1} at learning rate {self.plan.learning_rate:g}{tried}; "
            f"validation keys found: {shares}"
        )


def tune(
    model: Model,
    texts: PasskeyTexts,
    plan: TuningPlan,
    *,
    start: Scales | None = None,
    folder: Path | None = None,
    watch: Watch = lambda _: None,
    tick: Tick = lambda _: None,
) -> Tuned:
    """Train scales on the task.

    Args:
        model: a loaded model; its weights stay as they are.
        texts: what training and choice read.
        plan: how.
        start: scales to start from. Default: ones.
        folder: keeps every step, so that a stopped training goes on to the same bytes.
        watch: called with each step once it is kept.
        tick: called with tokens as they pass through the model.

    Returns:
        The scales.

    Raises:
        RefusedInputError: a plan that makes no training.
    """
    plan.check()
    spent, trials = 0, []
    if plan.learning_rate is None:
        short = max(1, round(TRIAL_SHARE * plan.steps))
        for rate in plan.rates if len(plan.rates) > 1 else ():
            trial = replace(plan, learning_rate=rate, steps=short, look_every=short)
            found, _ = _descend(model, texts, trial, start, _file(folder, f"trial-{rate:g}"), watch, tick)
            trials.append((rate, found.objective()))
            spent += found.steps[-1].tokens
        plan = replace(plan, learning_rate=min(trials, key=lambda t: t[1])[0] if trials else plan.rates[0])
    history, scales_of = _descend(model, texts, plan, start, _file(folder, "tuning"), watch, tick)
    return Tuned(
        scales_of(history.best["u"]).check(model.config),
        plan,
        tuple(history.steps),
        history.best_step,
        tuple(trials),
        spent + history.steps[-1].tokens,
    )


def planned_tokens(plan: TuningPlan) -> int:
    """Estimate how many tokens a training reads, a gradient's counted four times, for a progress bar."""
    T, trials = plan.train_length, plan.learning_rate is None and len(plan.rates) > 1
    short = max(1, round(TRIAL_SHARE * plan.steps))
    total, runs = 0.0, [(plan.steps, plan.look_every), *([(short, short)] * len(plan.rates) if trials else [])]
    for steps, every in runs:
        lengths = Curriculum(T, plan.longest, steps, growing=plan.growing)
        total += sum(GRADIENT_PASSES * plan.batch * (lengths.mean(k) + 2 * T) for k in range(steps))
        total += (1 + -(-steps // every)) * plan.looks * (sum(looked_lengths(T, plan.longest)) + 2 * T)
    return round(total)


def _file(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / f"{name}.safetensors"


def outputs(plan: TuningPlan) -> Sequence[str]:
    """Return the names of the files that a training leaves in its folder."""
    trials = [f"trial-{rate:g}" for rate in plan.rates] if plan.learning_rate is None and len(plan.rates) > 1 else []
    return [f"{name}.safetensors" for name in (*trials, "tuning")]


def _descend(
    model: Model,
    texts: PasskeyTexts,
    plan: TuningPlan,
    start: Scales | None,
    path: Path | None,
    watch: Watch,
    tick: Tick,
) -> tuple[TunedHistory, Callable[[Floats], Scales]]:
    """Take the steps that the file lacks."""
    descent = make_plan(
        train_length=plan.train_length, target_length=plan.longest, kind=plan.kind, granularity="head", start="ones",
        method="backprop", seed=plan.seed, steps=plan.steps, batch=plan.batch, learning_rate=plan.learning_rate,
    )  # fmt: skip
    begun = start_at(start or "ones", model, (), descent)
    lengths = Curriculum(plan.train_length, plan.longest, plan.steps, growing=plan.growing)
    reads = StepsOnPasskey(texts, lengths, plan.batch, plan.seed, plan.looks)
    problem = PasskeyProblem(model, reads, begun.parameters, tick)
    adam, history, u = Adam(descent, begun.u.size), TunedHistory.open(path), begun.u
    if history.steps:
        u, problem.tokens = history.point["u"], history.steps[-1].tokens
        adam.memory = {name: array for name, array in history.point.items() if name != "u"}
    else:
        look = problem.look(u)
        history.add(TunedStep(0, problem.tokens, None, lengths.most(0), look), lambda: {"u": u} | adam.memory, "u")
    for step in history.steps:
        watch(step)
    for k in range(history.done, plan.steps):
        moved = adam.step(k, u, problem)
        u = moved.u
        seen = (k + 1) % plan.look_every == 0 or k + 1 == plan.steps
        found = problem.look(u) if seen else None
        step = TunedStep(k + 1, problem.tokens, moved.bits, lengths.most(k), found)
        history.add(step, partial(dict, adam.memory, u=u), "u")
        watch(step)
    return history, lambda point: begun.parameters.scales(np.asarray(point, np.float64))
