"""Methods by length, drawn: constants by factor, and every method on every corpus.

The first is like Figures 2 and 5 of Mamba Modulation, the others like its Figures 3, 6 and 7. Harm is shown beside
perplexity, as texts differ more than methods do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from mambascope.analysis.compare import Comparison
from mambascope.analysis.methods.method import Choice
from mambascope.analysis.methods.plain import FRESH
from mambascope.spectra.scales import KINDS

from .curves import difference_axis
from .lengths import token_axis
from .style import MethodStyle, new_figure, plain, styled

_LOOKS = {
    "none": ("no scaling", "#D55E00", "o", "-"),
    FRESH: ("fresh-window control", "#000000", "^", "--"),
    "spectrum": ("spectrum-guided", "#0072B2", "D", "-"),
    "spectrum+calibrated": ("spectrum-guided, calibrated", "#56B4E9", "d", "-"),
    "heads": ("per head, calibrated from 1", "#7F3C8D", "P", "-."),
    "mambaextend": ("MambaExtend (dt, layer)", "#E69F00", "X", "-."),
    "mamba-modulation": ("Mamba Modulation (power, layer)", "#CC79A7", "v", "-."),
    "mamba-modulation:a": ("Mamba Modulation (A, layer)", "#882255", "p", "-."),
    "constant:a:best": ("best constant on A", "#009E73", "s", ":"),
    "constant:a_power:best": ("best constant power", "#44AA99", "<", ":"),
    "constant:dt:best": ("best constant on dt", "#117733", ">", ":"),
    "decimamba": ("DeciMamba", "#B8860B", "X", "-."),
    "longmamba": ("LongMamba", "#661100", "<", "-."),
    "longmamba:bound": ("LongMamba, bound", "#661100", ">", "-."),
    "longmamba:norm": ("LongMamba, norm", "#661100", "^", "-."),
    "winsorize": ("winsorized", "#6699CC", "v", "-."),
    "state-passing": ("state of other text", "#AA4466", "o", "-."),
    "state-passing:noise": ("state of noise", "#AA4466", "s", "-."),
    "full-finetuning": ("all weights trained", "#333333", "*", "-."),
}
_SPARE = (("#999933", "*"), ("#661100", "h"), ("#6699CC", "H"), ("#AA4466", "1"), ("#888888", "8"))
"""For methods without a look of their own; they repeat."""
BEST_COLOUR = "#009E73"
CUT_AT = 8.0
"""A perplexity axis ends at so many times its least value. Ours: one broken method would hide all others; harm, on its
own axis, is shown in full."""
MOST_CONSTANTS = 2
"""Fixed constants that a figure of all methods shows, those nearest to the control. Ours: more hide the rest."""


def looks_of(methods: Sequence[str]) -> dict[str, MethodStyle]:
    """Return how methods look, no two of them alike up to five without a look of their own.

    Args:
        methods: their names.

    Returns:
        The styles by name.
    """
    spare = [method for method in methods if method not in _LOOKS]
    found = {}
    for method in methods:
        if method in _LOOKS:
            found[method] = MethodStyle(*_LOOKS[method])
        else:
            colour, marker = _SPARE[spare.index(method) % len(_SPARE)]
            found[method] = MethodStyle(plain(_label(method)), colour, marker, ":")
    return found


def _label(method: str) -> str:
    word, _, rest = method.partition(":")
    kind, _, factor = rest.partition(":")
    forms = {"a": f"A x {factor}", "a_power": f"|A|^{factor}", "dt": f"dt x {factor}"}
    return forms.get(kind, method) if word == "constant" else method


def shown(found: Comparison) -> list[str]:
    """Return the methods that a figure shows: all but the worst of the fixed constants."""
    corpus = found.corpora()[0]
    longest = found.lengths(corpus)[-1]
    fixed = [m.method for m in found.fitted if m.method.startswith("constant:") and not m.method.endswith(":best")]
    harms = {m: found.row(corpus, m, longest).harm for m in fixed}
    kept = [m for _, m in sorted((h, m) for m, h in harms.items() if h is not None)][:MOST_CONSTANTS]
    return [m.method for m in found.fitted if m.method not in fixed or m.method in kept]


@styled
def constants_figure(found: Comparison) -> Figure:
    """Draw validation tail bits by length for every constant that was tried.

    Args:
        found: a finished comparison with a search among its methods.

    Returns:
        A panel a kind.
    """
    choices = [choice for each in found.fitted for choice in each.choices]
    kinds = [kind for kind in KINDS if any(c.kind == kind for c in choices)]
    title = f"one constant s for the whole model, on validation {found.fit_on} (black: s = 1, green: best)"
    figure = new_figure(found.model, title, 3.0)
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        _constants(axes, figure, [c for c in choices if c.kind == kind], kind)
    panels[0].set_ylabel("tail bits per token")
    return figure


def _constants(axes: Axes, figure: Figure, choices: Sequence[Choice], kind: str) -> None:
    factors = sorted({c.factor for c in choices})
    ends = max(abs(np.log2(factors[0])), abs(np.log2(factors[-1])))
    colours = mpl.cm.ScalarMappable(mpl.colors.Normalize(-ends, ends), mpl.colormaps["coolwarm"])
    for factor in factors:
        line = sorted((c.length, c.tail_bits) for c in choices if c.factor == factor and c.tail_bits is not None)
        if line:
            own = np.isclose(factor, 1)
            look: dict[str, Any] = (
                {"color": "#000000", "linewidth": 1.8} if own else {"color": colours.to_rgba(np.log2(factor))}
            )
            axes.plot([n for n, _ in line], [b for _, b in line], zorder=3 if own else 2, **look)
    best: dict[int, Choice] = {}
    for choice in choices:
        if choice.tail_bits is not None:
            before = best.get(choice.length)
            if before is None or before.tail_bits is None or choice.tail_bits < before.tail_bits:
                best[choice.length] = choice
    points = [(n, c.tail_bits, c.factor) for n, c in sorted(best.items()) if c.tail_bits is not None]
    axes.plot([n for n, _, _ in points], [b for _, b, _ in points], "s", color=BEST_COLOUR, markersize=5, zorder=4)
    names = {"a": "A -> s A", "a_power": "|A| -> |A|^s", "dt": "dt -> s dt"}
    axes.set_title(f"{names[kind]}, best s: {points[0][2]:.3g} to {points[-1][2]:.3g}", pad=4)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_locator(LogLocator(base=2))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    token_axis(axes, "length (tokens)")
    figure.colorbar(colours, ax=axes, label="log2 of the factor", shrink=0.8)


@styled
def perplexity_figure(comparisons: Sequence[Comparison]) -> Figure:
    """Draw perplexity by length: a row a model, a panel a corpus.

    Args:
        comparisons: finished comparisons on the same corpora.

    Returns:
        The figure.
    """

    def draw(axes: Axes, found: Comparison, corpus: str, method: str, style: MethodStyle, place: float) -> None:
        lengths = found.lengths(corpus)
        rows = [found.row(corpus, method, n) for n in lengths]
        points = [(r.length, r.perplexity) for r in rows if r.perplexity is not None]
        axes.plot(
            [n for n, _ in points], [p for _, p in points], color=style.colour, marker=style.marker,
            linestyle=style.line, label=style.label, markersize=3.5, linewidth=1.1,
        )  # fmt: skip

    def finish(row: Sequence[Axes]) -> None:
        for axes in row:  # texts differ: every panel has its own axis
            least, most = (float(end) for end in axes.dataLim.intervaly)
            axes.set_yscale("log", base=2)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_ylim(least / 1.1, min(most * 1.1, least * CUT_AT))
            if most * 1.1 > least * CUT_AT:
                axes.set_title(f"{axes.get_title(loc='left')}, cut at {least * CUT_AT:.0f}", pad=4)

    return _grid(comparisons, "perplexity by length", "perplexity", draw, finish, share=False)


@styled
def harm_figure(comparisons: Sequence[Comparison]) -> Figure:
    """Draw harm by length with its 95 % interval: a row a model, a panel a corpus.

    Args:
        comparisons: finished comparisons on the same corpora.

    Returns:
        The figure.
    """

    def draw(axes: Axes, found: Comparison, corpus: str, method: str, style: MethodStyle, place: float) -> None:
        if method == FRESH:
            return
        lengths = found.lengths(corpus)
        rows = [(r.harm, r) for r in (found.row(corpus, method, n) for n in lengths) if r.harm is not None]
        shift = 2 ** (0.5 * (place - 0.5))  # side by side, not on top
        x = [r.length * shift for _, r in rows]
        axes.plot(
            x, [harm for harm, _ in rows], color=style.colour, marker=style.marker, linestyle=style.line,
            label=style.label, markersize=3.5, linewidth=1.1,
        )  # fmt: skip
        for at, (_, row) in zip(x, rows, strict=True):
            if row.harm_low is not None and row.harm_high is not None:
                axes.vlines(at, row.harm_low, row.harm_high, color=style.colour, linewidth=0.9, alpha=0.7)

    def finish(row: Sequence[Axes]) -> None:
        ends = []
        for axes in row:
            difference_axis(axes)
            ends.append(axes.get_ylim())
        row[0].set_ylim(min(low for low, _ in ends), max(high for _, high in ends))  # the row shares its axis

    return _grid(comparisons, "harm by length", "bits more than the control", draw, finish)


Draw = Callable[[Axes, Comparison, str, str, MethodStyle, float], None]


def _grid(
    comparisons: Sequence[Comparison],
    title: str,
    label: str,
    draw: Draw,
    finish: Callable[[Sequence[Axes]], None],
    *,
    share: bool = True,
) -> Figure:
    corpora = list(dict.fromkeys(corpus for found in comparisons for corpus in found.corpora()))
    name = comparisons[0].model if len(comparisons) == 1 else f"{len(comparisons)} models"
    figure = new_figure(name, title, 1.1 + 2.5 * len(comparisons))
    grid = figure.subplots(len(comparisons), len(corpora), squeeze=False, sharey="row" if share else "none")
    looks = looks_of(list(dict.fromkeys(method for found in comparisons for method in shown(found))))
    handles: dict[str, Any] = {}
    for row, found in zip(grid, comparisons, strict=True):
        for axes, corpus in zip(row, corpora, strict=True):
            if corpus not in found.corpora():
                axes.set_visible(False)
                continue
            for place, method in enumerate(shown(found)):
                draw(axes, found, corpus, method, looks[method], place / len(found.fitted))
            documents = found.row(corpus, "none", found.lengths(corpus)[0]).documents
            axes.set_title(f"{plain(corpus, 24)} ({documents} texts)", pad=4)
            token_axis(axes, "length (tokens)")
            for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(text, handle)
        finish([axes for axes in row if axes.get_visible()])
        row[0].set_ylabel(label if len(comparisons) == 1 else f"{plain(found.model, 32)}\n{label}")
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4)
    return figure
