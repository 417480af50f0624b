"""Which calibrations a comparison of starts runs: start x method x seed, and the same for one factor a layer.

The first part moves as many factors as the proposal has, so that every start could in principle reach the proposal. The
second is the published form, one factor a layer, with a budget in forward passes that all starts share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mambascope.spectra.errors import RefusedInputError

from ..calibration.plan import FAR_LEARNING_RATE, METHODS, TIMES, Plan, make_plan

START_LABELS = ("spectrum", "ones", "constant", "uniform", "log-uniform")
"""Starts of the first part: the proposal, 1, the best constant, U(0, 1), and log-uniform over [1, largest proposed]."""

LAYER_LABELS = ("spectrum", "projected", "uniform")
"""Starts of the second part: layer factors of 1 on top of the proposal, the proposal reduced to layer factors, and
U(0, 1) as in Mamba Modulation, Algorithm 3."""

FAR = ("ones", "constant", "uniform", "log-uniform")
"""Starts that do not rest on the spectrum, have a long way to go, and get ``far_rates``."""

CONSTANTS = tuple(float(s) for s in np.round(np.geomspace(1, 4096, 25), 6))
"""Constants that the best one is chosen from. Ours: a factor of sqrt 2 apart, up to where no bundled model has
any memory left."""

FAR_TIMES = 4
"""The first seed also reads test documents to this many target lengths, to see whether factors hold there. Ours."""


@dataclass(frozen=True, slots=True)
class Task:
    """One calibration."""

    part: str
    """``starts`` or ``layers``."""
    label: str
    """Name of the start, of ``START_LABELS`` or ``LAYER_LABELS``."""
    plan: Plan
    """The calibration itself."""
    score_start: bool
    """True for the first of several that start at the same point."""

    @property
    def key(self) -> str:
        """Name within a run, and of its folder."""
        p = self.plan
        return f"{self.part}/{p.kind}-{p.granularity}/{p.method}/{self.label}-{p.seed}"

    @property
    def reads_far(self) -> bool:
        """True if its points are also scored at the far length, which costs as much as several calibrations."""
        return self.part == "starts" and self.plan.seed == 0

    @property
    def start_key(self) -> str:
        """Name of the point that it starts from."""
        p = self.plan
        seed = f"-{p.seed}" if self.label in {"uniform", "log-uniform"} else ""
        # layer factors of 1 on top of the proposal are the proposal, whatever their kind
        here = "proposal" if self.label == "spectrum" else f"{p.kind}-{p.granularity}/{self.label}"
        return here + seed


@dataclass(frozen=True, slots=True)
class StartsPlan:
    """What to compare, with the origin of each default in ``make_starts_plan``."""

    train_length: int
    """T in tokens."""
    target_length: int
    """L in tokens."""
    kind: str
    """What the factors of the first part multiply."""
    granularity: str
    """How many there are."""
    methods: tuple[str, ...]
    """Methods of the first part."""
    seeds: int
    """Seeds 0, 1, ... of every start and method."""
    steps: int | None
    """Steps of a calibration of the first part."""
    batch: int | None
    """Windows of a step there."""
    far_rates: dict[str, float]
    """Learning rates, by method, of starts that do not rest on the spectrum; the others have the method's."""
    select_every: int
    """Steps between two looks at the selection windows."""
    selection_windows: int
    """Windows that points are chosen on."""
    layer_kinds: tuple[str, ...]
    """Kinds of the second part."""
    layer_methods: tuple[str, ...]
    """Its methods."""
    layer_passes: int
    """Its budget for one calibration, in forward passes over a window of L tokens."""
    layer_batch: int
    """Windows of a step there."""
    far_length: int | None
    """Length to which the first seed's test documents are read; None for L."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def tasks(self, *, largest: float, best_constant: float, proposal_passes: float) -> list[Task]:
        """List the calibrations, in the order in which they run.

        Args:
            largest: the largest factor proposed.
            best_constant: the constant with the fewest bits on validation text.
            proposal_passes: what the proposal cost, which counts against the budget of what starts from it.

        Returns:
            Tasks with keys of their own.
        """
        words = {
            "constant": f"constant:{best_constant!r}",
            "uniform": "random",
            "log-uniform": f"log-random:1,{max(largest, 1.0)!r}",
        }
        found: list[Task] = []
        for method in self.methods:
            for label in START_LABELS:
                for seed in range(self.seeds):
                    rate = self.far_rates.get(method) if label in FAR else None
                    plan = self._calibration(
                        self.kind, self.granularity, words.get(label, label), method, seed,
                        steps=self.steps, batch=self.batch, learning_rate=rate,
                    )  # fmt: skip
                    found.append(Task("starts", label, plan, score_start=True))
        for method in self.layer_methods:
            for kind in self.layer_kinds:
                for label in LAYER_LABELS:
                    for seed in range(self.seeds if label == "uniform" else 1):
                        plan = self._layers(kind, words.get(label, label), method, seed)
                        spent = 0.0 if label == "uniform" else proposal_passes
                        steps = steps_within(plan, self.layer_passes - spent)
                        found.append(Task("layers", label, replace(plan, steps=steps), score_start=True))
        seen: set[str] = set()
        once = []
        for task in found:
            once.append(replace(task, score_start=task.start_key not in seen))
            seen.add(task.start_key)
        return once

    def _layers(self, kind: str, start: str, method: str, seed: int) -> Plan:
        rate = self.far_rates.get(method) if start == "random" else None
        return self._calibration(kind, "layer", start, method, seed, batch=self.layer_batch, learning_rate=rate)

    def _calibration(self, kind: str, granularity: str, start: str, method: str, seed: int, **options: Any) -> Plan:
        return make_plan(
            train_length=self.train_length, target_length=self.target_length, kind=kind, granularity=granularity,
            start=start, method=method, seed=seed, select_every=self.select_every,
            selection_windows=self.selection_windows, **options,
        )  # fmt: skip


def steps_within(plan: Plan, passes: float) -> int:
    """Return how many steps of a calibration a budget pays for.

    Args:
        plan: the calibration, with any number of steps.
        passes: the budget, in forward passes over a window of L tokens.

    Returns:
        Steps, at least 1.

    Raises:
        RefusedInputError: it does not pay for one.
    """
    steps = 0
    while replace(plan, steps=steps + 1).expected_passes() <= passes:
        steps += 1
    if not steps:
        least = replace(plan, steps=1).expected_passes()
        raise RefusedInputError(
            f"--layer-passes leaves {passes:.0f} passes to {plan.method} from {plan.start}, but one step takes "
            f"{least:.0f}: give a larger budget, or fewer --selection-windows"
        )
    return steps


def read_rates(words: Sequence[str]) -> dict[str, float]:
    """Read learning rates by method.

    Args:
        words: such as ``spsa:0.3``.

    Returns:
        Rates by method.

    Raises:
        RefusedInputError: not of that form.
    """
    found = {}
    for word in words:
        method, _, rate = word.partition(":")
        try:
            found[method] = float(rate)
        except ValueError:
            raise RefusedInputError(f"--far-rates {word!r}: expected METHOD:RATE, as in spsa:0.3") from None
        if method not in METHODS:
            raise RefusedInputError(f"--far-rates {word!r}: expected one of {', '.join(METHODS)} before the colon")
    return found


def make_starts_plan(
    *,
    train_length: int,
    target_length: int | None = None,
    arch: str,
    kind: str = "a",
    granularity: str | None = None,
    methods: Sequence[str] = ("spsa", "backprop"),
    seeds: int = 3,
    steps: int | None = 30,
    batch: int | None = 2,
    far_rates: Mapping[str, float] | None = None,
    select_every: int = 5,
    selection_windows: int = 8,
    layer_kinds: Sequence[str] = ("a_power", "a", "dt"),
    layer_methods: Sequence[str] = ("spsa-paper", "spsa"),
    layer_passes: int = 200,
    layer_batch: int = 4,
    far_length: int | None = None,
) -> StartsPlan:
    """Fill in the defaults of a comparison, and refuse what makes none.

    Args:
        train_length: T.
        target_length: L. Default: ``TIMES`` T, as in ``calibrate``.
        arch: of the model; Mamba-1 has a factor a channel and state where Mamba-2 has one a head.
        kind: of the first part.
        granularity: of the first part. Default: as fine as the proposal.
        methods: of the first part.
        seeds: number of seeds.
        steps: of the first part. Default: ours, 176 passes of SPSA or 296 of back-propagation.
        batch: windows of a step there. Default: ours, half of what ``calibrate`` takes, so that 30 runs stay cheap.
        far_rates: learning rates, by method, of starts far away. Default: ``FAR_LEARNING_RATE``.
        select_every: as in ``calibrate``.
        selection_windows: as in ``calibrate``.
        layer_kinds: kinds of the second part; none leaves it out.
        layer_methods: methods of the second part: as the paper prints it, and ours.
        layer_passes: budget of the second part. Default: ours, about that of the first.
        layer_batch: windows of a step there. Default: ours, a fifth of the paper's 20, so that 200 passes are some 20
            steps.
        far_length: how far test documents are read. Default: ``FAR_TIMES`` L.

    Returns:
        The plan.

    Raises:
        RefusedInputError: an unknown name, a name given twice, or a number out of range.
    """
    L = TIMES * train_length if target_length is None else target_length
    for what, names, known in (
        ("methods", methods, METHODS), ("layer-methods", layer_methods, METHODS),
        ("layer-kinds", layer_kinds, ("a_power", "a", "dt")),
    ):  # fmt: skip
        if wrong := [name for name in names if name not in known]:
            raise RefusedInputError(f"--{what} {wrong[0]!r}: expected some of {', '.join(known)}")
        if len(set(names)) < len(names):
            raise RefusedInputError(f"--{what} {','.join(names)}: each name once")
    if not methods:
        raise RefusedInputError(f"--methods: expected at least one of {', '.join(METHODS)}")
    if not 1 <= seeds <= 100:
        raise RefusedInputError(f"--seeds {seeds}: expected 1 to 100")
    far = FAR_TIMES * L if far_length is None else far_length
    if far < L:
        raise RefusedInputError(f"--far-length {far}: expected at least the target length {L}")
    plan = StartsPlan(
        train_length=train_length,
        target_length=L,
        kind=kind,
        granularity=granularity or ("state" if arch == "mamba" and kind != "dt" else "head"),
        methods=tuple(methods),
        seeds=seeds,
        steps=steps,
        batch=batch,
        far_rates={str(m): r for m, r in (FAR_LEARNING_RATE if far_rates is None else far_rates).items()},
        select_every=select_every,
        selection_windows=selection_windows,
        layer_kinds=tuple(layer_kinds),
        layer_methods=tuple(layer_methods) if layer_kinds else (),
        layer_passes=layer_passes,
        layer_batch=layer_batch,
        far_length=None if far == L else far,
    )
    plan.tasks(largest=2.0, best_constant=2.0, proposal_passes=0.0)  # refuses what no calibration takes
    return plan
