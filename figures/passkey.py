"""An evaluation on the passkey task as tables and a figure: a grid of length x depth for each method, side by side."""

from __future__ import annotations

from typing import Any

from mambascope.analysis.atomic import write_bytes, write_json, write_text
from mambascope.analysis.passkey.evaluation import PasskeyFound
from mambascope.analysis.runs import RunFolder

from .lengths import tokens_text
from .passkey_plots import grid_figure
from .style import save, slugs, svg_bytes
from .tables import write_table


def summary_rows(found: PasskeyFound) -> list[dict[str, Any]]:
    """Return a row a method: what it solves, what it costs inside T, what fitting it cost.

    Args:
        found: a finished evaluation.

    Returns:
        Rows for a table; a dash where nothing is solved.
    """
    return [
        {
            "method": each.method,
            "solved at": " ".join(map(tokens_text, each.solved_lengths)) or "-",
            "solved up to": "-" if each.solved_up_to is None else tokens_text(each.solved_up_to),
            "in T": each.times_T,
            "times none": each.times_none,
            "keys inside T": each.share_inside,
            "bits inside T": each.loss_inside,
            "passes": round(each.passes),
            "bakes": each.bakes,
        }
        for each in found.summaries
    ]


def write_passkey(run: RunFolder, found: PasskeyFound) -> None:
    """Write tables ``passkey``, ``passkey-methods`` and ``passkey-heads``, scales, words, and the figure ``passkey``.

    Args:
        run: the folder; it records the files as its own.
        found: a finished evaluation.

    Raises:
        StorageError: a file could not be written.
    """
    write_table(run, "passkey", found.rows())
    write_table(run, "passkey-methods", [each.to_dict() for each in found.summaries])
    if found.heads:
        write_table(run, "passkey-heads", [row.to_dict() for each in found.heads for row in each.rows])
        columns = ("method", "rank_correlation", "p_value", "began", "change_correlation")
        write_table(run, "passkey-agreement", [{name: getattr(each, name) for name in columns} for each in found.heads])
        write_text(run.output("which-heads.txt"), "\n".join(found.sentences()) + "\n")
    scaled = [each for each in found.fitted if each.scales is not None and not each.by_length]
    for each, name in zip(scaled, slugs([each.method for each in scaled]), strict=True):
        assert each.scales is not None
        write_json(run.output(f"scales/{name}.json"), each.scales.to_dict() | {"note": each.how})
    figure = grid_figure(found)
    save(figure, run, "passkey")
    write_bytes(run.output("figures/passkey.svg"), svg_bytes(figure))
