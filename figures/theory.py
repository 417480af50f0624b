"""Figures of the theory part: both forms of a claim over the decay, growth over time, and the regime near 1."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mambascope.analysis.runs import RunFolder
from mambascope.analysis.theory import CHANNELS, Theory
from mambascope.analysis.verification import Verification
from mambascope.simulate.claims import Claim
from mambascope.simulate.near_one import Coverage
from mambascope.simulate.verdict import Comparison

from .gallery import Drawing, write_drawings
from .lengths import token_axis
from .style import MARK_COLOUR, new_figure, styled
from .tables import write_table

PRINTED_COLOUR, TRUE_COLOUR, DATA_COLOUR = "#D55E00", "#0072B2", "#000000"
COLUMNS = 3
FEWEST_POINTS = 2
"""A claim's curve is drawn if the simulation has at least this many points on it."""
COLOURS = ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00")


def with_curves(found: Verification) -> list[tuple[Claim, list[Comparison]]]:
    """Return the claims that are about a curve, each with the comparisons that lie on it."""
    points = [[c for c in verdict.comparisons if c.x is not None] for verdict in found.verdicts]
    pairs = zip(found.claims, points, strict=True)
    return [(claim, of) for claim, of in pairs if claim.curve is not None and len(of) >= FEWEST_POINTS]


@styled
def claims_figure(found: Verification) -> Figure:
    """Draw, for every claim that is about a curve, the printed form, the corrected form and the simulation.

    Args:
        found: a finished verification with at least one such claim.

    Returns:
        A panel a claim.
    """
    drawn = with_curves(found)
    columns = min(len(drawn), COLUMNS)
    rows = -(-len(drawn) // columns)
    figure = new_figure("theory", "what was printed, what is true, what is measured", 0.4 + 2.3 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in panels[len(drawn) :]:
        spare.set_visible(False)
    for axes, (claim, points) in zip(panels, drawn, strict=False):
        curve = claim.curve
        assert curve is not None
        x = np.array(curve.grid)
        axes.plot(x, [curve.printed(v) for v in x], color=PRINTED_COLOUR, linestyle="--", label="printed")
        axes.plot(x, [curve.corrected(v) for v in x], color=TRUE_COLOUR, label="corrected")
        bars = [5 * c.error for c in points]
        label = "simulated, ±5 s.e."
        where = ([c.x for c in points], [c.value for c in points])
        axes.errorbar(*where, yerr=bars, fmt="o", markersize=3, color=DATA_COLOUR, linewidth=1, label=label)
        axes.set_yscale("log")
        axes.set_title(claim.key, pad=4)
        axes.set_xlabel(textwrap.fill(curve.label, 34))
        axes.set_ylabel(textwrap.fill(curve.value, 30))
    panels[0].legend(loc="best")
    return figure


@styled
def growth_figure(theory: Theory) -> Figure:
    """Draw E ||h_T||^2 a channel over time, simulated with its error band, with the exact values.

    Args:
        theory: the theory part.

    Returns:
        One panel.
    """
    figure = new_figure("theory", "how a state grows, and where it stops", 3.4)
    axes = figure.subplots()
    for colour, (name, found) in zip(COLOURS, theory.growth.items(), strict=False):
        mean, se = found.mean / CHANNELS, found.se / CHANNELS
        axes.fill_between(found.times_steps, mean - 5 * se, mean + 5 * se, color=colour, alpha=0.25, linewidth=0)
        axes.plot(found.times_steps, mean, "o", markersize=2.5, color=colour)
        if found.exact is not None:
            axes.plot(found.times_steps, found.exact / CHANNELS, color=colour, label=name)
    times = np.array(next(iter(theory.growth.values())).times_steps, dtype=float)
    axes.plot(times, times, ":", color=MARK_COLOUR, label="no decay, noise: x2 a doubling")
    axes.set_yscale("log")
    axes.set_ylabel("E‖h‖² a channel")
    token_axis(axes, "steps")
    axes.legend(loc="upper left", ncols=2)
    return figure


@styled
def near_one_figure(found: Sequence[Coverage]) -> Figure:
    """Draw how plain Monte Carlo fails as decays come close to 1.

    Args:
        found: repeated runs by eps.

    Returns:
        Two panels: estimate over exact value, and how often the nominal 95 % interval covers.
    """
    figure = new_figure("theory", "where plain Monte Carlo cannot be trusted", 2.9)
    ratio, covers = figure.subplots(1, 2)
    eps = [each.eps for each in found]
    ratio.fill_between(
        eps,
        [each.low_ratio for each in found],
        [each.high_ratio for each in found],
        color=PRINTED_COLOUR,
        alpha=0.2,
        linewidth=0,
        label="5 % to 95 % of runs",
    )
    ratio.plot(eps, [each.median_ratio for each in found], "o-", color=PRINTED_COLOUR, label="median run")
    ratio.axhline(1, color=TRUE_COLOUR, label="quadrature")
    ratio.set_ylabel("plain Monte Carlo / exact")
    ratio.legend(loc="best")
    covers.plot(eps, [100 * each.interval_covers for each in found], "o-", color=PRINTED_COLOUR, label="measured")
    covers.axhline(95, color=TRUE_COLOUR, linestyle="--", label="what the interval promises")
    covers.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    covers.set_ylim(0, 102)
    covers.set_ylabel("intervals that hold the exact value")
    flagged = [each.eps for each in found if not each.trusted]
    for axes in (ratio, covers):
        axes.set_xscale("log")
        axes.invert_xaxis()
        axes.set_xlabel("distance of the largest decay from 1")
        if flagged:
            left, right = axes.get_xlim()
            axes.axvspan(max(flagged), right, color="#f0f0f0", zorder=0)
            axes.set_xlim(left, right)
    covers.plot([], [], "s", color="#e0e0e0", label="flagged as not covered")
    covers.legend(loc="lower left")
    return figure


def theory_drawings(theory: Theory) -> dict[str, Drawing]:
    """Draw all figures of the theory part, with captions and alternative texts computed from the numbers.

    Args:
        theory: the theory part.

    Returns:
        Drawings by key.
    """
    made = []
    if with_curves(theory.verification):
        points = [c for _, of_claim in with_curves(theory.verification) for c in of_claim]
        apart = max(abs(c.distance(c.printed)) for c in points if c.printed is not None)
        off = max(abs(c.distance(c.corrected)) for c in points)
        made.append(
            Drawing(
                "claims",
                claims_figure(theory.verification),
                "Each point is the mean of independent trials of the recurrence itself. Dashed: the form as printed. "
                "Solid: the corrected form.",
                f"The simulation lies up to {apart:,.0f} standard errors from the printed forms and at most {off:.1f} "
                "from the corrected ones.",
            )
        )
    last = {name: found.mean[-1] / found.mean[-3] for name, found in theory.growth.items()}
    fastest = max(last, key=lambda name: last[name])
    steps = max(found.times_steps[-1] for found in theory.growth.values())
    made.append(
        Drawing(
            "growth",
            growth_figure(theory),
            "Lines: exact expectation. Points with bands: simulation, five standard errors either way. A state with "
            "decays below 1 and stationary inputs saturates; before that its energy grows at most four times a "
            "doubling (constant input), twice under white noise.",
            f"Over the last doubling, to {steps:,} steps, energy grows {last[fastest]:.2f} times in the fastest case "
            f"({fastest}).",
        )
    )
    worst = min(theory.near_one, key=lambda each: each.interval_covers)
    made.append(
        Drawing(
            "near-one",
            near_one_figure(theory.near_one),
            f"The level E 1 / (1 - lambda^2) for lambda ~ U[0, 1 - eps], from {worst.draws:,} plain draws, repeated "
            f"{worst.runs} times for each eps. Shaded: where mambascope calls such an estimate not covered and shows "
            "the quadrature instead.",
            f"At eps = {worst.eps:g} only {worst.interval_covers:.0%} of nominal 95 % intervals hold the exact value, "
            f"and {worst.below:.0%} of runs are too low.",
        )
    )
    return {drawing.key: drawing for drawing in made}


def write_theory(run: RunFolder, theory: Theory) -> tuple[Path, ...]:
    """Write tables and figures of the theory part into a run folder.

    Args:
        run: the folder; it records the files as its own.
        theory: the theory part.

    Returns:
        The paths.
    """
    paths: list[Path] = []
    for name, rows in theory.rows().items():
        paths += write_table(run, name, rows)
    return (*paths, *write_drawings(run, "theory", theory_drawings(theory)))
