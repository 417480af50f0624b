"""One factor for the whole model: fixed, or the best of a grid on validation text at each length.

Source: Mamba Modulation, Figures 2 and 5 and Table 3 (factors 2 and 3; whether they multiply A or A_log is not said, so
both kinds are here); jzhang38/LongMamba for ``dt`` (0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mambascope.spectra.errors import NonFiniteStateError
from mambascope.spectra.scales import Kind, scaling

from ..evaluate.passages import Passages, cut_passages
from ..evaluate.position_sums import edges_for, score
from ..study import token_counter
from .citations import MODULATION, RATIO, Citation
from .method import Choice, Description, Fitted, Setting, Task, whether_baked

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

    def fit(self, task: Task) -> Fitted:
        """Make the scales."""
        scales = scaling(self.kind, self.factor).check(task.model.config)
        return Fitted(self.name, scales, "given", bakes=whether_baked(scales, task.model.config))


@dataclass(frozen=True, slots=True)
class BestConstant:
    """The factor with the fewest tail bits on validation text, for each length its own: the strongest constant."""

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
                Setting("chosen up to", f"{CHOOSE_UP_TO} T", "ours, see CHOOSE_UP_TO"),
            ),
        )

    def cite(self) -> tuple[Citation, ...]:
        """Return its source."""
        return _sources(self.kind)

    def fit(self, task: Task) -> Fitted:
        """Try every factor on validation text; one pass at the longest length gives every length."""
        reach = max(len(document) for document in task.texts.validation)
        here = [n for n in task.lengths if n <= min(reach, CHOOSE_UP_TO * task.train_length)] or [min(task.lengths)]
        passages = cut_passages(task.texts.validation, here[-1])
        choices = [choice for s in GRIDS[self.kind] for choice in self._tried(task, passages, here, s)]
        best = {n: _best([choice for choice in choices if choice.length == n]) for n in here}
        factors = {n: best[max((m for m in here if m <= n), default=here[0])] for n in task.lengths}
        tokens = len(GRIDS[self.kind]) * len(passages) * passages.length
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

        kept = task.cell(f"constants/{self.kind}/{s:.6g}", measure)
        return [Choice(self.kind, s, row["length"], row["bits"], row["tail_bits"]) for row in kept]


def _best(choices: list[Choice]) -> float:
    """Return the factor with the fewest tail bits; the one nearest to 1 where two are equal."""
    usable = [(c.tail_bits, abs(float(np.log(c.factor))), c.factor) for c in choices if c.tail_bits is not None]
    return min(usable)[2] if usable else 1.0
