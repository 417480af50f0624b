"""Transition-spectrum winsorization: outliers of each layer's spectrum moved to its percentiles, with no text read.

Per layer, with lambda = exp(-|A|) over all heads (Mamba-2) or all channels and states (Mamba-1) and q in percent:
lambda -> min(max(lambda, P_q), P_{100-q}), and the factor on A is ln(new) / ln(old).

Source: FARS (analemma.ai, 2026), a secondary source: its abstract and one review are what is known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mambascope.spectra.eigenvalues import spectrum
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.scales import scaling

from ..mode_rules import winsorized
from .citations import WINSORIZATION, Citation
from .method import NOTHING, Description, Fitted, Role, Setting, Task, whether_baked

PERCENT = 8.0
"""Upper end of the source's best range, 5 to 8 %: of 64 heads it changes 18.75 %, the nearest to the 17.5 % that the
source reports."""


@dataclass(frozen=True, slots=True)
class Winsorize:
    """Clip each layer's static decays at two percentiles."""

    reads: ClassVar[frozenset[Role]] = NOTHING

    percent: float | None = None
    """Share cut on either side, in percent; None for ``PERCENT``."""

    @property
    def name(self) -> str:
        """What it is called."""
        return "winsorize" if self.percent is None else f"winsorize:{self.percent!r}"

    def describe(self) -> Description:
        """Say what it does."""
        default = "the source's best range is 5 to 8 %; the end that changes most nearly its share of modes"
        return Description(
            "decays outside two percentiles of their layer's spectrum clipped to these; reads no text",
            (
                Setting("percent on either side", f"{self._q:g}", default if self.percent is None else "given"),
                Setting("what is clipped", "exp(-|A|)", "our reading: the source does not say, but bounds decays"),
                Setting("percentiles", "interpolated linearly", "our reading: the source does not say"),
                Setting("spectrum of a layer", "all heads, or all channels and states", "Mamba-1 is our extension"),
                Setting("source", "secondary", "its abstract and one review; the text was not available"),
            ),
        )

    def cite(self) -> tuple[Citation, ...]:
        """Return its source."""
        return (WINSORIZATION,)

    def expected_tokens(self, _: Task) -> float:
        """Return 0: it is made from the weights alone."""
        return 0.0

    def fit(self, task: Task) -> Fitted:
        """Read the rates and clip."""
        values = np.stack([winsorized(rate, self._q) for rate in spectrum(task.model).rates])
        scales = scaling("a", values).check(task.model.config)
        changed = float((values != 1).mean())
        how = f"from the weights alone: {changed:.1%} of the modes changed, clipped at {self._q:g} % on either side"
        return Fitted(self.name, scales, how, bakes=whether_baked(scales, task.model.config))

    @property
    def _q(self) -> float:
        return PERCENT if self.percent is None else self.percent


def winsorize_of(name: str, rest: str) -> Winsorize:
    """Return the method of ``winsorize:Q``.

    Args:
        name: the whole name, for the message.
        rest: Q.

    Returns:
        The method.

    Raises:
        RefusedInputError: Q is not a number from 0 to below 50.
    """
    try:
        percent = float(rest)
    except ValueError:
        percent = math.nan
    if not 0 <= percent < 50:
        raise RefusedInputError(f"method {name!r}: expected percent from 0 to below 50, as in winsorize:5")
    return Winsorize(percent)
