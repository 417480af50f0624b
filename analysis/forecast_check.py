"""What came of a forecast: the harm that long test texts show.

The measured harm is that of ``evaluate``: tail bits of the unscaled model less those of the fresh-window control, on
test texts, several passages of each document for short lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mambascope.spectra.dynamics import Observer
from mambascope.spectra.html_table import html_table
from mambascope.spectra.model import Model
from mambascope.spectra.tokens import Document

from .evaluate.passages import Passages, cut_passages
from .evaluate.position_sums import edges_for, score, score_fresh
from .evaluate.rows import PerplexityRow, rows_of
from .forecast import Forecast, crossing

TOKENS_PER_DOCUMENT = 32_768
"""Tokens scored of each document at least, in passages of L. Ours: with one passage of 64 T = 4,096 bytes a book, from
its start, front matter made the standard error of harm as large as the harm at 2 T and 4 T."""


def check_passages(documents: Sequence[Document], target_length: int) -> Passages:
    """Cut passages of L tokens, spread over each document, that hold ``TOKENS_PER_DOCUMENT`` of it."""
    return cut_passages(documents, target_length, max(1, TOKENS_PER_DOCUMENT // target_length))


def measured_harm(
    model: Model, passages: Passages, lengths: Sequence[int], *, observers: Sequence[Observer] = ()
) -> tuple[PerplexityRow, ...]:
    """Measure the harm of the unscaled model.

    Args:
        model: a loaded model.
        passages: of test documents, of the longest length.
        lengths: T first.
        observers: see every layer's work on the way.

    Returns:
        One row a length, with harm and its 95 % interval over documents.
    """
    edges = edges_for(lengths)
    unscaled = score(model, passages, edges, observers=observers)
    control = score_fresh(model, passages, edges, lengths[0], observers=observers)
    return tuple(rows_of("none", unscaled, passages, lengths, control))


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A forecast and what came of it."""

    forecast: Forecast
    """Made from windows of T tokens."""
    measured: tuple[PerplexityRow, ...]
    """One row a length of the forecast, T first."""
    open_loop: Forecast | None = None
    """The forecast with inputs held at those of fresh windows, where it was made."""

    def harm(self, length: int) -> float:
        """Return the measured harm at a length of the forecast, in bits per token."""
        harm = next(row.harm for row in self.measured if row.length == length)
        assert harm is not None
        return harm

    def onset(self) -> float | None:
        """Return the measured first length with harm over ``HARM_BITS``; None if there is none up to L."""
        lengths = self.forecast.lengths
        return crossing(lengths, [self.harm(n) for n in lengths])

    def _repr_html_(self) -> str:
        return html_table(self.rows(), self.forecast.sentence())

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a length beyond T, predicted beside measured."""
        about = {"model": self.forecast.name, "T": self.forecast.train_length}
        by_length = {row.length: row for row in self.measured}
        rows = []
        for row in self.forecast.rows():
            found = by_length[row["length"]]
            rows.append(about | row)
            if self.open_loop:
                rows[-1]["harm_predicted_open"] = self.open_loop.harm(found.length)
            rows[-1] |= {
                "harm_measured": found.harm,
                "ci_low": found.harm_ci_low,
                "ci_high": found.harm_ci_high,
                "documents": found.documents,
                "passages": found.passages,
            }
        return rows

    def onsets(self) -> dict[str, Any]:
        """Return first lengths with harm as multiples of T; None: not up to L."""
        forecast, T = self.forecast, self.forecast.train_length
        found = {"predicted": forecast.onset(), "measured": self.onset()}
        if self.open_loop:
            found["predicted_open"] = self.open_loop.onset()
        L = forecast.target_length / T
        return {"model": forecast.name, "T": T, "L": L} | {k: v and v / T for k, v in found.items()}
