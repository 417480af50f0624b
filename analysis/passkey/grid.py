"""Length x depth: how many keys a model finds in each cell, with exact intervals; stopped and resumed cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from mambascope.spectra.dynamics import Intervention
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.model import Model

from ..runs import RunFolder
from .answers import BATCH, Criterion, Decode, generate_answers, is_solved
from .binomial import exact_interval
from .task import DEPTHS, Examples, PasskeyTask

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

    @property
    def share(self) -> float:
        """Share of keys found."""
        return self.solved / self.examples

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


@dataclass(frozen=True)
class PasskeyGrid:
    """All cells of one method."""

    cells: tuple[PasskeyCell, ...]
    """By length, then depth."""

    def solved_lengths(self) -> list[int]:
        """Return the lengths that are solved at every depth."""
        lengths = sorted({cell.length for cell in self.cells})
        return [n for n in lengths if all(cell.share >= SOLVED for cell in self.cells if cell.length == n)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"rows": [cell.to_dict() for cell in self.cells], "solved_lengths": self.solved_lengths()}


def passkey_grid(
    model: Model,
    task: PasskeyTask,
    plan: PasskeyPlan,
    decode: Decode,
    *,
    method: str = "none",
    intervention: Intervention | None = None,
    run: RunFolder | None = None,
    batch: int = BATCH,
    tick: Callable[[int], None] = lambda _: None,
) -> PasskeyGrid:
    """Count the keys that a model finds, in every cell.

    Args:
        model: a loaded model.
        task: with the model's encoder.
        plan: which cells.
        decode: the model's decoder.
        method: names the intervention, in the result and in the run.
        intervention: rewrites the dynamics.
        run: keeps each cell once it is done.
        batch: examples that run side by side.
        tick: called with the tokens of each finished cell.

    Returns:
        The cells.
    """
    contexts = {length: plan.context_tokens(task, length) for length in plan.lengths}  # refused before hours of work
    cells = []
    for length, context in contexts.items():
        for depth in plan.depths:

            def compute(length: int = length, context: int = context, depth: float = depth) -> dict[str, Any]:
                examples = task.examples(context, depth, plan.examples)
                answers = generate_answers(model, examples, decode, intervention=intervention, batch=batch)
                return asdict(_counted(method, length, examples, answers, plan.criterion))

            key = f"passkey/{method}/{plan.measure}/{length}/{depth:g}"
            found = PasskeyCell(**(run.cell(key, compute) if run else compute()))
            tick(found.prompt_tokens * found.examples)
            cells.append(found)
    return PasskeyGrid(tuple(cells))


def _counted(method: str, length: int, examples: Examples, answers: Sequence[str], criterion: Criterion) -> PasskeyCell:
    right = [is_solved(answer, item.key, criterion) for answer, item in zip(answers, examples.items, strict=True)]
    low, high = exact_interval(sum(right), len(right))
    return PasskeyCell(
        method=method,
        length=length,
        depth=examples.depth,
        context_tokens=examples.context_tokens,
        prompt_tokens=examples.prompt_tokens,
        noise_before=float(np.mean([item.noise_before for item in examples.items])),
        solved=sum(right),
        examples=len(right),
        ci_low=low,
        ci_high=high,
    )
