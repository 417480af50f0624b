"""Pass keys beside perplexity: which share of them each method lets a model find, at a few lengths.

A method can buy fewer bits with memory: it then finds no key. The unscaled model is asked first, at the training
length; where it finds fewer than half of the keys there, it does not do this task and no method is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mambascope.spectra.errors import NonFiniteStateError, RefusedInputError
from mambascope.spectra.model import Model

from .methods import Fitted, setup_of
from .passkey.answers import Decode, solver
from .passkey.binomial import exact_interval
from .passkey.grid import PasskeyPlan
from .passkey.task import PasskeyTask
from .study import Tick

ENOUGH = 0.5
"""Share of keys inside T from which on a model counts as doing the task. Ours: guessing finds 1 in 100,000."""


@dataclass(frozen=True)
class PasskeyAsk:
    """Which keys to ask for."""

    task: PasskeyTask
    """Makes prompts, with the model's encoder."""
    decode: Decode
    """The model's decoder."""
    plan: PasskeyPlan
    """Lengths, depths and keys of a cell."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens, each."""
        return self.plan.lengths

    @property
    def examples(self) -> int:
        """Keys at a length, over all depths."""
        return self.plan.examples * len(self.plan.depths)

    def problem(self, length: int) -> str | None:
        """Say why a length cannot be asked at; None where it can."""
        try:
            self.plan.context_tokens(self.task, length)
        except RefusedInputError as error:
            return str(error)
        return None

    def at(self, length: int) -> PasskeyAsk:
        """Return the same keys at one length."""
        plan = PasskeyPlan((length,), self.plan.depths, self.plan.examples, self.plan.measure, self.plan.criterion)
        return PasskeyAsk(self.task, self.decode, plan)

    def cell(self, length: int) -> str:
        """Name what is asked at a length: the same name, the same prompts."""
        depths = "-".join(f"{d:g}" for d in self.plan.depths)
        return f"{self.task.seed}-{length}-{self.plan.examples}x{depths}"

    def planned_tokens(self) -> int:
        """Return the tokens of all prompts of one method."""
        return sum(length * self.examples for length in self.lengths)


@dataclass(frozen=True, slots=True)
class KeyShare:
    """Keys that a method finds at one length, over all depths."""

    method: str
    """Name of the method."""
    length: int
    """Tokens of prompt and answer."""
    solved: int
    """Keys found; none where a state broke down numerically."""
    examples: int
    """Keys hidden, as many at each depth."""
    low: float
    """Lower end of the exact 95 % interval of the share."""
    high: float
    """Upper end."""

    @property
    def share(self) -> float:
        """Share of keys found."""
        return self.solved / self.examples

    @classmethod
    def of(cls, method: str, length: int, solved: int, examples: int) -> KeyShare:
        """Make it of two counts."""
        return cls(method, length, solved, examples, *exact_interval(solved, examples))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, ``share`` among them."""
        return asdict(self) | {"share": self.share}


@dataclass(frozen=True, slots=True)
class Keys:
    """What came of asking for keys."""

    shares: tuple[KeyShare, ...] = ()
    """One a method and length; none for the fresh-window control, which is a way of reading and cannot answer."""
    note: str | None = None
    """Why nothing, or not all, was asked; None where all was."""

    def at(self, method: str, length: int) -> KeyShare | None:
        """Return the share of a method at a length, where it was asked."""
        return next((s for s in self.shares if (s.method, s.length) == (method, length)), None)

    def lengths(self) -> list[int]:
        """Return the lengths asked at."""
        return sorted({share.length for share in self.shares})

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"rows": [share.to_dict() for share in self.shares], "note": self.note}


def does_the_task(ask: PasskeyAsk, model: Model, train_length: int, cell: Callable[..., Any]) -> str | None:
    """Ask the unscaled model at the training length.

    Args:
        ask: which keys.
        model: a loaded model.
        train_length: T.
        cell: keeps the answer.

    Returns:
        Why nothing more is asked; None where the model does the task.
    """
    if told := ask.problem(train_length):
        return f"none asked for: {told}"
    plain = Fitted("none", None, "nothing to fit")
    inside = ask.at(train_length)
    solved = sum(cell(f"passkey/none/{ask.cell(train_length)}", lambda: ask_one(plain, model, inside, lambda _: None)))
    if solved >= ENOUGH * ask.examples:
        return None
    return (
        f"none asked for: {model.name} does not do this task; unscaled, it finds {solved} of {ask.examples} keys "
        f"at the training length of {train_length} tokens"
    )


def ask_one(fitted: Fitted, model: Model, ask: PasskeyAsk, tick: Tick) -> list[int]:
    """Count the keys that a method finds at the one length of ``ask``: what a worker does.

    Args:
        fitted: the method.
        model: the model it was fitted to.
        ask: which keys.
        tick: called with tokens.

    Returns:
        Keys found, by depth.
    """
    (length,) = ask.lengths
    context = ask.plan.context_tokens(ask.task, length)
    found = []
    for depth in ask.plan.depths:
        examples = ask.task.examples(context, depth, ask.plan.examples)
        setup = setup_of(fitted, model, examples.prompt_tokens)
        solve = solver(
            setup.model,
            ask.decode,
            criterion=ask.plan.criterion,
            intervention=setup.intervention,
            state=setup.state,
        )
        try:
            found.append(int(np.sum(solve(examples))))
        except NonFiniteStateError:
            found.append(0)
        tick(length * len(examples))
    return found
