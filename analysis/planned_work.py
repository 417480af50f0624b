"""What each kind of job runs through a model: tokens, rows side by side, whole prompts, gradients, what it keeps.

Tokens are those of the jobs' own plans; where a plan counts passes without its observers, the observers' cost is added
as tokens, by how many forward passes they took when measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mambascope.spectra.config import Config
from mambascope.spectra.eigenvalues import ROWS_AT_ONCE

from .calibration.backprop import BLOCK_TOKENS, STATES_KEPT
from .calibration.objective import SIDE_BY_SIDE
from .calibration.plan import BATCH, Plan
from .compare_plan import ComparePlan, planned_tokens
from .diagnosis import WINDOWS
from .evaluate.bits import WINDOWS_AT_ONCE
from .longbench.evaluation import LongBenchJob
from .methods import Method, find_method
from .methods.calibrated import Calibration
from .methods.decimamba import DeciMamba
from .methods.finetune import BATCH as ROWS_TRAINED
from .methods.finetune import FullFinetuning
from .methods.longmamba import LongMamba
from .methods.on_passkey import ON_PASSKEY
from .methods.plain import FRESH
from .resources import Work
from .study_forecast import COPIES
from .write_statistics import ROWS as WRITE_ROWS
from .write_statistics import WINDOWS_PER_DOCUMENT

SPECTRUM_PASSES = {"mamba": 1.6, "mamba2": 1.1}
"""What a pass that measures decays costs in passes. Ours, measured."""
WRITE_PASSES = {"mamba": 1.6, "mamba2": 1.7}
"""What a pass that measures writes costs in passes. Ours, measured."""
STEP_TOKENS = 70.0
"""Tokens of a prompt that one single step takes as long as. Ours: 66 to 97 for the bundled models on one CPU core."""
ROW_SHARE = {"mamba": 0.02, "mamba2": 0.08}
"""What each further row adds to a step, of what the first takes. Ours: 16 rows wrote 12 and 7 times as many tokens a
second as one on a CPU core."""
_ANSWER_STATES = 4
"""States of each answer that are alive at once, while rows are joined and cut. Ours, counted."""
_FEWER = "give fewer or shorter texts"


def norms_work(config: Config, rows: int, lengths: Sequence[int]) -> Work:
    """Return the work of measuring state norms.

    Args:
        config: shape of the model.
        rows: documents, side by side.
        lengths: at which norms are kept.

    Returns:
        The work.
    """
    kept = 4 * len(lengths) * rows * config.n_layer * (config.d_inner + config.conv_dim)
    longest = max(lengths)
    return Work(rows * longest, rows, longest_tokens=longest, result_bytes=kept, remedies=(_FEWER,))


def spectrum_work(config: Config, windows: int, length: int) -> Work:
    """Return the work of measuring the effective spectrum on windows of the training length."""
    modes = config.d_inner * config.d_state if config.arch == "mamba" else config.nheads
    kept = 8 * 4 * config.n_layer * modes
    tokens = SPECTRUM_PASSES[config.arch] * windows * length
    return Work(tokens, min(windows, ROWS_AT_ONCE), longest_tokens=length, result_bytes=kept)


def diagnosis_work(config: Config, rows: int, train_length: int, reach: int, *, writes: bool) -> Work:
    """Return the work of a diagnosis.

    Args:
        config: shape of the model.
        rows: calibration documents.
        train_length: T.
        reach: how far states are followed, in tokens.
        writes: also measure what is written into the states.

    Returns:
        The work.
    """
    lengths = [train_length * 2**k for k in range(max(1, math.ceil(math.log2(reach / train_length))))] + [reach]
    found = spectrum_work(config, WINDOWS, train_length).and_then(norms_work(config, rows, lengths))
    if not writes:
        return found
    each = min(WINDOWS_PER_DOCUMENT, max(2, reach // train_length))
    tokens = WRITE_PASSES[config.arch] * rows * each * train_length
    # the sum over writes, and each document's over final states, are whole states in float64
    kept = 8 * (rows + 2) * config.n_layer * config.d_inner * config.d_state
    fewer = ("give fewer documents",)
    return found.and_then(
        Work(tokens, min(WRITE_ROWS, each), longest_tokens=train_length, result_bytes=kept, remedies=fewer)
    )


def methods_work(
    methods: Iterable[Method | str],
    tokens: float,
    rows: int,
    lengths: Sequence[int],
    train_length: int,
    fit_length: int,
) -> Work:
    """Return the work of fitting methods and scoring texts with them.

    Args:
        methods: or their names; ``scales`` is no method of the registry and asks for nothing of its own.
        tokens: of all passes.
        rows: passages side by side.
        lengths: that are scored.
        train_length: T.
        fit_length: tokens of a window of a calibration.

    Returns:
        The work.
    """
    longest = max(lengths)
    fewer = ("fewer rows (--batch)",) if rows > 1 else ()
    found = Work(tokens, rows, longest_tokens=longest, logits=True, remedies=fewer)
    for each in methods:
        method = None if each == "scales" else find_method(each) if isinstance(each, str) else each
        if method is not None and (own := _own_work(method, longest, train_length, fit_length)):
            found = found.and_then(own)
    return found


def _own_work(method: Method, longest: int, train_length: int, fit_length: int) -> Work | None:
    """Return what a method does beside passes over the texts; its tokens are counted with the others."""
    if isinstance(method, DeciMamba) or (isinstance(method, LongMamba) and method.mask != "threshold"):
        told = f"shorter --lengths, or leave out {method.name}, which must see a prompt whole"
        return Work(0, longest_tokens=longest, whole_tokens=longest, remedies=(told,))
    if isinstance(method, FullFinetuning):
        return _training(ROWS_TRAINED, fit_length, method.name)
    if isinstance(method, Calibration):
        gradient = gradient_work(BATCH["backprop"], fit_length)
        return gradient if method.method == "backprop" else Work(0, SIDE_BY_SIDE, longest_tokens=fit_length)
    if method in ON_PASSKEY:
        trained = _training(ROWS_TRAINED, longest, method.name)
        return trained if method.name.endswith(":full") else gradient_work(ROWS_TRAINED, longest)
    if method.name == FRESH:
        windows = min(WINDOWS_AT_ONCE, max(1, 2 * longest // train_length))
        return Work(0, windows, longest_tokens=train_length)
    return None


def gradient_work(rows: int, length: int) -> Work:
    """Return what gradients of factors hold: a block's graph, and states at the ends of blocks."""
    blocks = -(-length // BLOCK_TOKENS)
    every = 1 if blocks <= STATES_KEPT else math.isqrt(blocks - 1) + 1
    kept = -(-blocks // every) + every + 2
    graph = rows * min(length, BLOCK_TOKENS)
    fewer = ("fewer windows of a step (--batch)",)
    return Work(0, rows, states=rows * kept, longest_tokens=length, graph_tokens=graph, remedies=fewer)


def _training(rows: int, length: int, name: str) -> Work:
    found = gradient_work(rows, length)
    states = rows * (2 + -(-length // BLOCK_TOKENS))  # kept at the end of every block
    return replace(found, states=states, trains=True, remedies=(f"leave out {name}",))


def calibration_work(plan: Plan) -> Work:
    """Return the work of a calibration."""
    tokens = plan.expected_passes() * plan.target_length
    found = Work(tokens, max(SIDE_BY_SIDE, plan.batch), logits=True)
    return found.and_then(gradient_work(plan.batch, plan.target_length)) if plan.method == "backprop" else found


def forecast_work(tokens: float, windows: int) -> Work:
    """Return the work of a forecast, which holds the states of all windows several times over."""
    return Work(tokens, 16, states=COPIES * windows, logits=True, remedies=("fewer --windows",))


def starts_work(passes: float, rows: int, length: int) -> Work:
    """Return the work of comparing starts of a calibration."""
    return Work(passes * length, max(SIDE_BY_SIDE, rows), logits=True).and_then(gradient_work(rows, length))


def comparison_work(plan: ComparePlan) -> Work:
    """Return the work of one model's part of a comparison, as if it did the passkey task where that is asked for."""
    tokens = planned_tokens(plan, passkey=plan.passkey is not None)
    return methods_work(plan.methods, tokens, plan.batch, plan.lengths, plan.train_length, plan.fit_length)


def longbench_work(methods: Sequence[Method], job: LongBenchJob) -> Work:
    """Return the work of asking every method every question, some answers side by side.

    Args:
        methods: which.
        job: what they are asked; its model needs no weights.

    Returns:
        The work, as if every answer were of the task's limit.
    """
    longest = max(len(prompt.ids) for asked in job.asked for prompt in asked.prompts)
    model = job.fits.model

    def step(method: Method) -> float:
        one_by_one = model.dtype.itemsize < 4 or isinstance(method, DeciMamba | LongMamba)  # as in ``side_by_side``
        rows = 1 if one_by_one else job.rows
        return STEP_TOKENS * (1 + (rows - 1) * ROW_SHARE[model.config.arch]) / rows

    asked = sum(job.prompt_tokens() + step(method) * job.answer_tokens() for method in methods)
    tokens = job.fit_tokens(methods) + asked
    found = methods_work(methods, tokens, 1, [longest], job.fits.train_length, job.fits.fit_length)
    return replace(found, states=max(found.states, _ANSWER_STATES * job.rows))
