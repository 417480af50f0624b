"""Run the calibrations of a comparison, each in a folder of its own, and score starts and results on test text.

A calibration's folder lies below the run's; what comes back from it is a cell of the run. So a stopped comparison goes
on within a calibration, whichever worker had it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales, scaling

from ..calibration import Step, calibrate
from ..calibration.objective import first_scored, window_bits
from ..calibration.record import fingerprint
from ..calibration.windows import spread_windows
from ..engine import run_in_order
from ..evaluate.perplexity import fresh_window_bits
from ..proposal import propose_for
from ..runs import RunFolder
from ..study import Texts, token_counter
from .curves import StartRun
from .plan import CONSTANTS, StartsPlan, Task
from .result import StartsStudy
from .scores import Score, control_score, cut_documents, score

Tick = Callable[[int], None]


def study_starts(
    model: Model,
    texts: Texts,
    run: RunFolder,
    plan: StartsPlan,
    *,
    engine: str = "sequential",
    jobs: int = 1,
    tick: Tick = lambda _: None,
) -> StartsStudy:
    """Compare starts of a calibration.

    Args:
        model: a loaded model.
        texts: calibration documents give proposal and losses, validation documents choose points and the best constant,
            test documents give the numbers.
        run: keeps every calibration.
        plan: what to compare.
        engine: where calibrations run. Results depend on the number of torch's threads only, which is 1 in a worker.
        jobs: worker processes.
        tick: called with forward passes as they are done.

    Returns:
        The comparison.

    Raises:
        RefusedInputError: a document stands in two sets, or the proposal leaves the model alone.
        TextError: too little text.
    """
    texts.check()
    prepared = _Prepared(model, texts, run, plan, tick)
    largest, proposal_passes = prepared.proposal()
    constants = prepared.constants()
    controls = prepared.controls()
    tasks = plan.tasks(
        largest=largest, best_constant=min(constants, key=lambda s: constants[s]), proposal_passes=proposal_passes
    )
    missing = [task for task in tasks if ("cell", f"run/{task.key}") not in run.journal]
    alone = engine == "sequential" or (engine == "loky" and jobs == 1)
    watch = tick if alone else None
    pieces = [(model, texts, plan, task, str(run.folder), not run.resuming, watch) for task in missing]
    results: Iterator[dict[str, Any]] = run_in_order(run_task, pieces, engine=engine, jobs=jobs)
    for task, result in zip(missing, results, strict=True):
        run.cell(f"run/{task.key}", partial(dict, result))
        if watch is None:
            tick(round(result["passes"]))
    for task in tasks:
        if task not in missing:
            tick(round(run.cell(f"run/{task.key}", dict)["passes"]))
    cells = [(task, run.cell(f"run/{task.key}", dict)) for task in tasks]
    starts = {task.start_key: Score.of(cell["start"]) for task, cell in cells if task.score_start}
    searched = len(CONSTANTS) * prepared.windows
    runs = []
    for task, cell in cells:
        before = searched if task.label == "constant" else 0
        runs.append(
            StartRun(
                task=task,
                curve=tuple((passes + before, bits) for passes, bits in cell["curve"]),
                start_bits=cell["start_bits"],
                final_bits=cell["final_bits"],
                step=cell["step"],
                passes=cell["passes"] + before,
                start=starts[task.start_key],
                final=Score.of(cell["final"]),
            )
        )
    return StartsStudy(
        model=model.name,
        plan=plan,
        largest=largest,
        proposal_passes=proposal_passes,
        constants=constants,
        constant_passes=searched,
        runs=tuple(runs),
        selection_unscaled=controls["selection"]["none"],
        selection_control=controls["selection"]["fresh-window"],
        unscaled=Score.of(controls["none"]),
        control=Score.of(controls["fresh-window"]),
    )


def planned_passes(plan: StartsPlan) -> int:
    """Estimate the forward passes of all calibrations and of the search for a constant, for a progress bar."""
    tasks = plan.tasks(largest=2.0, best_constant=2.0, proposal_passes=0.0)
    return round(sum(t.plan.expected_passes() for t in tasks)) + (len(CONSTANTS) + 3) * plan.selection_windows


class _Prepared:
    """What all calibrations share; each part is a cell of the run."""

    def __init__(self, model: Model, texts: Texts, run: RunFolder, plan: StartsPlan, tick: Tick) -> None:
        self.model, self.texts, self.run, self.plan, self.tick = model, texts, run, plan, tick
        validation = [d.ids for d in texts.validation]
        self.chosen = spread_windows(validation, plan.target_length, plan.selection_windows, "selection")
        self.windows = len(self.chosen)

    def proposal(self) -> tuple[float, float]:
        """Return the largest factor proposed, and what the proposal cost in passes."""

        def measure() -> dict[str, float]:
            read: list[int] = []
            T, L = self.plan.train_length, self.plan.target_length
            found = propose_for(self.model, self.texts.calibration, T, L, observers=[token_counter(read.append)])
            if not found.acts:
                raise RefusedInputError(f"{self.model.name}: {found.reason}; there is no start to compare with others")
            largest = max(float(f.values.max()) for f in found.scales.factors)
            return {"largest": largest, "passes": sum(read) / L}

        cell = self.run.cell("proposal", measure)
        return cell["largest"], cell["passes"]

    def constants(self) -> dict[float, float]:
        """Return selection tail bits by constant."""

        def bits(s: float) -> float:
            return window_bits(self.model, self.chosen, scaling(self._kind, s), self.plan.train_length).tail

        found = {}
        for s in CONSTANTS:
            found[s] = float(self.run.cell(f"constant/{s:g}", partial(bits, s)))
            self.tick(self.windows)
        return found

    @property
    def _kind(self) -> Any:
        return "a" if self.plan.kind == "joint" else self.plan.kind

    def controls(self) -> dict[str, Any]:
        """Return the unscaled model and the fresh-window control, on selection windows and test documents."""

        def measure() -> dict[str, Any]:
            T, first = self.plan.train_length, first_scored("tail", self.plan.target_length)
            batches = cut_documents([d.ids for d in self.texts.test], self.plan)
            return {
                "selection": {
                    "none": window_bits(self.model, self.chosen, None, T).tail,
                    "fresh-window": float(fresh_window_bits(self.model, self.chosen, T)[:, first:].mean()),
                },
                "none": score(self.model, batches, None, self.plan).to_dict(),
                "fresh-window": control_score(self.model, batches, self.plan).to_dict(),
            }

        cell = self.run.cell("controls", measure)
        self.tick(3 * self.windows)
        return dict(cell)


def run_task(
    model: Model, texts: Texts, plan: StartsPlan, task: Task, folder: str, fresh: bool, watch: Tick | None
) -> dict[str, Any]:
    """Calibrate and score; what a worker does.

    Args:
        model: a loaded model.
        texts: the three sets.
        plan: the comparison.
        task: which of its calibrations.
        folder: the comparison's run folder.
        fresh: True to drop what an earlier comparison has left there.
        watch: called with forward passes as they are done.

    Returns:
        Curve and scores, as JSON.
    """
    p = task.plan
    command = {
        "verb": "starts-calibration",
        "plan": p.to_dict(),
        "far_length": plan.far_length,
        "texts": {role: [d.sha256 for d in getattr(texts, role)] for role in ("calibration", "validation", "test")},
        "model": fingerprint(model),
    }
    place = Path(folder) / "calibrations" / task.key
    seen = 0.0

    def told(step: Step) -> None:
        nonlocal seen
        if watch is not None:
            watch(round(step.passes) - round(seen))
        seen = step.passes

    with RunFolder.open(place, command=command, seed=p.seed, fresh=fresh, device=str(model.device)) as run:
        found = calibrate(
            model, texts, train_length=p.train_length, target_length=p.target_length, kind=p.kind,
            granularity=p.granularity, start=p.start, method=p.method, steps=p.steps, seed=p.seed, run=run,
            batch=p.batch, learning_rate=p.learning_rate, perturbation=p.perturbation, select_every=p.select_every,
            selection_windows=p.selection_windows, watch=told,
        )  # fmt: skip
        batches = cut_documents([d.ids for d in texts.test], plan, far=task.reads_far)

        def scored(scales: Scales) -> dict[str, Any]:
            return score(model, batches, scales, plan).to_dict()

        result = {
            "curve": [list(point) for point in found.best_so_far()],
            "start_bits": found.start_bits.tail,
            "final_bits": found.bits.tail,
            "step": found.step,
            "passes": found.passes,
            "final": run.cell("test/final", lambda: scored(found.scales)),
        }
        if task.score_start:
            same = json.dumps(found.start.to_dict()) == json.dumps(found.scales.to_dict())
            result["start"] = run.cell("test/start", lambda: result["final"] if same else scored(found.start))
        return result
