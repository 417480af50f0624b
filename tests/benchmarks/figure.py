"""Tokens a second and memory growth by length, ours and the peers'."""

import matplotlib as mpl
import matplotlib.style

from mambascope.figures.style import MARK_COLOUR, PNG_DPI, RC, new_figure, styled
from tests.benchmarks.shape import NAMES
from tests.benchmarks.speeds import LENGTHS

LOOKS = {
    "ours": ("#0072B2", "D", "-"),
    "transformers": ("#D55E00", "o", "-"),
    "transformers in blocks": ("#D55E00", "o", ":"),
    "mambapy": ("#CC79A7", "v", "-"),
    "mamba_ssm reference": ("#E69F00", "s", "-"),
    "mamba_ssm reference in blocks": ("#E69F00", "s", ":"),
    "torchmamba": ("#009E73", "^", "-"),
    "torchmamba in blocks": ("#009E73", "^", ":"),
}
"""Colours of Okabe and Ito (2008); dotted where a peer is fed in blocks."""


@styled
def figure(speeds, about):
    """Draw one column an architecture: above tokens a second, below memory growth."""
    title = f"one thread, {about['processor']}, {about['date'][:10]}"
    made = new_figure("forward with logits", title, 5.0)
    grid = made.subplots(2, len(speeds), sharex=True, sharey="row", squeeze=False)
    shown = {}
    for column, (arch, found) in enumerate(speeds.items()):
        for axes, value in zip(grid[:, column], (found.rate, found.growth), strict=True):
            for contestant in sorted(found.contestants(), key=list(LOOKS).index, reverse=True):  # ours lies on top
                _curve(axes, found, contestant, value, shown)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:,.0f}")
            axes.yaxis.set_minor_formatter("")
            axes.grid(alpha=0.25)
        products = [n for n in LENGTHS if found.entry("ours", "linear products", n)]
        rates = [found.rate("ours", "linear products", n) for n in products]
        (line,) = grid[0, column].plot(products, rates, color=MARK_COLOUR, linestyle="--", linewidth=0.9)
        shown["our linear layers' products alone"] = line
        grid[0, column].set_title(NAMES[arch])
        grid[1, column].set_xticks(LENGTHS, [f"{n // 1024}k" for n in LENGTHS])
        grid[1, column].set_xlabel("length (tokens)")
    grid[0, 0].set_ylabel("tokens a second")
    grid[1, 0].set_ylabel("memory growth (MB)")
    names = [name for name in (*LOOKS, *shown) if name in shown]
    made.legend([shown[n] for n in dict.fromkeys(names)], dict.fromkeys(names), loc="outside lower center", ncols=3)
    return made


def _curve(axes, found, contestant, value, shown):
    colour, marker, line = LOOKS[contestant]
    lengths = [n for n in LENGTHS if found.entry(contestant, "forward", n)]
    values = [value(contestant, "forward", n) for n in lengths]
    (shown[contestant],) = axes.plot(lengths, values, color=colour, marker=marker, linestyle=line)


def write_png(made, path):
    """Write a figure in the project's style."""
    with mpl.style.context(["default", RC]):
        made.savefig(path, format="png", dpi=PNG_DPI, metadata={"Software": None})
