"""All that a calibration depends on besides model and texts, with the origin of every default."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from mambascope.spectra.errors import RefusedInputError

from .parameters import CALIBRATION_KINDS, GRANULARITIES

Method = Literal["spsa", "spsa-paper", "spsa-released", "backprop"]
METHODS: tuple[Method, ...] = get_args(Method)

STEPS: dict[Method, int] = {
    "spsa": 60,  # ours
    "spsa-paper": 50,  # MambaExtend's script, whose hyper-parameters the paper says it uses
    "spsa-released": 30,  # Mamba Modulation's script
    "backprop": 30,  # ours
}
BATCH: dict[Method, int] = {
    "spsa": 4,  # ours: half of a pass is noise that both perturbations share, so few windows will do
    "spsa-paper": 20,  # the paper's calibration set, read whole in every step
    "spsa-released": 20,
    "backprop": 4,
}
LEARNING_RATE: dict[Method, float] = {
    "spsa": 0.05,  # ours: the usual step in ln s; it shrinks to 0 on half a cosine
    "spsa-paper": 1e-3,  # not printed; the first value of the released schedule
    "spsa-released": 1e-3,  # times cos(k pi / 198)
    "backprop": 0.05,  # ours: Adam's step in ln s; it shrinks to 0 on half a cosine
}
FAR_STARTS = ("ones", "constant", "random", "log-random")
"""Starts that do not rest on the spectrum and have a long way to go."""
FAR_LEARNING_RATE: dict[Method, float] = {"spsa": 1.0, "backprop": 1.0}
"""Size of a step from them. Ours: the best of 0.1, 0.3 and 1 from ones on the selection text of mamba2-tiny; with 0.05
a factor of 1,000 is out of reach in 30 steps. The published methods keep their own."""
PERTURBATION = 0.1
"""c of SPSA. Both released scripts; ours takes it in ln s, a factor of 1.1 up or down."""

GRADIENT_PASSES = 4.0
"""What a gradient costs in forward passes: the pass without a graph, the recomputation, and the backward pass, which
counts as two, as usual (Kaplan et al. 2020, section 2.1)."""

TIMES = 16
"""Training lengths in a window, where no target is given. Ours: long enough for both bundled models to break down
(by more than a bit per token), at a quarter of the cost of 64."""

MANY = 10**6


@dataclass(frozen=True, slots=True)
class Plan:
    """What to calibrate, and how."""

    train_length: int
    """T in tokens."""
    target_length: int
    """L in tokens: the length of a window."""
    kind: str
    """What the factors multiply."""
    granularity: str
    """How many factors there are."""
    start: str
    """Where to start, in words."""
    method: Method
    """How to go on."""
    steps: int
    """Steps."""
    batch: int
    """Windows of a step."""
    learning_rate: float
    """Size of a step."""
    perturbation: float
    """c of SPSA."""
    select_every: int
    """Steps between two looks at the selection windows."""
    selection_windows: int
    """Windows that the point to keep is chosen on."""
    seed: int
    """Of windows, directions and random starts."""

    @property
    def score(self) -> Literal["tail", "whole"]:
        """What a step's loss counts: the published scripts score whole windows, ours the tail, where harm is."""
        return "tail" if self.keeps_best else "whole"

    @property
    def keeps_best(self) -> bool:
        """True if the best point on the selection windows is returned, False if the last, as in the published ones."""
        return self.method in {"spsa", "backprop"}

    def expected_passes(self) -> float:
        """Estimate what all steps cost, for a progress bar."""
        looks = self.steps if self.method == "spsa-released" else -(-self.steps // self.select_every)
        a_step = GRADIENT_PASSES if self.method == "backprop" else 2
        return float(self.steps * a_step * self.batch + (1 + looks) * self.selection_windows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def default_learning_rate(method: Method, start: str) -> float:
    """Return the size of a step where none is given: larger from a start that is far from any mended model."""
    far = start.partition(":")[0] in FAR_STARTS
    return FAR_LEARNING_RATE.get(method, LEARNING_RATE[method]) if far else LEARNING_RATE[method]


def make_plan(
    *,
    train_length: int,
    target_length: int,
    kind: str,
    granularity: str,
    start: str,
    method: str,
    seed: int,
    steps: int | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    perturbation: float | None = None,
    select_every: int = 5,
    selection_windows: int = 8,
) -> Plan:
    """Fill in a method's defaults and refuse what makes no calibration.

    Args:
        train_length: T.
        target_length: L, above T.
        kind: one of ``CALIBRATION_KINDS``.
        granularity: one of ``GRANULARITIES``.
        start: where to start, in words.
        method: one of ``METHODS``.
        seed: root seed.
        steps: number of steps. Default: the method's.
        batch: windows of a step. Default: the method's.
        learning_rate: size of a step. Default: the method's, larger from a start far away.
        perturbation: c of SPSA. Default: ``PERTURBATION``.
        select_every: steps between two looks at the selection windows. Default: ours, a fifth of a small run's cost.
        selection_windows: windows to select on. Default: ours; twice the windows of a step.

    Returns:
        The plan.

    Raises:
        RefusedInputError: an unknown name, or a number out of range.
    """
    if method not in METHODS:
        raise RefusedInputError(f"--method {method!r}: expected one of {', '.join(METHODS)}")
    for what, value, known in (("kind", kind, CALIBRATION_KINDS), ("granularity", granularity, GRANULARITIES)):
        if value not in known:
            raise RefusedInputError(f"--{what} {value!r}: expected one of {', '.join(known)}")
    if train_length < 2 or target_length < 2 * train_length:
        raise RefusedInputError(
            f"--target-length {target_length}: expected at least {2 * max(train_length, 2)}, twice the training length"
        )
    chosen: Method = method
    plan = Plan(
        train_length=train_length,
        target_length=target_length,
        kind=kind,
        granularity=granularity,
        start=start,
        method=chosen,
        steps=STEPS[chosen] if steps is None else steps,
        batch=BATCH[chosen] if batch is None else batch,
        learning_rate=default_learning_rate(chosen, start) if learning_rate is None else learning_rate,
        perturbation=PERTURBATION if perturbation is None else perturbation,
        select_every=select_every,
        selection_windows=selection_windows,
        seed=seed,
    )
    for what in ("steps", "batch", "select_every", "selection_windows"):
        if not 1 <= getattr(plan, what) <= MANY:
            raise RefusedInputError(f"--{what.replace('_', '-')} {getattr(plan, what)}: expected 1 to {MANY}")
    for what in ("learning_rate", "perturbation"):
        if not (math.isfinite(getattr(plan, what)) and getattr(plan, what) > 0):
            raise RefusedInputError(f"--{what.replace('_', '-')} {getattr(plan, what)}: expected a number above 0")
    if not 0 <= seed < 2**64:
        raise RefusedInputError(f"--seed {seed}: expected 0 to 2^64 - 1")
    return plan
