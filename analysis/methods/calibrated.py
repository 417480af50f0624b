"""Scales calibrated on text: the published recipes as their sources have them, and ours by back-propagation.

Every one of them reads windows of the same length from the same calibration text; how far that is from the lengths in
which they are used is the same for all.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import ClassVar

from ..calibration import Step, calibrate
from ..calibration.plan import BATCH, PERTURBATION, STEPS, default_learning_rate, make_plan
from ..calibration.plan import Method as Descent
from ..calibration.record import fingerprint
from ..proposal import planned_tokens
from ..runs import RunFolder
from .citations import ADAM, EXTEND, MODULATION, SPSA, Citation
from .method import BOTH, Description, Fitted, Role, Setting, Task, whether_baked


@dataclass(frozen=True, slots=True)
class Calibration:
    """A recipe: what moves, from where, and how."""

    reads: ClassVar[frozenset[Role]] = BOTH

    name: str
    """What it is called."""
    words: str
    """What it does."""
    kind: str
    """What the factors multiply."""
    granularity: str
    """How many there are."""
    start: str
    """Where they start."""
    method: Descent
    """How they move."""
    origin: str
    """Where kind, granularity and start are from."""
    sources: tuple[Citation, ...]
    """What it rests on."""
    steps: int | None = None
    """Steps; None for the default of ``method``."""
    steps_origin: str = "see calibration.plan"
    """Where their number is from."""

    def describe(self) -> Description:
        """Say what it does."""
        plan = "the source's schedule" if self.method in {"spsa-paper", "spsa-released"} else "ours"
        return Description(
            self.words,
            (
                Setting("kind", self.kind, self.origin),
                Setting("granularity", self.granularity, self.origin),
                Setting("start", self.start, self.origin),
                Setting("method", self.method, plan),
                Setting("steps", str(self.steps or STEPS[self.method]), self.steps_origin),
                Setting("windows of a step", str(BATCH[self.method]), "see calibration.plan"),
                Setting("learning rate", f"{default_learning_rate(self.method, self.start):g}", "see calibration.plan"),
                *([] if self.method == "backprop" else [Setting("c", f"{PERTURBATION:g}", "see calibration.plan")]),
            ),
        )

    def cite(self) -> tuple[Citation, ...]:
        """Return its sources."""
        return self.sources

    def expected_tokens(self, task: Task) -> float:
        """Estimate the tokens of the start and of all steps, a gradient's counted as ``calibration.plan`` does."""
        T, texts = task.train_length, task.texts.calibration
        start = planned_tokens(texts, T, task.fit_length) if self.start == "spectrum" else 0
        plan = make_plan(
            train_length=T, target_length=task.fit_length, kind=self.kind,
            granularity=self.granularity, start=self.start, method=self.method, seed=0, steps=self._steps(task),
        )  # fmt: skip
        return start + plan.expected_passes() * task.fit_length

    def fit(self, task: Task) -> Fitted:
        """Calibrate, in a run folder of its own below the task's, so that a stopped calibration goes on."""
        done = 0.0

        def watch(step: Step) -> None:
            nonlocal done
            task.tick(round((step.passes - done) * task.fit_length))
            done = step.passes

        with ExitStack() as stack:
            run = None if task.run is None else stack.enter_context(self._folder(task, task.run))
            found = calibrate(
                task.model,
                task.texts,
                train_length=task.train_length,
                target_length=task.fit_length,
                kind=self.kind,
                granularity=self.granularity,
                start=self.start,
                method=self.method,
                steps=self._steps(task),
                seed=task.seed,
                run=run,
                watch=watch,
            )
        bakes = whether_baked(found.scales, task.model.config)
        return Fitted(self.name, found.scales, found.note(), passes=found.passes, bakes=bakes)

    def _steps(self, task: Task) -> int | None:
        return self.steps if task.steps is None else task.steps

    def _folder(self, task: Task, run: RunFolder) -> AbstractContextManager[RunFolder]:
        texts = {role: [d.sha256 for d in getattr(task.texts, role)] for role in ("calibration", "validation")}
        command = {
            "verb": "fit",
            "method": self.name,
            "steps": self._steps(task),
            "learning_rate": default_learning_rate(self.method, self.start),
            "lengths": [task.train_length, task.fit_length],
            "texts": texts,
            "model": fingerprint(task.model),
        }
        place = run.folder / "fits" / f"{task.prefix}{self.name}".replace(":", "-")
        return RunFolder.open(
            place, command=command, seed=task.seed, fresh=not run.resuming, device=str(task.model.device)
        )


_CALIBRATIONS = (
    Calibration(
        "mambaextend",
        "one factor on dt a layer, moved by the released SPSA",
        kind="dt", granularity="layer", start="random:0.75,1", method="spsa-released",
        origin="MambaExtend, ProofPile script", sources=(EXTEND, SPSA),
        steps=50, steps_origin="MambaExtend, ProofPile script",
    ),
    Calibration(
        "mamba-modulation",
        "one power of |A| a layer, moved by the released SPSA",
        kind="a_power", granularity="layer", start="random:0.75,1", method="spsa-released",
        origin="Mamba Modulation, perplexity script", sources=(MODULATION, SPSA),
        steps=30, steps_origin="Mamba Modulation, perplexity script",
    ),
    Calibration(
        "mamba-modulation:a",
        "one factor on A a layer, moved by SPSA as printed",
        kind="a", granularity="layer", start="random:0,1", method="spsa-paper",
        origin="Mamba Modulation, Algorithm 3 and its text", sources=(MODULATION, SPSA),
        steps=50, steps_origin="MambaExtend's, whose hyperparameters the paper says it uses",
    ),
    Calibration(
        "heads",
        "one factor on A a head or channel, from ones, by back-propagation",
        kind="a", granularity="head", start="ones", method="backprop", origin="ours",
        sources=(MODULATION, ADAM),
    ),
    Calibration(
        "spectrum+calibrated",
        "the default proposal, refined by one factor on A a head or channel by back-propagation",
        kind="a", granularity="head", start="spectrum", method="backprop", origin="ours",
        sources=(MODULATION, ADAM),
    ),
)  # fmt: skip
CALIBRATIONS: dict[str, Calibration] = {each.name: each for each in _CALIBRATIONS}
"""By name."""
