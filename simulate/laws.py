"""What is random in a recurrence: eigenvalues, step sizes, inputs.

An eigenvalue law is stated for the decay lambda = exp(-a step) of a step of the given size, and is kept as the distance
1 - lambda: a law that reaches within 1e-12 of 1 has no digits left in lambda itself. Every law can draw (from uniforms,
so that draws follow the counter-based streams) and integrate (exactly, where plain Monte Carlo may fail).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.integrate
import scipy.special

from .arrays import Floats

OfRate = Callable[[Floats], Floats]

_SMALLEST_DECAY = 2.0**-53  # a decay of 0 has an infinite rate
_TOLERANCE = 1e-13  # of the integrals; the achieved error is tested against 50-digit arithmetic


class EigenvalueLaw(Protocol):
    """A law of rates a > 0."""

    def rates(self, uniform: Floats) -> Floats:
        """Return rates for uniforms in (0, 1), elementwise; large uniforms give slow modes."""
        ...

    def expect(self, of_rate: OfRate) -> float:
        """Return the expectation of a function of the rate."""
        ...


def _rates_of_distance(distance: Floats, step: float) -> Floats:
    return np.asarray(-np.log1p(-np.minimum(distance, 1 - _SMALLEST_DECAY)) / step)


def _integral(density: Callable[[Floats], Floats], width: float) -> float:
    """Integrate from 0 to width with double-exponential nodes, which resolve a pole just outside either end."""
    found = scipy.integrate.tanhsinh(density, 0.0, width, rtol=_TOLERANCE, maxlevel=12)
    if not found.success and not found.error <= 1e-10 * abs(found.integral):
        raise ArithmeticError(f"quadrature reached {found.integral} with an estimated error of {found.error} only")
    return float(found.integral)


@dataclass(frozen=True, slots=True)
class Uniform:
    """lambda ~ U[low, 1 - eps]."""

    low: float
    """Smallest decay, at least 0."""
    eps: float
    """Distance of the largest decay from 1, above 0."""
    step: float = 1.0
    """Step size at which the law is stated."""

    def __post_init__(self) -> None:
        _check_interval(self.low, self.eps, self.step)

    def rates(self, uniform: Floats) -> Floats:
        """Return rates for uniforms in (0, 1)."""
        return _rates_of_distance(self.eps + (1 - uniform) * (1 - self.eps - self.low), self.step)

    def expect(self, of_rate: OfRate) -> float:
        """Return the expectation, by quadrature in the distance from the largest decay."""
        width = 1 - self.eps - self.low
        if width == 0:
            return float(of_rate(_rates_of_distance(np.array([self.eps]), self.step))[0])
        return _integral(lambda y: of_rate(_rates_of_distance(self.eps + y, self.step)) / width, width)


@dataclass(frozen=True, slots=True)
class Beta:
    """lambda = low + (1 - eps - low) X with X ~ Beta(a, b)."""

    a: float
    """First shape, above 0."""
    b: float
    """Second shape, above 0; below 1 the law piles up at the largest decay."""
    low: float
    """Smallest decay, at least 0."""
    eps: float
    """Distance of the largest decay from 1; 0 is allowed, and moments may then be infinite."""
    step: float = 1.0
    """Step size at which the law is stated."""

    def __post_init__(self) -> None:
        _check_interval(self.low, self.eps, self.step, closed=True)
        if not (0 < self.a < np.inf and 0 < self.b < np.inf):
            raise ValueError(f"Beta({self.a}, {self.b}): expected shapes above 0")

    def rates(self, uniform: Floats) -> Floats:
        """Return rates for uniforms in (0, 1)."""
        from_top = scipy.special.betaincinv(self.b, self.a, 1 - uniform)
        return _rates_of_distance(self.eps + (1 - self.eps - self.low) * from_top, self.step)

    def expect(self, of_rate: OfRate) -> float:
        """Return the expectation, by quadrature over each half in the distance from its own end."""
        width = 1 - self.eps - self.low

        constant = scipy.special.betaln(self.a, self.b)

        def mass(near: Floats, a: float, b: float) -> Floats:  # of a law with shape b at the end that is near
            log_mass = scipy.special.xlog1py(a - 1, -near) + scipy.special.xlogy(b - 1, near) - constant
            return np.asarray(np.exp(log_mass))

        def top(y: Floats) -> Floats:
            return np.asarray(mass(y, self.a, self.b) * of_rate(_rates_of_distance(self.eps + width * y, self.step)))

        def bottom(y: Floats) -> Floats:
            distance = self.eps + width * (1 - y)
            return np.asarray(mass(y, self.b, self.a) * of_rate(_rates_of_distance(distance, self.step)))

        return sum(_folded(half, shape) for half, shape in ((top, self.b), (bottom, self.a)))


def _folded(density: Callable[[Floats], Floats], shape: float) -> float:
    """Integrate from 0 to 1/2 a density that goes like y^(shape - 1) at 0, in u = y^shape where that is singular."""
    if shape >= 1:
        return _integral(density, 0.5)

    def smooth(u: Floats) -> Floats:
        y = u ** (1 / shape)
        safe = np.maximum(y, np.finfo(np.float64).tiny)
        return np.asarray(density(safe) * safe ** (1 - shape) / shape)

    return _integral(smooth, 0.5**shape)


@dataclass(frozen=True, slots=True)
class LogUniform:
    """a log-uniform on [low, high]: how rates of trained models spread."""

    low: float
    """Smallest rate, above 0."""
    high: float
    """Largest rate."""

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < np.inf:
            raise ValueError(f"log-uniform rates on [{self.low}, {self.high}]: expected 0 < low < high")

    def rates(self, uniform: Floats) -> Floats:
        """Return rates for uniforms in (0, 1)."""
        return np.asarray(self.low * np.exp(self._width * (1 - uniform)))

    def expect(self, of_rate: OfRate) -> float:
        """Return the expectation, by quadrature in the logarithm of the rate."""
        return _integral(lambda y: of_rate(self.low * np.exp(y)) / self._width, self._width)

    @property
    def _width(self) -> float:
        return float(np.log(self.high) - np.log(self.low))


@dataclass(frozen=True, slots=True)
class Listed:
    """One of the given rates, with the given probabilities: point mass, two points, or a checkpoint's own rates."""

    values: tuple[float, ...]
    """Rates, at least 0."""
    weights: tuple[float, ...] | None = None
    """Probabilities, summing to 1. Default: equal."""

    def __post_init__(self) -> None:
        if not self.values or min(self.values) < 0 or not np.isfinite(self.values).all():
            raise ValueError("a list of rates needs at least one, all finite and at least 0")
        if self.weights is not None and not (
            len(self.weights) == len(self.values) and min(self.weights) >= 0 and abs(sum(self.weights) - 1) <= 1e-9
        ):
            raise ValueError(f"weights {self.weights}: expected {len(self.values)} probabilities that sum to 1")

    def rates(self, uniform: Floats) -> Floats:
        """Return rates for uniforms in (0, 1)."""
        weights = np.full(len(self.values), 1 / len(self.values)) if self.weights is None else np.array(self.weights)
        picked = np.searchsorted(np.cumsum(weights), uniform, side="left")
        return np.asarray(self.values)[np.minimum(picked, len(self.values) - 1)]

    def expect(self, of_rate: OfRate) -> float:
        """Return the weighted mean."""
        return float(np.average(of_rate(np.array(self.values)), weights=self.weights))


def point(decay: float, step: float = 1.0) -> Listed:
    """Return the law of one decay in (0, 1], stated for a step of the given size."""
    if not 0 < decay <= 1:
        raise ValueError(f"decay {decay}: expected a number in (0, 1]")
    return Listed((float(-np.log(decay) / step),))


def two_point(first: float, second: float, weight: float = 0.5, step: float = 1.0) -> Listed:
    """Return the law of two decays in (0, 1], the first with the given probability."""
    rates = (point(first, step).values[0], point(second, step).values[0])
    return Listed(rates, (weight, 1 - weight))


def uniform(low: float, high: float, step: float = 1.0) -> Uniform:
    """Return lambda ~ U[low, high]; for a ``high`` that rounds, use ``Uniform(low, eps)``."""
    return Uniform(low, 1 - high, step)


def _check_interval(low: float, eps: float, step: float, *, closed: bool = False) -> None:
    enough = eps >= 0 if closed else eps > 0
    if not (0 <= low <= 1 - eps and enough and 0 < step < np.inf):
        raise ValueError(
            f"decays on [{low:g}, {1 - eps:g}], step {step:g}: expected 0 <= low <= high < 1 and a step above 0"
        )
