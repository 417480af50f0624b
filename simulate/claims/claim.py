"""What a claim is: the statement as printed, and everything that can confirm or refute it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..arrays import Floats
from ..symbolic import Derivation
from ..threefry import Words
from ..verdict import Comparison, Sample

Samples = Mapping[str, Sample]

PAPER = "Mamba Modulation (arXiv 2509.19633)"


class Experiment(Protocol):
    """Independent trials, each a row of numbers that depends on the key and the trial's number alone."""

    def run(self, key: Words, first: int, trials: int) -> Floats:
        """Return (trials, columns) of the trials from ``first`` on."""
        ...

    def updates(self) -> int:
        """Return the cost of one trial, in state updates or what takes as long."""
        ...


@dataclass(frozen=True, slots=True)
class Drawn:
    """An experiment made of a function of the module that states the claim."""

    function: Callable[[Words, int, int], Floats]
    """Takes key, first trial and number of trials, and returns (trials, columns)."""
    cost: int = 1000
    """Cost of one trial in state updates."""
    at_once: int | None = None
    """Largest number of trials that the function is asked for, which bounds its memory. Default: all."""

    def run(self, key: Words, first: int, trials: int) -> Floats:
        """Return what the function returns, put together where it was asked for less at once."""
        size = self.at_once or trials
        parts = [self.function(key, first + k, min(size, trials - k)) for k in range(0, trials, size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def updates(self) -> int:
        """Return the cost of one trial."""
        return self.cost


@dataclass(frozen=True, slots=True)
class Trials:
    """An experiment and how many trials of it are run."""

    experiment: Experiment
    """What is run."""
    count: int
    """Trials; a multiple or a part of what the user asks for."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Both forms over one variable, to be drawn behind the simulated points."""

    label: str
    """What the variable is."""
    value: str
    """What the curves show."""
    grid: tuple[float, ...]
    """Where the curves are drawn."""
    printed: Callable[[float], float]
    """The printed form."""
    corrected: Callable[[float], float]
    """The corrected form."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the paper, with its proof or refutation, its test, and the test of the test."""

    key: str
    """Short name, such as ``theorem-4.2``."""
    title: str
    """What it is about, in a few words."""
    source: str
    """Where it stands in the paper."""
    printed: str
    """The statement as printed."""
    assumptions: tuple[str, ...]
    """What it takes for granted."""
    corrected: str
    """What is true; ``as printed`` where it is."""
    derive: Callable[[], Derivation]
    """Makes the derivation of the corrected form, and of where the printed one departs from it."""
    experiments: Callable[[int], Mapping[str, Trials]]
    """Experiments by name, for a wanted number of trials. Those whose name starts with ``control`` violate an
    assumption."""
    compare: Callable[[Samples], Sequence[Comparison]]
    """Holds the samples against both forms."""
    control: Callable[[Samples], Sequence[Comparison]]
    """Holds a sample that violates an assumption against the corrected form, which must be rejected."""
    curve: Curve | None = None
    """Both forms over a variable, where the claim is about a curve."""
