"""Predicted harm beside measured harm: one model by length, a panel for each of several, and all in one scatter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from mambascope.analysis.atomic import write_json
from mambascope.analysis.forecast import HARM_BITS, Forecast
from mambascope.analysis.forecast_agreement import TIMES, agreement
from mambascope.analysis.forecast_check import Checked
from mambascope.analysis.runs import RunFolder

from .curves import LINEAR_BELOW_BITS, difference_axis
from .lengths import tokens_text
from .style import MARK_COLOUR, new_figure, plain, save, styled
from .tables import write_table

PREDICTED_COLOUR = "#0072B2"
MEASURED_COLOUR = "#D55E00"
TIMES_STYLE = {2: ("o", "#56B4E9"), 4: ("s", "#009E73"), 16: ("D", "#E69F00"), 64: ("^", "#D55E00")}
"""Marker and colour of each multiple of T."""
COLUMNS = 4


def write_forecasts(run: RunFolder, found: Sequence[Forecast], checked: Sequence[Checked]) -> None:
    """Write tables and figures.

    Args:
        run: the folder; it records the files as its own.
        found: the forecasts.
        checked: the same beside measurements; empty if none were made.

    Raises:
        NotFiniteError: a number is NaN or infinite.
        StorageError: a file could not be written.
    """
    rows = [row for one in checked for row in one.rows()]
    write_table(run, "forecast", rows or [{"model": one.name} | row for one in found for row in one.rows()])
    save(forecast_figure(found, checked), run, "forecast")
    if checked:
        write_table(run, "onset", [one.onsets() for one in checked])
    if agreed := agreement(checked):
        write_json(run.output("agreement.json"), agreed.to_dict())
        save(agreement_figure(checked), run, "agreement")


def _harms(axes: Axes, forecast: Forecast, checked: Checked | None, unit: float) -> None:
    """Draw the forecast as a line with a band and what was measured as points with intervals; lengths over ``unit``."""
    lengths = forecast.lengths
    x = np.array(lengths) / unit
    harm = np.array([forecast.harm(n) for n in lengths])
    error = 2 * np.array([forecast.error(n) for n in lengths])
    axes.plot(x, harm, color=PREDICTED_COLOUR, label="foretold, from windows of T tokens (2 s.e.)")
    axes.fill_between(x, harm - error, harm + error, color=PREDICTED_COLOUR, alpha=0.2, linewidth=0)
    if checked:
        measured = [checked.harm(n) for n in lengths]
        label = "measured on test text (95 % interval)"
        axes.plot(x, measured, color=MEASURED_COLOUR, marker="o", markersize=3.5, linestyle="none", label=label)
        for row in checked.measured:
            if row.harm_ci_low is not None and row.harm_ci_high is not None:
                axes.vlines(row.length / unit, row.harm_ci_low, row.harm_ci_high, color=MEASURED_COLOUR, linewidth=1.2)


def _top(found: Sequence[Forecast], checked: Sequence[Checked]) -> float:
    """Return an upper end for the axis of harm."""
    highest = max(one.harm(n) for one in found for n in one.lengths)
    return 2 * max([highest, HARM_BITS, *(row.harm or 0 for one in checked for row in one.measured)])


def _harm_axis(axes: Axes, top: float) -> None:
    """Make the y axis harm, with a line where a model counts as broken down."""
    difference_axis(axes)
    axes.set_ylim(min(-2 * LINEAR_BELOW_BITS, axes.get_ylim()[0]), top)
    axes.axhline(HARM_BITS, color=MARK_COLOUR, linewidth=0.7, linestyle=(0, (2, 2)), zorder=1)


@styled
def outcome_figure(checked: Checked) -> Figure:
    """Draw one model's harm by length, foretold and measured.

    Args:
        checked: a forecast and what came of it.

    Returns:
        One panel.
    """
    forecast = checked.forecast
    figure = new_figure(forecast.name, "harm, foretold and measured", 2.9)
    axes = figure.subplots()
    _harms(axes, forecast, checked, 1)
    _harm_axis(axes, _top([forecast], [checked]))
    axes.set_ylabel("harm (bits more than the control)")
    axes.set_xscale("log", base=2)
    names = {forecast.train_length: "T = ", forecast.target_length: "L = "}
    at = forecast.lengths
    axes.set_xticks(at, [names.get(n, "") + tokens_text(n) for n in at])
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.set_xlabel("length (tokens)")
    look: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "color": MARK_COLOUR}
    axes.text(1.005, HARM_BITS, f"{HARM_BITS:g}", **look)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@styled
def forecast_figure(found: Sequence[Forecast], checked: Sequence[Checked] = ()) -> Figure:
    """Draw predicted harm by length, and measured harm where it is there.

    Args:
        found: one forecast a panel.
        checked: the same forecasts with measurements, in the same order; or none.

    Returns:
        A grid of panels, all with the same axis of harm.
    """
    columns = min(COLUMNS, len(found))
    lines = -(-len(found) // columns)
    name = found[0].name if len(found) == 1 else f"{len(found)} models"
    one_T = len({one.train_length for one in found}) == 1
    title = "harm beyond the training length" + (f" (T = {tokens_text(found[0].train_length)})" if one_T else "")
    figure = new_figure(name, title, 0.9 + 1.7 * lines, max(3.6, 1.85 * columns))
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    panels = [axes for line in grid for axes in line]
    top = _top(found, checked)
    for k, (axes, one) in enumerate(zip(panels, found, strict=False)):
        _harms(axes, one, checked[k] if checked else None, one.train_length)
        _harm_axis(axes, top)
        axes.set_title(plain(one.name, 26), pad=4)
        if not one_T:
            said = f"T = {tokens_text(one.train_length)}"
            axes.text(0.04, 0.94, said, transform=axes.transAxes, va="top", color=MARK_COLOUR)
        axes.set_xscale("log", base=2)
        furthest = max(each.target_length / each.train_length for each in found)
        axes.xaxis.set_major_locator(FixedLocator([4.0**k for k in range(12) if 4.0**k <= furthest]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    for k in range(len(found)):
        if k + columns >= len(found):
            panels[k].tick_params(labelbottom=True)
            panels[k].set_xlabel("length / T")
        if k % columns == 0:
            panels[k].set_ylabel("harm (bits)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 if columns > 2 else 1)
    return figure


@styled
def agreement_figure(checked: Sequence[Checked]) -> Figure:
    """Draw measured against predicted harm, a point a model and multiple of T.

    Args:
        checked: two models or more.

    Returns:
        One panel; on the line both are equal.
    """
    found = agreement(checked)
    rank = "" if found is None or found.rank is None else f", rank correlation {found.rank:.2f}"
    figure = new_figure(f"{len(checked)} models", f"harm, foretold and measured{rank}", 4.2, 4.4)
    axes = figure.subplots()
    for times in TIMES:
        marker, colour = TIMES_STYLE[times]
        at = [one for one in checked if times * one.forecast.train_length in one.forecast.lengths]
        x = [one.forecast.harm(times * one.forecast.train_length) for one in at]
        y = [one.harm(times * one.forecast.train_length) for one in at]
        axes.scatter(x, y, s=22, marker=marker, color=colour, edgecolors="white", linewidths=0.4, label=f"{times} T")
    low = min(axes.dataLim.intervalx[0], axes.dataLim.intervaly[0])
    high = max(axes.dataLim.intervalx[1], axes.dataLim.intervaly[1])
    limits = (min(-LINEAR_BELOW_BITS, 2 * low), max(2 * LINEAR_BELOW_BITS, 2 * high))
    axes.plot(limits, limits, color=MARK_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    difference_axis(axes)
    axes.set_xscale("symlog", linthresh=LINEAR_BELOW_BITS, linscale=0.8)
    axes.xaxis.set_major_locator(axes.yaxis.get_major_locator())
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.xaxis.set_major_formatter(axes.yaxis.get_major_formatter())
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set_xlabel("predicted harm (bits per token)")
    axes.set_ylabel("measured harm (bits per token)")
    axes.legend(loc="upper left")
    return figure
