"""Which heads trained scales lengthen and which they clip, and whether theory foresaw it.

A factor is one on a head's decay rate |A| dt: below 1 its memory gets longer, above 1 shorter. Theory's proposal is the
default rule's (soft clip), made from step sizes on windows of T tokens alone. Agreement is Spearman's rank correlation
between the logarithms of the two over all heads (Mamba-1: channels, by the geometric mean over their states). Scales
that were trained from a rule's proposal agree with theory to begin with; of them, what training changed is compared,
too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales
from mambascope.spectra.tokens import Document

from ..evidence import Evidence
from ..memory import factors_on_modes
from ..rules import find_rule
from .horizons import measured

RULE = "soft-clip"
"""Theory's proposal: the rule of ``spectrum``, whether or not that would act."""
KEPT_WITHIN = 1.1
"""A factor between 1 / 1.1 and 1.1 counts as none. Ours: as the tables of proposals do."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeadChange:
    """What scales do to one head (Mamba-2) or channel (Mamba-1)."""

    method: str
    """Which scales."""
    layer: int
    """Index of the layer."""
    head: int
    """Index of the head or channel."""
    factor: float
    """On the decay rate; below 1 memory gets longer."""
    gain: float
    """On what is written."""
    proposed: float
    """Theory's factor."""
    horizon_tokens: float
    """Tokens until the head forgets to 1/e, without scales; of a channel its slowest state's."""
    scaled_horizon_tokens: float
    """The same with them."""
    horizon_in_T: float
    """Horizon without scales over T."""
    scaled_horizon_in_T: float
    """Horizon with them over T."""

    @property
    def what(self) -> str:
        """``lengthened``, ``clipped`` or ``kept``."""
        if abs(math.log(self.factor)) <= math.log(KEPT_WITHIN):
            return "kept"
        return "lengthened" if self.factor < 1 else "clipped"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, ``what`` among them."""
        return asdict(self) | {"what": self.what}


@dataclass(frozen=True, slots=True)
class WhichHeads:
    """All heads under one set of scales."""

    method: str
    """Which scales."""
    rows: tuple[HeadChange, ...]
    """By layer, then head."""
    rank_correlation: float | None
    """Spearman's, of trained against proposed factors; None where either is the same for all heads."""
    p_value: float | None
    """Of no correlation, two-sided."""
    began: str = ""
    """Rule whose proposal training started from; empty for ones."""
    change_correlation: float | None = None
    """Spearman's, of what training changed against proposed factors, where it started from a rule's."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "method": self.method,
            "rank_correlation": self.rank_correlation,
            "p_value": self.p_value,
            "began": self.began,
            "change_correlation": self.change_correlation,
            "heads": [row.to_dict() for row in self.rows],
        }

    def of(self, what: str) -> list[HeadChange]:
        """Return the heads that were ``lengthened``, ``clipped`` or ``kept``."""
        return [row for row in self.rows if row.what == what]

    def _change(self) -> str:
        told = "all alike" if self.change_correlation is None else f"{self.change_correlation:+.2f}"
        return f"training began at {self.began}, and what it changed correlates with {RULE} by {told}"

    def sentences(self) -> list[str]:
        """Say it in three sentences."""
        longer, shorter, kept = self.of("lengthened"), self.of("clipped"), self.of("kept")

        def horizons(rows: Sequence[HeadChange]) -> str:
            if not rows:
                return "none"
            before = float(np.median([row.horizon_in_T for row in rows]))
            after = float(np.median([row.scaled_horizon_in_T for row in rows]))
            return f"{before:.2g} T before and {after:.2g} T after (medians)"

        if self.rank_correlation is None:
            agree = "The factors are all alike, so there is no rank correlation with theory's proposal."
        else:
            sure = self.p_value is not None and self.p_value < 0.05
            agrees = "foresees" if self.rank_correlation > 0 else "has the wrong way round"
            both = sum(row.proposed > KEPT_WITHIN for row in longer)
            clips = f"{both} of the {len(longer)} lengthened heads are ones that it clips"
            told = f"rank correlation of the factors {self.rank_correlation:+.2f} (p = {self.p_value:.2g})"
            if self.began:  # the factors agree because they began so
                agree = f"Theory's proposal {RULE}: {told}, of which much is the start, as {self._change()}; {clips}."
            else:
                verb = agrees if sure else "does not tell"
                agree = f"Theory's proposal {RULE} {verb} which heads: {told}, and {clips}."
        return [
            f"{self.method} lengthens the memory of {len(longer)} of {len(self.rows)} heads, clips that of "
            f"{len(shorter)} and leaves {len(kept)} within {KEPT_WITHIN - 1:.0%}.",
            f"Horizons of the lengthened: {horizons(longer)}; of the clipped: {horizons(shorter)}.",
            agree,
        ]


def which_heads(
    model: Model,
    documents: Sequence[Document],
    train_length: int,
    scales: dict[str, Scales],
    *,
    began: Mapping[str, str] | None = None,
) -> list[WhichHeads]:
    """Compare scales with theory's proposal, head by head.

    Args:
        model: a loaded model.
        documents: calibration texts that reach twice the training length.
        train_length: T.
        scales: by name.
        began: rules that some of them were trained from, by name of the scales.

    Returns:
        The comparison for each of them.
    """
    evidence = measured(model, documents, train_length)
    proposed, _ = _by_head(evidence, find_rule(RULE)(evidence))
    return [_compared(name, evidence, proposed, each, (began or {}).get(name, "")) for name, each in scales.items()]


def _by_head(evidence: Evidence, scales: Scales) -> tuple[Floats, Floats]:
    """Return factors on the decay rate and on the write, (n_layer, heads), those of a channel's states averaged."""
    last = max((f.onset_tokens for f in scales.factors), default=0)
    modes = factors_on_modes(evidence, scales, last)
    factors = [np.exp(np.log(factor).mean(-1)) if factor.ndim == 2 else factor for factor, _ in modes]
    return np.stack(factors), np.stack([gain for _, gain in modes])


def _correlation(one: Floats, two: Floats) -> tuple[float | None, float | None]:
    """Return Spearman's rank correlation and its p-value; none where either is the same everywhere."""
    from scipy.stats import spearmanr

    if np.ptp(one) == 0 or np.ptp(two) == 0:
        return None, None
    test = spearmanr(one.ravel(), two.ravel())
    return float(test.statistic), float(test.pvalue)


def _compared(method: str, evidence: Evidence, proposed: Floats, scales: Scales, began: str = "") -> WhichHeads:
    T = evidence.train_length
    factors, gains = _by_head(evidence, scales)
    last = max((f.onset_tokens for f in scales.factors), default=0)
    rows = []
    for layer, (of, (on_modes, _)) in enumerate(
        zip(evidence.layers, factors_on_modes(evidence, scales, last), strict=True)
    ):
        before, after = of.horizon_tokens, of.horizon_tokens / on_modes
        if before.ndim == 2:
            before, after = before.max(-1), after.max(-1)
        for head in range(len(before)):
            now, then = float(before[head]), float(after[head])
            rows.append(
                HeadChange(
                    method, layer, head, float(factors[layer, head]), float(gains[layer, head]),
                    float(proposed[layer, head]), now, then, now / T, then / T,
                )
            )  # fmt: skip
    change = None
    if began:
        start, _ = _by_head(evidence, find_rule(began)(evidence))
        change = _correlation(factors / start, proposed)[0]
    return WhichHeads(method, tuple(rows), *_correlation(factors, proposed), began, change)
