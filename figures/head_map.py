"""A map of all heads to explore in the report: a row a layer, a column a head or channel, one quantity at a time.

The page draws it from numbers that stand in it; what a reader points at is told in words. It holds the same numbers as
the tables of the run folder, to four digits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambascope.analysis.breakdown import breakdown
from mambascope.analysis.study import Study

from .markup import escape, paragraph
from .scales import factors_of
from .spectrum import even_ranks

Floats = npt.NDArray[np.float64]

MOST_UNITS = 512
"""Heads or channels a layer that a page holds; of more, evenly spaced ranks of the horizon."""
DIGITS = 4
NO_SCRIPT = "The map needs the script of this page; its numbers are in the run folder's tables."


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a map can show."""

    name: str
    """With its unit."""
    told: str
    """What is said of one value, which stands where the star is."""
    values: Floats
    """(n_layer, units), positive."""
    centre: float | None = None
    """Where the colours turn: T for horizons, 1 for growth and factors."""


def quantities(study: Study) -> list[Quantity]:
    """Return what is known of every head (Mamba-2) or channel (Mamba-1; its slowest state stands for it).

    Args:
        study: a finished study.

    Returns:
        Horizons first; writes, growth and factors where they were measured or proposed.
    """
    spectrum, T = study.proposal.diagnosis.spectrum, float(study.train_length)
    tau = np.stack(spectrum.horizons_tokens())
    slow = tau.argmax(-1)[..., None] if tau.ndim == 3 else None

    def of_unit(values: Floats) -> Floats:
        return values if slow is None else np.take_along_axis(values, slow, -1)[..., 0]

    found = [Quantity("horizon tau (tokens)", "horizon * tokens", of_unit(tau), T)]
    if study.proposal.diagnosis.writes is not None:
        of = breakdown(study.proposal.diagnosis)
        found += [
            Quantity("growth of the state from T to L, measured (times)", "state grows * times", of.growth(), 1.0),
            Quantity(
                "growth from T to L, predicted from windows of T (times)",
                "predicted * times",
                of.predicted_growth(),
                1.0,
            ),
            Quantity("coherence kappa of the writes", "kappa *", of_unit(of.kappa)),
        ]
    if study.proposal.acts:
        after = np.stack(study.scaled_spectrum.horizons_tokens())
        found += [
            Quantity("proposed factor on |A| (times)", "factor on |A| *", of_unit(factors_of(study)), 1.0),
            Quantity(
                "horizon with the proposed scales (tokens)",
                "horizon then * tokens",
                of_unit(after),
                T,
            ),
        ]
    return found


def head_map(study: Study, anchor: str) -> str:
    """Return the map of one model.

    Args:
        study: a finished study.
        anchor: id of the model's section in the page.

    Returns:
        HTML: a canvas that the page's script draws, and its numbers.
    """
    found = quantities(study)
    n_layer, units = found[0].values.shape
    unit = "channel" if study.arch == "mamba" else "head"
    ranked = np.argsort(-found[0].values, axis=1, kind="stable")[:, even_ranks(units, MOST_UNITS)]
    shown = np.sort(ranked, axis=1)  # by number, as they come
    data: dict[str, Any] = {
        "unit": unit,
        "units": None if shown.shape[1] == units else shown.tolist(),
        "quantities": [
            {
                "name": q.name,
                "told": q.told,
                "centre": q.centre,
                "rows": _rounded(q.values, shown),
            }
            for q in found
        ],
    }
    some = (
        ""
        if data["units"] is None
        else f" Of {units:,} {unit}s a layer {MOST_UNITS} are shown, evenly spaced by horizon."
    )
    alt = f"Map of {n_layer} layers and {shown.shape[1]} {unit}s a layer; arrow keys move from one to the next"
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<figure class="headmap" id="{escape(anchor)}-map"><div class="card">'
        f'<div class="controls"><label>shows <select name="quantity"></select></label> '
        f'<label>{unit}s <select name="order"><option value="number">by number</option>'
        f'<option value="value">largest first, each layer by itself</option></select></label></div>'
        f'<canvas tabindex="0" role="img" aria-label="{escape(alt)}"></canvas>'
        f'<div class="scale"><span class="low"></span><span class="bar"><span class="middle"></span></span>'
        '<span class="high"></span></div>'
        f'<p class="readout" aria-live="polite">Point at a {unit}, or press an arrow key.</p></div>'
        f"<figcaption>Every {unit} of every layer: what it remembers, how far its state outgrows training, and what is "
        f"proposed for it. Colours are logarithmic.{some}</figcaption>"
        f'<script type="application/json">{text}</script></figure>'
        f"<noscript>{paragraph(NO_SCRIPT)}</noscript>"
    )


def _rounded(values: Floats, shown: npt.NDArray[np.intp]) -> list[list[float | None]]:
    values = np.take_along_axis(values, shown, 1)
    return [[float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in row] for row in values]
