"""How many tokens the fit of a method takes, for progress bars."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..calibration.plan import make_plan
from .calibrated import Calibration
from .method import Method, Task


@runtime_checkable
class Foreseen(Method, Protocol):
    """A method that can say what its fit will read."""

    def expected_tokens(self, task: Task) -> float:
        """Estimate the tokens that a fit runs through the model."""
        ...


def expected_fit(method: Method, task: Task) -> float:
    """Estimate the tokens that fitting a method takes.

    Args:
        method: which.
        task: what it is fitted to.

    Returns:
        Tokens; those of a gradient count as calibrations count them. 0 for a method that does not say.
    """
    if isinstance(method, Foreseen):
        return method.expected_tokens(task)
    if isinstance(method, Calibration):
        plan = make_plan(
            train_length=task.train_length, target_length=task.fit_length, kind=method.kind,
            granularity=method.granularity, start=method.start, method=method.method, seed=0,
            steps=task.steps or method.steps,
        )  # fmt: skip
        return plan.expected_passes() * task.fit_length
    return 0.0
