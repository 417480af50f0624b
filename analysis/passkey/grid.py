"""Length x depth: how many keys a model finds in each cell, with exact intervals; stopped and resumed cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from mambascope.spectra.errors import NonFiniteStateError, RefusedInputError

from ..runs import RunFolder
from .answers import Criterion, Solve
from .binomial import exact_interval
from .task import DEPTHS, PasskeyTask

SOLVED = 0.95
"""Share of keys from which on a cell counts as solved. Ours; the paper has one example a cell."""


@dataclass(frozen=True, slots=True)
class PasskeyCell:
    """One length and depth."""

    method: str
    """What was done to the model."""
    length: int
    """The length that was asked for, measured as the plan says."""
    depth: float
    """Share of the noise before the needle that was asked for."""
    context_tokens: int
    """Tokens of noise and needle."""
    prompt_tokens: int
    """Tokens of the whole prompt."""
    noise_before: float
    """Mean share of the noise before the needle, as it came out."""
    solved: int
    """Keys found."""
    examples: int
    """Keys hidden."""
    ci_low: float
    """Lower end of the exact 95 % interval of the share solved."""
    ci_high: float
    """Its upper end."""
    broken: bool = False
    """True where a state overflowed, so that no key was found."""

    @property
    def share(self) -> float:
        """Share of keys found."""
        return self.solved / self.examples

    @property
    def is_solved(self) -> bool:
        """True if the share is at least ``SOLVED``."""
        return self.share >= SOLVED

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, ``share`` among them."""
        return asdict(self) | {"share": self.share}


@dataclass(frozen=True, slots=True)
class PasskeyPlan:
    """Which cells to run."""

    lengths: tuple[int, ...]
    """Tokens, each."""
    depths: tuple[float, ...] = DEPTHS
    """Shares of the noise before the needle."""
    examples: int = 100
    """Keys a cell. Default: ours, so that 95 of them have an interval from 0.887 to 0.984."""
    measure: Literal["whole", "context"] = "whole"
    """``whole``: a length is prompt and answer, so that the training length is just filled. ``context``: it is noise
    and needle, as in the papers."""
    criterion: Criterion = "first"
    """When an answer is right."""
    far_examples: int | None = None
    """Keys of a cell that is longer than ``far_from``; None for as many as elsewhere."""
    far_from: int = 0
    """Tokens beyond which a cell is far."""

    def examples_at(self, length: int) -> int:
        """Return the keys of a cell of a length."""
        return self.examples if self.far_examples is None or length <= self.far_from else self.far_examples

    def context_tokens(self, task: PasskeyTask, length: int) -> int:
        """Return the context of a length.

        Args:
            task: whose prompt.
            length: as in ``lengths``.

        Returns:
            Tokens of noise and needle.

        Raises:
            RefusedInputError: the needle does not fit into it.
        """
        context = length if self.measure == "context" else task.context_for(length)
        if context < task.smallest_context():
            least = length - context + task.smallest_context()
            raise RefusedInputError(
                f"a length of {length} tokens cannot hold the passkey prompt; give at least {least}"
            )
        return context

    def planned_tokens(self, task: PasskeyTask) -> int:
        """Return the tokens of all prompts of one method."""
        per_length = (task.prompt_tokens(self.context_tokens(task, n)) * self.examples_at(n) for n in self.lengths)
        return len(self.depths) * sum(per_length)


@dataclass(frozen=True)
class PasskeyGrid:
    """All cells of one method."""

    cells: tuple[PasskeyCell, ...]
    """By length, then depth."""

    def lengths(self) -> list[int]:
        """Return the lengths, ascending."""
        return sorted({cell.length for cell in self.cells})

    def at(self, length: int) -> list[PasskeyCell]:
        """Return the cells of a length."""
        return [cell for cell in self.cells if cell.length == length]

    def solved_lengths(self) -> list[int]:
        """Return the lengths that are solved at every depth."""
        return [n for n in self.lengths() if all(cell.is_solved for cell in self.at(n))]

    def solved_up_to(self) -> int | None:
        """Return the longest length that is solved and with it all shorter ones; None where the shortest is not."""
        longest, solved = None, set(self.solved_lengths())
        for n in self.lengths():
            if n not in solved:
                break
            longest = n
        return longest

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"rows": [cell.to_dict() for cell in self.cells], "solved_lengths": self.solved_lengths()}


@dataclass(frozen=True, slots=True)
class Way:
    """How a model answers prompts of one length."""

    name: str
    """The same for what does the same: its cells are run once."""
    solve: Solve
    """Says which keys it finds."""


def passkey_grid(
    task: PasskeyTask,
    plan: PasskeyPlan,
    way: Callable[[int], Way],
    *,
    method: str = "none",
    run: RunFolder | None = None,
    tick: Callable[[int], None] = lambda _: None,
) -> PasskeyGrid:
    """Count the keys that a model finds, in every cell.

    Args:
        task: with the model's encoder.
        plan: which cells.
        way: how the model answers, by the tokens of a prompt.
        method: what to call it.
        run: keeps each cell once it is done.
        tick: called with the tokens of each finished cell.

    Returns:
        The cells.
    """
    contexts = {length: plan.context_tokens(task, length) for length in plan.lengths}  # refused before hours of work
    cells = []
    for length, context in contexts.items():
        here, count = way(task.prompt_tokens(context)), plan.examples_at(length)
        for depth in plan.depths:

            def compute(
                length: int = length, context: int = context, depth: float = depth, here: Way = here, count: int = count
            ) -> dict[str, Any]:
                return _counted(task, here.solve, length, context, depth, count)

            key = f"passkey/{here.name}/{plan.measure}/{length}/{depth:g}/{count}"
            found = PasskeyCell(method, **(run.cell(key, compute) if run else compute()))
            tick(found.prompt_tokens * found.examples)
            cells.append(found)
    return PasskeyGrid(tuple(cells))


def _counted(
    task: PasskeyTask, solve: Solve, length: int, context: int, depth: float, count: int
) -> dict[str, int | float | bool]:
    examples, broken = task.examples(context, depth, count), False
    try:
        solved = int(solve(examples).sum())
    except NonFiniteStateError:
        solved, broken = 0, True
    low, high = exact_interval(solved, count)
    return {
        "length": length,
        "depth": depth,
        "context_tokens": context,
        "prompt_tokens": examples.prompt_tokens,
        "noise_before": float(np.mean([item.noise_before for item in examples.items])),
        "solved": solved,
        "examples": count,
        "ci_low": low,
        "ci_high": high,
        "broken": broken,
    }
