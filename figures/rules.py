"""Both sides of every rule: harm that is left, against memory that is kept."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mambascope.analysis.goals import GOALS
from mambascope.analysis.rule_table import RuleTable

from .curves import difference_axis
from .lengths import tokens_text
from .style import METHODS, PNG_DPI, MethodStyle, new_figure, styled

Shown = tuple[dict[str, Any], MethodStyle, str]
"""The row of a rule, how it is drawn, and its name in the legend."""
OTHERS = MethodStyle("other rules", "#7F7F7F", "o", "none")
NAMED = {
    "perplexity": METHODS["spectrum"],
    "balanced": MethodStyle("balanced", "#E69F00", "P", "none"),
    "retrieval": MethodStyle("retrieval", "#56B4E9", "^", "none"),
}
"""Looks of the goals' rules: colours that no method has, beside the default's own."""
NAME_SIZE = 6.0
"""Of a point's name, in points."""
NAME_PLACES = tuple((dx, dy) for dy in (0, 6, -6, 8, -8, 14, -14, 21, -21, 28, -28) for dx in (6, -6, 0))
"""Where a name may stand from its point, in points, the best first."""


def looks(table: RuleTable) -> list[Shown]:
    """Return the row of every rule at the longest length, how it is drawn, and its name in the legend."""
    goals = {goal.rule: goal.name for goal in GOALS.values()}
    default, found = next(iter(goals)), []
    for row in table.summary(table.lengths[-1]):
        rule = row["rule"]
        if rule == "none":
            found.append((row, METHODS["none"], "none: as trained"))
        elif rule in goals:
            told = "default" if rule == default else f"goal {goals[rule]}"
            found.append((row, NAMED[goals[rule]], f"{rule}: {told}"))
        else:
            found.append((row, OTHERS, "_"))
    return found


@styled
def rules_figure(table: RuleTable) -> Figure:
    """Draw harm against memory kept, a point a rule.

    Args:
        table: of one model.

    Returns:
        One panel for energy older than T; where repeated passages were read, another for the bits that they save.
    """
    gap = passage_gap(table)
    figure = new_figure(table.model, "what a rule mends, and what it gives up", 3.6)
    panels = figure.subplots(1, 2, sharey=True, squeeze=False)[0] if gap else [figure.subplots()]
    shown = looks(table)
    across = [("energy_older", 100.0), *([(f"saved_at_{gap}", 1.0)] if gap else [])]
    for axes, (key, times) in zip(panels, across, strict=True):
        _points(axes, shown, key, times)
    panels[0].xaxis.set_major_formatter(PercentFormatter(decimals=0))
    panels[0].set_xlabel(
        f"share of a state's energy older than\nT = {tokens_text(table.train_length)} tokens (mean over modes)"
    )
    panels[0].set_ylabel(f"mean harm at {tokens_text(table.lengths[-1])} (bits)")
    if gap:
        panels[1].set_xlabel(f"bits a token saved on a passage\nread {gap:,} tokens before (± s.e.)")
    for axes in panels:
        difference_axis(axes)
        axes.margins(x=0.12)
    handles, labels = panels[0].get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda k: labels[k].startswith(OTHERS.label))
    figure.legend([handles[k] for k in order], [labels[k] for k in order], loc="outside lower center", ncols=3)
    figure.draw_without_rendering()  # where the points lie is known once it is laid out
    for axes, (key, times) in zip(panels, across, strict=True):
        name_points(axes, shown, key, times)
    return figure


def passage_gap(table: RuleTable) -> int | None:
    """Return the distance of repeated passages that is drawn: the longest within T, or the shortest there is."""
    within = [gap for gap in table.gaps if gap <= table.train_length]
    return max(within) if within else min(table.gaps, default=None)


def _points(axes: Axes, shown: list[Shown], across: str, times: float) -> None:
    told: set[str] = set()
    for row, style, label in shown:
        x, y, bakes = times * row[across], row["harm_mean"], row["bakes"] == "yes"
        name = label
        if label == "_":
            name = f"{OTHERS.label}, {'baked into weights' if bakes else 'not to be baked'}"
            name = "_" if name in told else name
            told.add(name)
        if f"{across}_se" in row:
            look: dict[str, Any] = {"color": style.colour, "linewidth": 0.7, "zorder": 2}
            for part in axes.errorbar(x, y, xerr=times * row[f"{across}_se"], **look).get_children():
                part.set_gid(row["rule"])
        axes.plot(
            [x], [y], marker=style.marker, linestyle="none", color=style.colour, label=name, zorder=3, gid=row["rule"],
            markerfacecolor=style.colour if bakes or label != "_" else "white", markersize=4 if label == "_" else 7,
        )  # fmt: skip


def name_points(axes: Axes, shown: list[Shown], across: str, times: float) -> None:
    """Write names beside the points that the legend does not name, where they hide neither points nor other names.

    Args:
        axes: laid out.
        shown: as ``looks`` gives them.
        across: what the x axis holds.
        times: what it is multiplied by.
    """
    to_points = 72 / PNG_DPI
    places = [(times * row[across], row["harm_mean"]) for row, _, _ in shown]
    at = axes.transData.transform(places) * to_points
    error = [times * row.get(f"{across}_se", 0.0) for row, _, _ in shown]
    ends = axes.transData.transform([(x + e, y) for (x, y), e in zip(places, error, strict=True)]) * to_points
    frame = axes.get_window_extent()
    left, right, low, high = (v * to_points for v in (frame.x0, frame.x1, frame.y0, frame.y1))
    taken = [(x - 4, x + 4, y - 4, y + 4) for x, y in at]
    taken += [(2 * x - end, end, y - 1, y + 1) for (x, y), (end, _) in zip(at, ends, strict=True)]
    for (row, _, label), place, (x, y) in zip(shown, places, at, strict=True):
        if label != "_":
            continue
        wide = 0.58 * NAME_SIZE * len(row["rule"])
        for dx, dy in NAME_PLACES:
            x0 = x + dx if dx >= 0 else x + dx - wide
            box = (x0, x0 + wide, y + dy - NAME_SIZE / 2, y + dy + NAME_SIZE / 2)
            inside = left <= box[0] and box[1] <= right and low <= box[2] and box[3] <= high
            if inside and not any(box[0] < b and a < box[1] and box[2] < d and c < box[3] for a, b, c, d in taken):
                taken.append(box)
                break
        else:
            continue  # there is no room; the table has it
        axes.annotate(
            row["rule"], place, xytext=(dx, dy), textcoords="offset points", fontsize=NAME_SIZE, color="#555555",
            ha="left" if dx >= 0 else "right", va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "#AAAAAA"} if abs(dy) > NAME_SIZE + 2 else None,
        )  # fmt: skip
