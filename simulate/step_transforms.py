r"""Laws of the step size through what moments are made of: 1 - E e^{-s dt}, E[dt e^{-s dt}], E dt, E dt^2.

The loss 1 - E e^{-s dt} is computed as such: for a slow mode E e^{-s dt} is 1 to the last digit. To draw from such laws
see ``step_laws``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .arrays import Floats

_NODES_SD = np.linspace(-13, 13, 417)
"""Nodes of the trapezium rule for a standard normal: spacing 1/16, where the rule's error for functions analytic in a
strip of half-width w is e^{-32 pi w}; a softplus of spread sd has w = pi / (2 sd)."""


class StepTransforms(Protocol):
    """Law of one step dt >= 0, through the transforms that moments are made of."""

    def laplace_loss(self, s: npt.ArrayLike) -> Floats:
        """Return 1 - E e^{-s dt}."""
        ...

    def discounted(self, s: npt.ArrayLike) -> Floats:
        """Return E[dt e^{-s dt}]."""
        ...

    @property
    def mean(self) -> float:
        """E dt."""
        ...

    @property
    def mean_square(self) -> float:
        """E dt^2."""
        ...


@dataclass(frozen=True, slots=True)
class Gamma:
    """dt ~ Gamma: 1 - (1 + s scale)^{-shape}."""

    shape: float
    """Shape k > 0."""
    scale: float
    """Scale; E dt = shape * scale."""

    def __post_init__(self) -> None:
        if not (0 < self.shape < np.inf and 0 < self.scale < np.inf):
            raise ValueError(f"{self}: expected numbers above 0")

    def laplace_loss(self, s: npt.ArrayLike) -> Floats:
        """Return 1 - E e^{-s dt}."""
        return np.asarray(-np.expm1(-self.shape * np.log1p(self.scale * np.asarray(s, dtype=np.float64))))

    def discounted(self, s: npt.ArrayLike) -> Floats:
        """Return E[dt e^{-s dt}]."""
        return np.asarray(self.mean * np.exp(-(self.shape + 1) * np.log1p(self.scale * np.asarray(s, np.float64))))

    @property
    def mean(self) -> float:
        """E dt."""
        return self.shape * self.scale

    @property
    def mean_square(self) -> float:
        """E dt^2."""
        return self.shape * (self.shape + 1) * self.scale**2


@dataclass(frozen=True, slots=True, eq=False)
class DiscreteSteps:
    """dt takes listed values: a constant, two values, nodes of a quadrature, or a recording without its order."""

    steps: Floats
    """(n,) values."""
    weights: Floats
    """(n,) probabilities."""

    def __post_init__(self) -> None:
        if self.steps.shape != self.weights.shape or self.steps.ndim != 1 or not self.steps.size:
            raise ValueError(f"expected as many weights as steps, got {self.weights.shape} and {self.steps.shape}")
        if (self.steps < 0).any() or (self.weights < 0).any() or abs(self.weights.sum() - 1) > 1e-12:
            raise ValueError("expected steps and weights of at least 0, weights with sum 1")

    def laplace_loss(self, s: npt.ArrayLike) -> Floats:
        """Return 1 - E e^{-s dt}."""
        return np.asarray(-np.expm1(-np.asarray(s, dtype=np.float64)[..., None] * self.steps) @ self.weights)

    def discounted(self, s: npt.ArrayLike) -> Floats:
        """Return E[dt e^{-s dt}]."""
        return np.asarray(
            np.exp(-np.asarray(s, dtype=np.float64)[..., None] * self.steps) @ (self.weights * self.steps)
        )

    @property
    def mean(self) -> float:
        """E dt."""
        return float(self.weights @ self.steps)

    @property
    def mean_square(self) -> float:
        """E dt^2."""
        return float(self.weights @ self.steps**2)


def constant_steps(dt: float) -> DiscreteSteps:
    """Return the law of one step size."""
    return DiscreteSteps(np.array([float(dt)]), np.ones(1))


def two_point_steps(dt: float, other_dt: float, probability: float) -> DiscreteSteps:
    """Return the law dt with the given probability, else other_dt."""
    return DiscreteSteps(np.array([dt, other_dt], dtype=np.float64), np.array([probability, 1 - probability]))


def softplus_normal_steps(mu: float, sd: float) -> DiscreteSteps:
    """Return dt = ln(1 + e^{mu + sd z}), z standard normal, as nodes of a quadrature exact to 1e-13 for sd <= 4."""
    weights = np.exp(-(_NODES_SD**2) / 2)
    return DiscreteSteps(np.logaddexp(0.0, mu + sd * _NODES_SD), weights / weights.sum())


def recorded_steps(dt: npt.ArrayLike) -> DiscreteSteps:
    """Return the law of a recording's steps, each as likely; their order is lost."""
    values = np.asarray(dt, dtype=np.float64).ravel()
    return DiscreteSteps(values, np.full(values.size, 1 / max(values.size, 1)))
