"""LongBench, drawn: a panel a task and one for the average, a line a method, its score with the 95 % interval."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mambascope.analysis.longbench.evaluation import LongBenchFound
from mambascope.analysis.longbench.rows import AVERAGE
from mambascope.analysis.longbench.tasks import TASKS

from .style import METHODS, WIDE_INCHES, new_figure, plain, styled

PANELS_ACROSS = 4
LINE_INCHES = 0.2
"""Height of a method's line."""

Mark = tuple[float, float | None, float | None]
"""Score, and the ends of its interval where it has one."""


@styled
def scores_figure(found: LongBenchFound) -> Figure:
    """Draw the scores of all methods.

    Args:
        found: a finished evaluation.

    Returns:
        Panels in the order of the table, the first method on top.
    """
    methods = [row.method for row in found.averages]
    panels = _panels(found)
    across = min(PANELS_ACROSS, len(panels))
    down = -(-len(panels) // across)
    height = 0.5 + down * (0.65 + LINE_INCHES * len(methods))
    figure = new_figure(found.model, "LongBench, score out of 100 with 95 % interval over samples", height, WIDE_INCHES)
    every = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, (title, marks) in zip(every.flat, panels.items(), strict=False):
        _draw(axes, methods, marks)
        axes.set_title(title, pad=4)
    for axes in list(every.flat)[len(panels) :]:
        axes.set_visible(False)
    every[0][0].set_yticks(range(len(methods)), [plain(name, 28) for name in methods])
    every[0][0].set_ylim(len(methods) - 0.5, -0.5)
    return figure


def _panels(found: LongBenchFound) -> dict[str, dict[str, Mark]]:
    """Return what each panel shows, by title and method."""
    panels: dict[str, dict[str, Mark]] = {}
    for row in found.rows:
        panels.setdefault(TASKS[row.task].title, {})[row.method] = (row.score, row.ci_low, row.ci_high)
    return panels | {AVERAGE: {row.method: (row.score, row.ci_low, row.ci_high) for row in found.averages}}


def _draw(axes: Axes, methods: list[str], marks: dict[str, Mark]) -> None:
    for line, method in enumerate(methods):
        score, low, high = marks[method]
        colour = METHODS[method].colour if method in METHODS else "#7F7F7F"
        if low is not None and high is not None:
            axes.plot([low, high], [line, line], color=colour, linewidth=1.0)
        axes.plot([score], [line], "o", color=colour, markersize=4, clip_on=False, zorder=3)  # whole at 0, too
    top = max(high if high is not None else score for score, _, high in marks.values())
    axes.set_xlim(0, min(100.0, 1.1 * top) or 1.0)
    axes.grid(axis="y", color="#e8e8e8", linewidth=0.6)
