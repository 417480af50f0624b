"""Lengths in tokens: how they are written, how an axis of them looks, and how T and L are marked on it."""

from __future__ import annotations

from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .style import BEYOND_COLOUR, MARK_COLOUR


def tokens_text(length: float) -> str:
    """Return a length as people type it on the command line: multiples of 1024 with a k.

    Args:
        length: in tokens.

    Returns:
        A short text.

    >>> tokens_text(256), tokens_text(16384), tokens_text(1448)
    ('256', '16k', '1448')
    """
    whole = round(length)
    return f"{whole // 1024}k" if whole >= 1024 and whole % 1024 == 0 else str(whole)


def token_axis(axes: Axes, label: str) -> None:
    """Make the x axis logarithmic in tokens, with ticks at powers of two."""
    axes.set_xscale("log", base=2)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(base=4 if high / low > 2**7 else 2, numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tokens_text(value) if value >= 1 else f"{value:g}"))
    axes.set_xlabel(label)


def mark_lengths(
    axes: Axes, train_length: int | None, target_length: int | None = None, *, along: Literal["x", "y"] = "x"
) -> None:
    """Draw lines at the training length T and the target length L, and shade what lies beyond T.

    Args:
        axes: with its limits set; they stay as they are.
        train_length: T, where it is known.
        target_length: L, where there is one.
        along: the axis that holds tokens.
    """
    low, high = axes.get_xlim() if along == "x" else axes.get_ylim()
    line, span = (axes.axvline, axes.axvspan) if along == "x" else (axes.axhline, axes.axhspan)
    if train_length is not None and train_length < high:
        span(max(low, train_length), high, color=BEYOND_COLOUR, zorder=0, linewidth=0)
    for name, length in (("T", train_length), ("L", target_length)):
        if length is None or not low <= length <= high:
            continue
        line(length, color=MARK_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
        text = f"{name} = {tokens_text(length)}"
        if along == "x":
            look: dict[str, Any] = {
                "transform": axes.get_xaxis_transform(),
                "ha": "center",
                "va": "bottom",
                "color": MARK_COLOUR,
            }
            axes.text(length, 1.01, text, **look)
        else:
            axes.text(1.01, length, text, transform=axes.get_yaxis_transform(), va="center", color=MARK_COLOUR)
    (axes.set_xlim if along == "x" else axes.set_ylim)(low, high)
