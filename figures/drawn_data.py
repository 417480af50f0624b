"""The numbers of a figure, read back from what is drawn: no figure without its data, and no data that is not drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from .csv_rows import Rows

Floats = npt.NDArray[np.float64]


def drawn_rows(figure: Figure) -> Rows:
    """Return every number that a figure shows.

    Args:
        figure: after drawing.

    Returns:
        One row a point: ``panel`` (from 1, colour bars are none), its ``x_axis`` and ``y_axis``, ``drawn`` (line,
        point, interval, band, cell or bar), ``label`` (its own name or that of its colour in the panel, else the
        colour), ``x``, ``y`` and, as the kind asks for, ``x_high``, ``y_high`` (the other end of an interval, a band, a
        bar) or ``value`` (of a cell or a coloured point). Reference lines across a whole panel are left out.
    """
    panels = [axes for axes in figure.axes if not hasattr(axes, "_colorbar")]
    return [
        {"panel": k, "x_axis": _flat(axes.get_xlabel()), "y_axis": _flat(axes.get_ylabel())} | row
        for k, axes in enumerate(panels, 1)
        for row in _of_panel(axes)
    ]


def _of_panel(axes: Axes) -> Iterator[dict[str, Any]]:
    named = {_colour(a): str(a.get_label()) for a in reversed([*axes.lines, *axes.collections]) if _named(a)}

    def label(artist: Any) -> str:
        own = artist.get_gid() or (artist.get_label() if _named(artist) else None)
        return _flat(own or named.get(_colour(artist)) or _colour(artist))

    for line in axes.lines:
        if line.get_transform() != axes.transData:
            continue  # a guide, placed by the axes and not by data
        kind = "point" if line.get_linestyle() in {"None", "none", ""} else "line"
        head = {"drawn": kind, "label": label(line)}
        yield from (head | {"x": x, "y": y} for x, y in _finite(np.column_stack(line.get_data(orig=False))))
    for collection in axes.collections:
        yield from _of_collection(axes, collection, label)
    for patch in axes.patches:
        if isinstance(patch, Rectangle) and patch.get_transform().contains_branch(axes.transData):
            (x, y), (x_high, y_high) = patch.get_bbox().min, patch.get_bbox().max
            head = {"drawn": "bar", "label": label(patch)}
            yield head | {"x": float(x), "y": float(y), "x_high": float(x_high), "y_high": float(y_high)}


def _of_collection(axes: Axes, drawn: Collection, label: Callable[[Any], str]) -> Iterator[dict[str, Any]]:
    values = drawn.get_array()
    if isinstance(drawn, QuadMesh):
        yield from _cells(drawn)
    elif isinstance(drawn, PathCollection):
        head = {"drawn": "point", "label": label(drawn)}
        offsets: Floats = np.ma.filled(np.ma.asarray(drawn.get_offsets(), dtype=float), np.nan)
        for k, (x, y) in enumerate(offsets):
            if np.isfinite([x, y]).all():
                yield head | {"x": float(x), "y": float(y)} | ({} if values is None else {"value": float(values[k])})
    elif isinstance(drawn, LineCollection):
        head = {"drawn": "interval", "label": label(drawn)}
        for path in drawn.get_segments():
            (x, y), (x_high, y_high) = path[0], path[-1]
            if np.isfinite([x, y, x_high, y_high]).all():
                yield head | {"x": float(x), "y": float(y), "x_high": float(x_high), "y_high": float(y_high)}
    elif isinstance(drawn, PolyCollection) and drawn.get_transform() == axes.transData:
        head = {"drawn": "band", "label": label(drawn)}
        for outline in drawn.get_paths():
            edges = _edges(np.asarray(outline.vertices))
            yield from (head | {"x": x, "y": low, "y_high": high} for x, low, high in edges)


def _cells(mesh: QuadMesh) -> Iterator[dict[str, Any]]:
    corners = np.asarray(mesh.get_coordinates())
    cells: Floats = np.ma.filled(np.ma.asarray(mesh.get_array(), dtype=float), np.nan)
    values = cells.reshape(corners.shape[0] - 1, corners.shape[1] - 1)
    centres = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    for at in np.ndindex(values.shape):
        if np.isfinite(values[at]):
            x, y = centres[at]
            yield {"drawn": "cell", "label": "", "x": float(x), "y": float(y), "value": float(values[at])}


def _edges(outline: npt.NDArray[Any]) -> Iterator[tuple[float, float, float]]:
    """Yield x with the lowest and highest y there, from the outline of an area between two curves."""
    for x in np.unique(outline[:, 0]):
        y = outline[outline[:, 0] == x, 1]
        yield float(x), float(y.min()), float(y.max())


def _finite(points: npt.NDArray[Any]) -> Iterator[tuple[float, float]]:
    numbers: Floats = np.ma.filled(np.ma.asarray(points, dtype=float), np.nan)
    return ((float(x), float(y)) for x, y in numbers if np.isfinite([x, y]).all())


def _named(artist: Any) -> bool:
    return not str(artist.get_label()).startswith("_") and str(artist.get_label()) != ""


def _colour(artist: Any) -> str:
    """Return the colour that an artist is known by: a line's own, else that of its edges or its inside."""
    if isinstance(artist, Line2D):
        return to_hex(artist.get_color())
    colours = artist.get_edgecolor() if isinstance(artist, LineCollection) else artist.get_facecolor()
    several = np.atleast_2d(colours)
    return to_hex(tuple(several[0])) if len(several) else ""


def _flat(text: str) -> str:
    return " ".join(text.replace(r"\$", "$").split())
