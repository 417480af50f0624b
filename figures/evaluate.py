"""An evaluation as tables and a figure: bits by position in the text, and how far above the control each method is.

Every method's line is a mean over documents, its band the 95 % interval. Documents differ far more than methods do, so
the lower panel shows the difference from the control on the same tokens, on an axis that is linear near zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mambascope.analysis.evaluate.curve import CurveRow
from mambascope.analysis.evaluate.perplexity import Perplexity
from mambascope.analysis.runs import RunFolder

from .curves import CONTROL, difference_axis
from .lengths import mark_lengths, token_axis
from .style import MethodStyle, from_zero, method_style, new_figure, save, styled
from .tables import write_table

UNNAMED = ("#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F")
"""Colours for methods that have none of their own; the first ones are of Okabe and Ito."""


def write_evaluation(run: RunFolder, name: str, found: Perplexity, train_length: int | None) -> None:
    """Write tables ``perplexity``, ``paired`` and ``curve``, and the figure ``curve``.

    Args:
        run: the folder; it records the files as its own.
        name: the model's.
        found: what was measured.
        train_length: T, where it is known.

    Raises:
        NotFiniteError: a number is NaN or infinite.
        StorageError: a file could not be written.
    """
    write_table(run, "perplexity", [row.to_dict() for row in found.rows])
    write_table(run, "paired", [row.to_dict() for row in found.pairs])
    write_table(run, "curve", [row.to_dict() for row in found.curve])
    save(evaluation_figure(name, found.curve, train_length), run, "curve")


@styled
def evaluation_figure(name: str, curve: Sequence[CurveRow], train_length: int | None) -> Figure:
    """Draw bits by position.

    Args:
        name: the model's.
        curve: rows of one or more methods.
        train_length: T, where it is known.

    Returns:
        One panel, or two above each other where the control was run and is not alone.
    """
    methods = list(dict.fromkeys(row.method for row in curve))
    against = [m for m in methods if m != CONTROL] if CONTROL in methods else []
    figure = new_figure(name, "bits per token along the text", 5.0 if against else 3.0)
    panels = figure.subplots(2 if against else 1, 1, sharex=True, squeeze=False)[:, 0]
    looks = _looks(methods)
    for method in methods:
        rows = [row for row in curve if row.method == method]
        middles = [(row.start * row.stop) ** 0.5 for row in rows]
        _line(panels[0], middles, [(r.bits_per_token, r.ci_low, r.ci_high) for r in rows], looks[method])
        if method in against:
            above = [(r.above_control, r.above_ci_low, r.above_ci_high) for r in rows]
            _line(panels[1], middles, above, looks[method])
    panels[0].set_ylabel("bits per token")
    from_zero(panels[0])
    if against:
        panels[1].set_ylabel("bits more than the control,\non the same tokens")
        difference_axis(panels[1])
    token_axis(panels[-1], f"position in the text (tokens){_documents_text(curve)}")
    for axes in panels:
        mark_lengths(axes, train_length)
    panels[0].legend(loc="best")
    return figure


def _looks(methods: Sequence[str]) -> dict[str, MethodStyle]:
    """Give each method its style; those without one of their own get a colour each."""
    looks, spare = {}, iter(UNNAMED * len(methods))
    for method in methods:
        own = method_style(method)
        known = own.line != ":"
        looks[method] = own if known else MethodStyle(own.label, next(spare), own.marker, "-")
    return looks


def _line(
    axes: Axes, middles: list[float], values: list[tuple[float | None, float | None, float | None]], look: MethodStyle
) -> None:
    mean, low, high = (np.array(column, dtype=float) for column in zip(*values, strict=True))  # None becomes NaN
    axes.plot(middles, mean, color=look.colour, linestyle=look.line, label=look.label)
    if not np.isnan(low).all():  # one document has no spread
        axes.fill_between(middles, low, high, where=~np.isnan(low), color=look.colour, alpha=0.15, linewidth=0)


def _documents_text(curve: Sequence[CurveRow]) -> str:
    counts = sorted({row.documents for row in curve})
    first = f"{counts[-1]} document{'s' if counts[-1] != 1 else ''}"
    return f"; {first}" + (f", {counts[0]} at the end" if len(counts) > 1 else "")
