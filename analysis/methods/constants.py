"""One factor for the whole model: fixed, or the best of a grid on validation text at each length.

Source: Mamba Modulation, Figures 2 and 5 and Table 3 (factors 2 and 3; whether they multiply A or A_log is not said, so
both kinds are here); jzhang38/LongMamba for ``dt`` (0.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mambascope.spectra.errors import NonFiniteStateError, RefusedInputError
from mambascope.spectra.scales import Kind, scaling

from ..evaluate.passages import Passages, cut_passages
from ..evaluate.position_sums import edges_for, score
from ..study import token_counter
from .citations import MODULATION, RATIO, Citation
from .method import NOTHING, VALIDATION, Choice, Description, Fitted, Role, Setting, Task, whether_baked

_GRIDS: dict[Kind, tuple[float, float, int]] = {"a": (-4, 12, 25), "a_power": (-6, 2, 41), "dt": (-12, 6, 25)}
GRIDS: dict[Kind, tuple[float, ...]] = {
    kind: tuple(float(s) for s in 2.0 ** np.linspace(low, high, count)) for kind, (low, high, count) in _GRIDS.items()
}
"""Candidates by kind, log-spaced, 1 among them. Ours: wide enough that on the bundled models the ends are limits, where
the next factor changes nothing, or useless. ``a``: 1/16 to 4096, where no memory is left. ``a_power``: 1/64, where
every |A| is almost 1, to 4. ``dt``: 1/4096, where no state is left, to 64."""

CHOOSE_UP_TO = 64
"""Longer lengths than so many T take the choice of that length. Ours: a search at 512 T costs eight times as much, and
at 64 T the best constants of the bundled models leave next to no memory, which serves any length."""

EVERY = 4
"""The search tries every fourth candidate, and 1, then all around each valley of the curve over these, and around 1: a
model's own dynamics lie in a valley that can be as narrow as two candidates. It chooses the best of the whole grid
wherever every other valley shows among every fourth. Ours: so it did in all 27 searches of three bundled models (3
kinds, at T, 4 T and 16 T), with 53 % of the passes."""

ORIGIN: dict[Kind, str] = {
    "a": "Mamba Modulation, in its text",
    "a_power": "Mamba Modulation, in its released code",
    "dt": "MambaExtend's kind, one for all layers as in jzhang38/LongMamba",
}


def _sources(kind: Kind) -> tuple[Citation, ...]:
    return (RATIO,) if kind == "dt" else (MODULATION,)


@dataclass(frozen=True, slots=True)
class Constant:
    """A fixed factor."""

    reads: ClassVar[frozenset[Role]] = NOTHING

    kind: Kind
    """What it multiplies."""
    factor: float
    """The factor."""

    @property
    def name(self) -> str:
        """What it is called."""
        return f"constant:{self.kind}:{self.factor:g}"

    def describe(self) -> Description:
        """Say what it does."""
        setting = Setting("factor", f"{self.factor:g}", "given; the paper's Figure 2 has 2 and 3")
        return Description(f"one factor of kind {self.kind} for the whole model ({ORIGIN[self.kind]})", (setting,))

    def cite(self) -> tuple[Citation, ...]:
        """Return its source."""
        return _sources(self.kind)

    def expected_tokens(self, _: Task) -> float:
        """Return 0: the factor is given."""
        return 0.0

    def fit(self, task: Task) -> Fitted:
        """Make the scales."""
        scales = scaling(self.kind, self.factor).check(task.model.config)
        return Fitted(self.name, scales, "given", bakes=whether_baked(scales, task.model.config))


@dataclass(frozen=True, slots=True)
class BestConstant:
    """The factor with the fewest tail bits on validation text, for each length its own: the strongest constant."""

    reads: ClassVar[frozenset[Role]] = VALIDATION

    kind: Kind
    """What it multiplies."""

    @property
    def name(self) -> str:
        """What it is called."""
        return f"constant:{self.kind}:best"

    def describe(self) -> Description:
        """Say what it does."""
        grid = GRIDS[self.kind]
        return Description(
            f"the best single factor of kind {self.kind} ({ORIGIN[self.kind]}), chosen for each length by the tail "
            "bits of validation text",
            (
                Setting("grid", f"{len(grid)} factors from {grid[0]:g} to {grid[-1]:g}", "ours, see GRIDS"),
                Setting("searched", f"every {EVERY}th factor, then all around each valley", "ours, see EVERY"),
                Setting("chosen up to", f"{CHOOSE_UP_TO} T", "ours, see CHOOSE_UP_TO"),
            ),
        )

    def cite(self) -> tuple[Citation, ...]:
        """Return its source."""
        return _sources(self.kind)

    def expected_tokens(self, task: Task) -> float:
        """Estimate what a search reads: a valley, half of one more, and a bit for the shorter lengths."""
        here, passages = self._read(task)
        first, around = len(coarse(GRIDS[self.kind])), 2 * (EVERY - 1)
        return len(passages) * ((first + 1.5 * around) * here[-1] + sum(around * n / 2 for n in here[:-1]))

    def fit(self, task: Task) -> Fitted:
        """Search on validation text; one pass at the longest length that asks for a factor gives every shorter one."""
        here, passages = self._read(task)
        grid, tokens = GRIDS[self.kind], 0
        found: dict[int, list[Choice]] = {}

        def try_all(wanted: Sequence[int], lengths: list[int]) -> None:
            nonlocal tokens
            for k in wanted:
                if k not in found:
                    found[k] = self._tried(task, passages, lengths, grid[k])
                    tokens += len(passages) * lengths[-1]

        try_all(coarse(grid), here)
        for n in reversed(here):  # the longest first: what it asks for serves the shorter ones, too
            seen = {k: _tail(choices, n) for k, choices in found.items()}
            try_all(near(seen, grid), [m for m in here if m <= n])
        choices = [choice for k in sorted(found) for choice in found[k]]
        best = {n: _best([choice for choice in choices if choice.length == n]) for n in here}
        factors = {n: best[max((m for m in here if m <= n), default=here[0])] for n in task.lengths}
        told = ", ".join(f"{s:.3g} at {n}" for n, s in factors.items())
        one = scaling(self.kind, factors[task.target_length])
        return Fitted(
            self.name,
            one,
            f"chosen on {len(passages)} validation texts up to {here[-1]} tokens: {told}",
            passes=tokens / task.fit_length,
            bakes=whether_baked(one, task.model.config),
            by_length=tuple((n, scaling(self.kind, s)) for n, s in factors.items()),
            choices=tuple(choices),
        )

    def _read(self, task: Task) -> tuple[list[int], Passages]:
        """Return the lengths that are searched, and the texts."""
        if not task.texts.validation:
            raise RefusedInputError(f"method {self.name!r} chooses on validation text; give some")
        reach = max(len(document) for document in task.texts.validation)
        here = [n for n in task.lengths if n <= min(reach, CHOOSE_UP_TO * task.train_length)] or [min(task.lengths)]
        return here, cut_passages(task.texts.validation, here[-1])

    def _tried(self, task: Task, passages: Passages, lengths: list[int], s: float) -> list[Choice]:
        def measure() -> list[dict[str, Any]]:
            try:
                sums = score(
                    task.model,
                    passages,
                    edges_for(lengths),
                    scaling(self.kind, s),
                    observers=[token_counter(task.tick)],
                )
            except NonFiniteStateError:
                return [{"length": n, "bits": None, "tail_bits": None} for n in lengths]
            return [
                {"length": n, "bits": float(sums.whole(n).mean()), "tail_bits": float(sums.tail(n).mean())}
                for n in lengths
            ]

        kept = task.cell(f"constants/{self.kind}/{s:.6g}/{lengths[-1]}", measure)
        return [Choice(self.kind, s, row["length"], row["bits"], row["tail_bits"]) for row in kept]


def coarse(grid: Sequence[float]) -> list[int]:
    """Return the candidates that a search tries first: every fourth, the last, and the factor 1.

    >>> coarse([0.25, 0.5, 1, 2, 4, 8])
    [0, 2, 4, 5]
    """
    return sorted({*range(0, len(grid), EVERY), len(grid) - 1, _one(grid)})


def _one(grid: Sequence[float]) -> int:
    return int(np.argmin(np.abs(np.log(grid))))


def near(seen: dict[int, float | None], grid: Sequence[float]) -> list[int]:
    """Return the candidates that a search tries next.

    Args:
        seen: tail bits by candidate, None where a run broke down.
        grid: the factors.

    Returns:
        All between a valley of the curve over the candidates of ``coarse`` and its neighbours there, for every valley,
        and around the factor 1; every candidate where all runs broke down.
    """
    first = coarse(grid)
    bits = [np.inf if (value := seen[k]) is None else value for k in first]
    if np.isinf(bits).all():
        return list(range(len(grid)))
    found: set[int] = set()
    for i, here in enumerate(bits):
        left, right = max(0, i - 1), min(len(first) - 1, i + 1)
        if first[i] == _one(grid) or (here <= min(bits[left], bits[right]) and np.isfinite(here)):
            found |= set(range(first[left], first[right] + 1))
    return sorted(found)


def _tail(choices: Sequence[Choice], length: int) -> float | None:
    """Return the tail bits of a candidate at a length; None where it was not run so far, or broke down."""
    return next((choice.tail_bits for choice in choices if choice.length == length), None)


def _best(choices: list[Choice]) -> float:
    """Return the factor with the fewest tail bits; the one nearest to 1 where two are equal."""
    usable = [(c.tail_bits, abs(float(np.log(c.factor))), c.factor) for c in choices if c.tail_bits is not None]
    return min(usable)[2] if usable else 1.0
