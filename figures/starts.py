"""What a start is worth: loss against forward passes, and layer factors from several starts side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mambascope.analysis.runs import RunFolder
from mambascope.analysis.starts_study import START_LABELS, StartsStudy
from mambascope.analysis.starts_study.entries import LayerEntry
from mambascope.analysis.starts_study.scores import less

from .curves import LINEAR_BELOW_BITS, difference_axis
from .lengths import tokens_text
from .style import MARK_COLOUR, MethodStyle, new_figure, save, styled
from .tables import write_table

STARTS = {
    "spectrum": MethodStyle("spectrum (the proposal)", "#0072B2", "D", "-"),
    "projected": MethodStyle("the proposal, one factor a layer", "#56B4E9", "P", "-"),
    "ones": MethodStyle("ones", "#D55E00", "o", "--"),
    "constant": MethodStyle("best constant", "#009E73", "s", "-."),
    "uniform": MethodStyle("uniform on (0, 1)", "#CC79A7", "v", ":"),
    "log-uniform": MethodStyle("log-uniform on [1, largest proposed]", "#777777", "X", (0, (5, 1, 1, 1, 1, 1))),  # type: ignore[arg-type]
    "none": MethodStyle("no scaling", "#000000", "x", "-"),
    "proposal": MethodStyle("the proposal itself", "#000000", "D", "-"),
}
"""Looks of the starts; each has a marker and a line of its own for readers in grey."""

LAYER_STARTS = {
    "spectrum": "on top of the proposal",
    "projected": "from the reduced proposal",
    "uniform": "from uniform on (0, 1)",
}
"""Starts of layer factors, for the labels of rows."""

METHOD_NAMES = {
    "spsa": "SPSA",
    "spsa-paper": "SPSA as in the paper",
    "spsa-released": "SPSA as released",
    "backprop": "back-propagation",
}


def _pass_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [n * 10**k for k in range(7) for n in (1, 2, 5) if low <= n * 10**k <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("forward passes over one window")


@styled
def passes_figure(study: StartsStudy) -> Figure:
    """Draw the best selection bits so far against forward passes, less the control's.

    Args:
        study: a finished comparison.

    Returns:
        One panel a method.
    """
    p = study.plan
    each = "channel and state" if p.granularity == "state" else p.granularity
    title = f"{p.kind}, one factor a {each}: what a start is worth, L = {tokens_text(p.target_length)}"
    figure = new_figure(study.model, title, 3.6)
    panels = figure.subplots(1, len(p.methods), sharey=True, squeeze=False)[0]
    for axes, method in zip(panels, p.methods, strict=True):
        for label in START_LABELS:
            runs = study.of("starts", method=method, label=label)
            look = STARTS[label]
            curves = [np.array(run.curve) for run in runs]
            for curve in curves:
                axes.plot(
                    curve[:, 0], curve[:, 1] - study.selection_control, color=look.colour, linewidth=0.5, alpha=0.6,
                    drawstyle="steps-post",
                )  # fmt: skip
            middle = np.median(np.stack([curve[:, 1] for curve in curves]), axis=0) - study.selection_control
            axes.plot(
                curves[0][:, 0], middle, color=look.colour, linestyle=look.line, linewidth=2.0, marker=look.marker,
                label=look.label, drawstyle="steps-post",
            )  # fmt: skip
        axes.set_title(METHOD_NAMES[method])
        _pass_axis(axes)
        unscaled = study.selection_unscaled - study.selection_control
        axes.axhline(unscaled, color=MARK_COLOUR, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    panels[0].set_ylabel("selection bits above the control,\nbest so far")
    difference_axis(panels[0])
    values = [bits - study.selection_control for run in study.of("starts") for _, bits in run.curve]
    reach = max([*values, study.selection_unscaled - study.selection_control])
    panels[0].set_ylim(min(-LINEAR_BELOW_BITS / 2, 1.5 * min(values)), 2 * max(reach, LINEAR_BELOW_BITS))
    for axes in panels:
        axes.axhline(0, color=MARK_COLOUR, linewidth=0.8, zorder=1)
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "color": MARK_COLOUR, "fontsize": 7}
        unscaled = study.selection_unscaled - study.selection_control
        axes.text(1.0, unscaled, "no scaling", ha="right", va="bottom", **place)
        axes.text(0.01, 0, "fresh-window control", ha="left", va="top", **place)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _place(entries: list[LayerEntry]) -> list[float]:
    """Return a height for each entry, room for a heading before each method and a gap before each kind."""
    heights, y = [], 0.0
    for before, entry in zip([entries[0], *entries], entries, strict=False):
        y += 2.7 if entry.method != before.method else 1.5 if entry.kind != before.kind else 1.0
        heights.append(y)
    return heights


@styled
def layers_figure(study: StartsStudy) -> Figure:
    """Draw the harm of layer factors on test text, with intervals over documents.

    Args:
        study: a finished comparison with a second part.

    Returns:
        One panel; seeds that selection text did not choose are small.
    """
    entries = study.layers()
    heights = _place(entries)
    title = f"one factor a layer from several starts, {study.plan.layer_passes} forward passes each"
    figure = new_figure(study.model, title, 1.0 + 0.155 * heights[-1])
    axes = figure.subplots()
    names, headed = [], None
    for entry, y in zip(entries, heights, strict=True):
        look = STARTS[entry.label]
        harm = less(entry.score.tail, study.control.tail)
        assert harm is not None
        axes.plot(harm.mean, y, color=look.colour, marker=look.marker, markersize=5, linestyle="none")
        if harm.low is not None and harm.high is not None:
            axes.hlines(y, harm.low, harm.high, color=look.colour, linewidth=1.5)
        others = study.of("layers", method=entry.method, kind=entry.kind, label=entry.label) if entry.method else []
        for run in others:
            if run.task.plan.seed != entry.seed:
                of_seed = less(run.final.tail, study.control.tail)
                assert of_seed is not None
                axes.plot(of_seed.mean, y, color=look.colour, marker=look.marker, markersize=2.5, linestyle="none")
        names.append(entry.name if entry.method is None else f"{entry.kind}, {LAYER_STARTS[entry.label]}")
        if entry.method != headed:
            headed = entry.method
            place: dict[str, Any] = {
                "transform": axes.get_yaxis_transform(),
                "ha": "right",
                "va": "center",
                "fontweight": "bold",
            }
            axes.text(-0.01, y - 1.0, METHOD_NAMES[str(headed)], **place)
    axes.set_ylim(heights[-1] + 0.8, 0.2)
    _harm_axis(axes, study, entries)
    axes.set_yticks(heights, names)
    axes.tick_params(axis="y", length=0)
    axes.axvline(0, color=MARK_COLOUR, linewidth=0.8, zorder=1)
    return figure


def _harm_axis(axes: Axes, study: StartsStudy, entries: list[LayerEntry]) -> None:
    """Make the x axis linear near zero and logarithmic beyond."""
    ends = [less(e.score.tail, study.control.tail) for e in entries]
    ends += [less(run.final.tail, study.control.tail) for run in study.of("layers")]
    low = min(e.mean if e.low is None else e.low for e in ends if e)
    high = max(e.mean if e.high is None else e.high for e in ends if e)
    axes.set_xscale("symlog", linthresh=LINEAR_BELOW_BITS, linscale=0.8)
    reach = LINEAR_BELOW_BITS * 10.0 ** np.arange(5)
    axes.xaxis.set_major_locator(FixedLocator([*(-reach), 0.0, *reach]))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axes.set_xlim(min(-LINEAR_BELOW_BITS, 2 * low), max(LINEAR_BELOW_BITS, 2 * high))
    axes.set_xlabel(f"harm on test text at L = {tokens_text(study.plan.target_length)} (bits more than the control)")


def write_starts(run: RunFolder, study: StartsStudy) -> None:
    """Write tables and figures of a comparison into its run folder.

    Args:
        run: the folder; it records the files as its own.
        study: a finished comparison.
    """
    write_table(run, "starts_curves", study.curve_rows())
    write_table(run, "starts_test", study.test_rows())
    write_table(run, "starts_passes", [ratio.row() for ratio in study.ratios()])
    constants = [{"factor": s, "selection_tail_bits": bits} for s, bits in study.constants.items()]
    write_table(run, "starts_constants", constants)
    write_table(run, "starts_found", [{"found": sentence} for sentence in study.sentences()])
    save(passes_figure(study), run, "starts-passes")
    if study.plan.layer_kinds:
        write_table(run, "starts_layers", study.layer_rows())
        save(layers_figure(study), run, "starts-layers")
