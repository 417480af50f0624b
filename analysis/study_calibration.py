"""A study's proposal refined on text: back-propagation from the spectrum's scales, and what that is worth on test text.

Losses and gradients come from calibration text, the point to keep is chosen on validation text, the gain over the start
is a difference by document on test text. Every default is that of ``mambascope calibrate`` (``calibration/plan.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mambascope.spectra.dynamics import Observer
from mambascope.spectra.model import Model

from .arrays import kept_arrays
from .calibration import Calibrated, Step, calibrate
from .calibration.plan import TIMES, Plan, make_plan
from .evaluate.perplexity import PerplexityRow, rows_by_length, stack_documents, token_bits
from .memory import MemoryChange, memory_change
from .run_parts import PartOfRun
from .runs import RunFolder
from .study import Study, reported_lengths
from .texts import Texts, Tick, token_counter

METHOD = "backprop"
"""Ours: a gradient moves every factor at once."""


@dataclass(frozen=True, slots=True)
class Refined:
    """Calibrated scales and what they are worth."""

    found: Calibrated
    """The scales with their history."""
    gains: tuple[PerplexityRow, ...]
    """By length on test text; ``harm`` is tail bits less those of the start, by document: below 0 is a gain."""
    memory: MemoryChange
    """What the scales do to memory, over a text of the target length of the study."""

    def gain(self, length: int) -> PerplexityRow:
        """Return the row of a length."""
        return next(row for row in self.gains if row.length == length)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a length: what was gained over the start."""
        return [
            {
                "length": row.length,
                "documents": row.documents,
                "tail_bits_less_start": row.harm,
                "ci_low": row.harm_ci_low,
                "ci_high": row.harm_ci_high,
            }
            for row in self.gains
        ]


def refining_plan(train_length: int, target_length: int, steps: int | None = None) -> Plan:
    """Return what is calibrated for a study.

    Args:
        train_length: T.
        target_length: L of the study, at least 2 T; windows are 16 T long, or as long as L where that is less.
        steps: number of steps. Default: the method's.

    Returns:
        The plan.
    """
    return make_plan(
        train_length=train_length, target_length=min(TIMES * train_length, target_length), kind="a",
        granularity="head", start="scales", method=METHOD, seed=0, steps=steps,
    )  # fmt: skip


def refining_tokens(plan: Plan, test_tokens: int) -> int:
    """Estimate the work in tokens of forward passes: the calibration, and test text once."""
    return round(plan.expected_passes() * plan.target_length) + test_tokens


def refine(
    study: Study,
    model: Model,
    texts: Texts,
    run: RunFolder,
    plan: Plan,
    *,
    key: str | None = None,
    tick: Tick = lambda _: None,
) -> Study:
    """Refine the scales of a study and evaluate them on its test text.

    Args:
        study: a finished study.
        model: its model.
        texts: its texts.
        run: keeps every step.
        plan: from ``refining_plan``.
        key: what the run files the model's cells under. Default: the model's name.
        tick: called with numbers of tokens as they pass.

    Returns:
        The study with the method ``calibrated``; as it was where no scales were proposed.
    """
    if not study.proposal.acts:
        return study
    prefix = key or model.name
    passed = 0.0

    def watch(step: Step) -> None:
        nonlocal passed
        tick(round((step.passes - passed) * plan.target_length))
        passed = step.passes

    found = calibrate(
        model,
        texts,
        train_length=plan.train_length,
        target_length=plan.target_length,
        kind=plan.kind,
        granularity=plan.granularity,
        start=study.proposal.scales,
        method=plan.method,
        steps=plan.steps,
        seed=plan.seed,
        run=PartOfRun(run, f"{prefix}/calibration"),
        watch=watch,
    )
    test = stack_documents([d.ids for d in texts.test], study.target_length)
    watched: Sequence[Observer] = [token_counter(tick)]
    kept = kept_arrays(
        run,
        f"{prefix}/bits-calibrated",
        lambda: {"bits": token_bits(model, test, found.scales, observers=watched)},
    )["bits"]
    control = study.bits["fresh-window"]
    bits = {name: of for name, of in study.bits.items() if name != "fresh-window"}
    bits |= {"calibrated": kept, "fresh-window": control}
    lengths = reported_lengths(study.train_length, study.target_length)
    rows = (*study.rows, *rows_by_length("calibrated", kept, lengths, control))
    refined = Refined(
        found=found,
        gains=tuple(rows_by_length("calibrated", kept, lengths, study.bits["spectrum"])),
        memory=memory_change(study.proposal.diagnosis, found.scales, length=study.target_length),
    )
    return replace(study, bits=bits, rows=rows, refined=refined)
