"""A row a method: harm at every length with its interval, what it buys with memory, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mambascope.analysis.compare import Comparison
from mambascope.analysis.compare_rows import CompareRow
from mambascope.analysis.evaluate.position_sums import LAST
from mambascope.analysis.methods.plain import FRESH

from .compare_plots import looks_of, shown
from .lengths import tokens_text
from .style import MARK_COLOUR, new_figure, plain, styled

INCHES_A_METHOD = 0.2
LINEAR_BELOW_BITS = 0.01
"""Where the axis of harm turns from linear to logarithmic, as in the other figures of harm."""
LENGTH_MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def ranked(found: Comparison) -> list[str]:
    """Return the methods but the control, the least harm at the longest length first, broken ones last."""
    corpus = found.corpora()[0]
    longest = found.lengths(corpus)[-1]

    def harm(method: str) -> float:
        row = found.row(corpus, method, longest)
        value = row.last_harm if row.harm is None else row.harm
        return np.inf if value is None else value

    return sorted((each.method for each in found.fitted if each.method != FRESH), key=harm)


@styled
def methods_figure(found: Comparison) -> Figure:
    """Draw the harm of every method at every length with its 95 % interval: a panel a corpus, two kinds of harm.

    Args:
        found: a finished comparison.

    Returns:
        The figure; by the last tokens, methods that drop others have numbers, too. Lengths without a number are left
        out, and a row without any says why.
    """
    methods, corpora = ranked(found), found.corpora()
    title = "bits more than the fresh-window control, by method and length, 95 % interval over texts"
    figure = new_figure(found.model, title, 1.4 + 2 * INCHES_A_METHOD * len(methods))
    grid = figure.subplots(2, len(corpora), sharex=True, sharey=True, squeeze=False)
    kinds = ("second half", f"last {LAST} tokens")
    for line, kind in zip(grid, kinds, strict=True):
        for axes, corpus in zip(line, corpora, strict=True):
            _harms(axes, found, corpus, methods, last=kind != kinds[0])
            documents = found.row(corpus, "none", found.lengths(corpus)[0]).documents
            axes.set_title(f"{plain(corpus, 24)} ({documents} texts), {kind}", pad=4)
    _harm_axis([axes for line in grid for axes in line])
    for line in grid:
        _method_axis(line[0], methods)
    for axes in grid[-1]:
        axes.set_xlabel("harm (bits per token)")
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=4, label=tokens_text(n))
        for n, (colour, marker) in _length_looks(found).items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), title="length (tokens)")
    return figure


def _length_looks(found: Comparison) -> dict[int, tuple[str, str]]:
    lengths = sorted({row.length for row in found.rows})
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(lengths)))
    return {
        n: (mpl.colors.to_hex(shade), LENGTH_MARKERS[k % len(LENGTH_MARKERS)])
        for k, (n, shade) in enumerate(zip(lengths, shades, strict=True))
    }


def _harms(axes: Axes, found: Comparison, corpus: str, methods: Sequence[str], *, last: bool) -> None:
    lengths, looks = found.lengths(corpus), _length_looks(found)
    for place, method in enumerate(methods):
        missing = 0
        for k, length in enumerate(lengths):
            mean, low, high = _ends(found.row(corpus, method, length), last=last)
            if mean is None:
                missing += 1
                continue
            y = place + 0.5 * ((k + 0.5) / len(lengths) - 0.5)  # side by side, not on top
            colour, marker = looks[length]
            axes.plot([mean], [y], marker=marker, color=colour, markersize=3, linestyle="")
            if low is not None and high is not None:
                axes.hlines(y, low, high, color=colour, linewidth=0.9)
        if missing == len(lengths):
            broken = found.row(corpus, method, lengths[-1]).last_bits is None
            told = "broken" if broken else "only the last tokens"
            axes.text(0.98, place, told, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=6)


def _ends(row: CompareRow, *, last: bool) -> tuple[float | None, float | None, float | None]:
    if last:
        return row.last_harm, row.last_harm_low, row.last_harm_high
    return row.harm, row.harm_low, row.harm_high


def _harm_axis(panels: Sequence[Axes]) -> None:
    """Give panels that share their x axis one that is linear near zero and logarithmic beyond."""
    ends = [end for axes in panels for end in axes.dataLim.intervalx if np.isfinite(end)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 0.0)
    reach = LINEAR_BELOW_BITS * 10.0 ** np.arange(5)
    for axes in panels:
        axes.set_xscale("symlog", linthresh=LINEAR_BELOW_BITS, linscale=0.8)
        axes.xaxis.set_major_locator(FixedLocator([*(-reach), 0.0, *reach]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
        axes.tick_params(axis="x", labelrotation=45)
        axes.axvline(0, color=MARK_COLOUR, linewidth=0.8, zorder=1)
    panels[0].set_xlim(min(-LINEAR_BELOW_BITS, 1.5 * low), max(LINEAR_BELOW_BITS, 1.5 * high))


def _method_axis(axes: Axes, methods: Sequence[str]) -> None:
    axes.set_yticks(range(len(methods)), [plain(method, 28) for method in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)


@styled
def keys_figure(found: Comparison) -> Figure:
    """Draw the share of pass keys found against harm: up and to the left is better, and a trade shows as a diagonal.

    Args:
        found: a finished comparison with keys.

    Returns:
        A panel a length of prompts.
    """
    corpus = found.corpora()[0]
    longest, lengths = found.lengths(corpus)[-1], found.keys.lengths()
    title = f"pass keys found against harm on {corpus} at {tokens_text(longest)} tokens, both with 95 % intervals"
    some = shown(found)
    methods = [m for m in ranked(found) if m in some and found.row(corpus, m, longest).harm is not None]
    figure = new_figure(found.model, title, 2.8 + 0.06 * len(methods))
    panels = figure.subplots(1, len(lengths), sharex=True, sharey=True, squeeze=False)[0]
    looks = looks_of(methods)
    for axes, length in zip(panels, lengths, strict=True):
        for method in methods:
            row, share, look = found.row(corpus, method, longest), found.keys.at(method, length), looks[method]
            if share is None or row.harm is None:
                continue
            axes.plot([row.harm], [share.share], look.marker, color=look.colour, label=look.label, markersize=4.5)
            axes.vlines(row.harm, share.low, share.high, color=look.colour, linewidth=0.8, alpha=0.6)
            if row.harm_low is not None and row.harm_high is not None:
                axes.hlines(share.share, row.harm_low, row.harm_high, color=look.colour, linewidth=0.8, alpha=0.6)
        axes.set_title(f"prompts of {tokens_text(length)} tokens", pad=4)
        axes.set_xlabel("harm (bits per token)")
        axes.set_ylim(-0.03, 1.03)
    _harm_axis(panels)
    panels[0].set_ylabel("share of keys found")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


@styled
def costs_figure(found: Comparison) -> Figure:
    """Draw what fitting took and how fast each method runs, as measured on one machine.

    Args:
        found: a finished comparison.

    Returns:
        Three panels with a row a method.
    """
    methods = [*ranked(found), FRESH]
    title = "what each method costs on the machine that ran this"
    figure = new_figure(found.model, title, 1.2 + INCHES_A_METHOD * len(methods))
    panels = figure.subplots(1, 3, sharey=True)
    kinds = (
        ("fit_seconds", 1.0, "seconds to fit"),
        ("fit_peak_bytes", 1e-6, "memory to fit (MB)"),
        ("tokens_per_second", 1e-3, "thousand tokens a second"),
    )
    for axes, (name, unit, label) in zip(panels, kinds, strict=True):
        for place, method in enumerate(methods):
            value = found.cost(method).get(name)
            if value is not None:
                axes.barh(place, value * unit, color="#0072B2", height=0.6)
                text = f"{value * unit:,.1f}" if value * unit < 100 else f"{value * unit:,.0f}"
                axes.annotate(text, (value * unit, place), (2, 0), textcoords="offset points", va="center", fontsize=6)
        axes.set_xlabel(label)
        axes.margins(x=0.25)
    _method_axis(panels[0], methods)
    return figure
