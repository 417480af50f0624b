"""One place for colours, fonts and sizes, and for writing figures so that equal inputs give equal bytes.

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers; every method also has a marker and a line
style of its own. Figures are ``matplotlib.figure.Figure`` objects: pyplot and its global state stay out.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mambascope.analysis.atomic import replacing, write_text
from mambascope.analysis.runs import RunFolder

from .csv_rows import csv_text
from .drawn_data import drawn_rows

P = ParamSpec("P")

WIDE_INCHES = 7.2
"""Text width of a two-column paper."""
PNG_DPI = 200
PICTURES = ("png", "pdf", "svg")
"""Formats that every figure is written in."""
BEYOND_COLOUR = "#f0f0f0"
MARK_COLOUR = "#444444"
LAYER_COLOURS = "viridis"
LAYERS_IN_LEGEND = 8
"""Up to this many layers a legend names each; more get a colour bar."""

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs on every machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titlepad": 14,  # room for the labels of T and L between a title and its axes
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.titlesize": 9,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # TrueType, as publishers ask for
    "svg.hashsalt": "mambascope",
    "svg.fonttype": "path",
}


@dataclass(frozen=True, slots=True)
class MethodStyle:
    """How a method looks, everywhere."""

    label: str
    """Name for people."""
    colour: str
    """Hexadecimal colour."""
    marker: str
    """Matplotlib marker."""
    line: str
    """Matplotlib line style."""


METHODS = {
    "none": MethodStyle("no scaling", "#D55E00", "o", "-"),
    "constant": MethodStyle("best constant", "#009E73", "s", "-"),
    "spectrum": MethodStyle("spectrum-guided", "#0072B2", "D", "-"),
    "calibrated": MethodStyle("calibrated", "#CC79A7", "v", "-."),
    "fresh-window": MethodStyle("fresh-window control", "#000000", "^", "--"),
}


def method_style(method: str) -> MethodStyle:
    """Return a method's style; one that is not known here is drawn in grey under its own name."""
    return METHODS.get(method) or MethodStyle(plain(method), "#7F7F7F", "x", ":")


def plain(text: str, at_most: int = 60) -> str:
    """Return a text that matplotlib draws as it is: no formula, no glyph that its font lacks."""
    known = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    return (known if len(known) <= at_most else known[: at_most - 3] + "...").replace("$", r"\$")


def slugs(names: Sequence[str]) -> list[str]:
    """Return names for files, one for each of the given names and no two alike.

    >>> slugs(["state-spaces/mamba2-130m", "../x", "x"])
    ['state-spaces-mamba2-130m', 'x', 'x-2']
    """
    taken: list[str] = []
    for name in names:
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:60] or "model"
        candidates = [base, *(f"{base}-{k}" for k in range(2, len(names) + 2))]
        lower = {each.lower() for each in taken}  # some file systems do not tell X from x
        taken.append(next(c for c in candidates if c.lower() not in lower))
    return taken


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function in the project's style, whatever the user's matplotlibrc says."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.style.context(["default", RC]):
            return draw(*args, **kwargs)

    return in_style


def new_figure(study_name: str, title: str, height_inches: float, width_inches: float = WIDE_INCHES) -> Figure:
    """Return an empty figure with the model's name in its title."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained", dpi=PNG_DPI)
    figure.suptitle(f"{plain(study_name)}: {title}", x=0.01, ha="left")
    return figure


def from_zero(axes: Axes) -> None:
    """Start the y axis at zero, with room above the highest point: its marker is not cut in half."""
    axes.set_ylim(0, 1.08 * float(axes.dataLim.ymax))


def layer_colours(axes: Axes | Sequence[Axes], figure: Figure, n_layer: int) -> list[Any]:
    """Return a colour for each layer, first dark and last light; many layers also get a colour bar beside the axes."""
    scale = mpl.colormaps[LAYER_COLOURS].resampled(256)
    shown = mpl.colors.ListedColormap([
        scale(0.85 * i / 255) for i in range(256)
    ])  # the lightest yellow is lost on white
    if n_layer > LAYERS_IN_LEGEND:
        mappable = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, n_layer - 1), shown)
        figure.colorbar(mappable, ax=axes, label="layer", shrink=0.8, ticks=mpl.ticker.MaxNLocator(5, integer=True))
    return [shown(layer / max(1, n_layer - 1)) for layer in range(n_layer)]


def _render(figure: Figure, target: Any, kind: str) -> None:
    empty: dict[str, dict[str, None]] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
        "svg": {"Date": None, "Creator": None},
    }
    with mpl.style.context(["default", RC]):
        if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once: quicker, and the same in every format and order
        figure.savefig(target, format=kind, dpi=PNG_DPI, metadata=empty[kind])


def svg_bytes(figure: Figure) -> bytes:
    """Return a figure as SVG, the same bytes each time; its heatmaps are pixels."""
    buffer = io.BytesIO()
    _render(figure, buffer, "svg")
    return buffer.getvalue()


def save(figure: Figure, run: RunFolder, name: str) -> tuple[Path, ...]:
    """Write a figure as ``figures/<name>.png``, ``.pdf`` and ``.svg``, and its numbers as ``.csv``, into a run folder.

    Args:
        figure: what to write.
        run: the folder; it records the files as its own.
        name: file name without suffix.

    Returns:
        The paths, in this order.
    """
    pictures = [run.output(f"figures/{name}.{kind}") for kind in PICTURES]
    for path in pictures:
        with replacing(path) as temporary:
            _render(figure, temporary, path.suffix[1:])
    numbers = run.output(f"figures/{name}.csv")
    write_text(numbers, csv_text(drawn_rows(figure)))
    return (*pictures, numbers)
