"""Refine scales on calibration text, choose among the points on selection text, and keep every step of it.

A step's windows, directions and random starts are keyed by (seed, step), and what a step leaves is on the disk before
the next begins: a run that was killed goes on to the same bytes (with the same number of threads).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from os import PathLike
from pathlib import Path

import numpy as np

from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales

from ..atomic import write_json
from ..runs import RunFolder
from ..study import Texts
from .adam import Adam
from .descent import Descent
from .plan import Plan, make_plan
from .problem import TextProblem
from .record import History, Step, fingerprint
from .result import Calibrated
from .spsa import PaperSpsa, ReleasedSpsa, Spsa
from .starts import begin, name_of
from .windows import long_enough

Watch = Callable[[Step], None]


def _method(plan: Plan, size: int, arch: str) -> Descent:
    if plan.method == "spsa-paper":
        return PaperSpsa(plan)
    if plan.method == "spsa-released":
        return ReleasedSpsa(plan, most=1.0 if (arch, plan.kind) == ("mamba", "a_power") else np.inf)
    return Spsa(plan, size) if plan.method == "spsa" else Adam(plan, size)


def _descend(problem: TextProblem, method: Descent, history: History, watch: Watch) -> None:
    """Take the steps that the history lacks."""
    plan, u = problem.plan, history.u
    problem.passes = history.steps[-1].passes
    method.memory = history.memory
    for k in range(len(history.steps) - 1, plan.steps):
        problem.forget()
        moved = method.step(k, u, problem)
        u = moved.u
        look = (k + 1) % plan.select_every == 0 or k + 1 == plan.steps
        selection = problem.look(u) if look else None
        step = Step(k + 1, problem.passes, moved.bits, selection)
        history.add(step, u, method.memory)
        watch(step)


def calibrate(
    model: Model,
    texts: Texts,
    *,
    train_length: int,
    target_length: int,
    kind: str = "a",
    granularity: str = "head",
    start: str | Path | Scales = "spectrum",
    method: str = "spsa",
    steps: int | None = None,
    seed: int = 0,
    run: RunFolder | str | PathLike[str] | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    perturbation: float | None = None,
    select_every: int = 5,
    selection_windows: int = 8,
    watch: Watch = lambda _: None,
) -> Calibrated:
    """Calibrate scales for a target length.

    Args:
        model: a loaded model.
        texts: calibration documents give the losses, validation documents choose the point; test documents are only
            compared with them.
        train_length: T.
        target_length: L, the length of every window.
        kind: ``a``, ``a_power``, ``dt`` or ``joint`` (``a`` and ``dt``).
        granularity: ``model``, ``layer``, ``head`` (or channel) or ``state``.
        start: see ``starts.start_at``.
        method: ``spsa`` or ``backprop`` (ours), ``spsa-paper`` or ``spsa-released``.
        steps: number of steps. Default: the method's, see ``plan``; so are those of the next four.
        seed: root seed.
        run: run folder, or a path to one; keeps every step, and gets ``scales.json``.
        batch: windows of a step.
        learning_rate: size of a step.
        perturbation: c of SPSA.
        select_every: steps between two looks at the selection windows.
        selection_windows: windows to select on.
        watch: called with each step once it is kept.

    Returns:
        The scales with their history.

    Raises:
        RefusedInputError: an unknown name, a number out of range, or a document that stands in two sets.
        TextError: no document reaches the target length.
        ScaleError: scales that do not fit the model.
    """
    plan = make_plan(
        train_length=train_length, target_length=target_length, kind=kind, granularity=granularity,
        start=name_of(start), method=method, seed=seed, steps=steps,
        batch=batch, learning_rate=learning_rate, perturbation=perturbation, select_every=select_every,
        selection_windows=selection_windows,
    )  # fmt: skip
    texts.check()
    for role, part in (("calibration", texts.calibration), ("selection", texts.validation)):
        long_enough([document.ids for document in part], target_length, role)  # before a start is measured
    hashes = {role: [d.sha256 for d in getattr(texts, role)] for role in ("calibration", "validation")}
    with ExitStack() as stack:
        if run is not None and not isinstance(run, RunFolder):
            command = {"verb": "calibrate", "plan": plan.to_dict(), "texts": hashes, "model": fingerprint(model)}
            if plan.start in {"scales", "file"}:
                command["from"] = (start if isinstance(start, Scales) else Scales.load(start)).to_dict()
            run = stack.enter_context(RunFolder.open(run, command=command, seed=seed, device=str(model.device)))
        begun = begin(start, model, texts.calibration, plan, run)
        problem = TextProblem(model, plan, texts, begun.parameters)
        descent = _method(plan, begun.u.size, model.config.arch)
        history = History(run)
        if not history.steps:
            problem.passes = begun.passes
            look = problem.look(begun.u)
            history.add(Step(0, problem.passes, None, look), begun.u, descent.memory)
        for step in history.steps:
            watch(step)
        _descend(problem, descent, history, watch)
        best = plan.keeps_best
        found = Calibrated(
            scales=begun.parameters.scales(history.best_u if best else history.u).check(model.config),
            start=begun.parameters.scales(begun.u),
            plan=plan,
            history=tuple(history.steps),
            step=history.best if best else plan.steps,
            texts_sha256=hashes,
        )
        if run is not None:
            write_json(run.output("scales.json"), found.stored())
        return found
