"""What a run folder's figures and tables are called in the paper, so that they can be asked for by its names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class PaperName:
    """A figure or table of Mamba Modulation (arXiv 2509.19633) and the files that are ours of it."""

    key: str
    """As it is asked for: ``fig1``, ``table3``."""
    about: str
    """What it shows."""
    files: tuple[str, ...]
    """Patterns of names in a run folder, without suffix; ``MODEL`` stands for a model's name."""
    command: str
    """The command that makes it."""


PAPER_NAMES = (
    PaperName(
        "fig1", "eigenvalues exp(-|A|) of every layer", ("figures/MODEL-spectrum", "figures/spectrum"), "spectrum"
    ),
    PaperName(
        "fig2", "constant factors on A", ("figures/MODEL-constants", "figures/constants-MODEL"), "report or compare"
    ),
    PaperName(
        "fig3",
        "perplexity by length, with scales and without",
        ("figures/MODEL-curves", "figures/perplexity", "figures/curve"),
        "report, compare or evaluate",
    ),
    PaperName(
        "fig4",
        "passkey retrieval by length and depth",
        ("figures/passkey", "figures/passkey-MODEL"),
        "evaluate --task passkey, or compare",
    ),
    PaperName(
        "table1",
        "norms of the hidden states by length",
        ("tables/table1", "tables/norms", "figures/MODEL-vector-norms"),
        "norms --protocol table1, or report",
    ),
    PaperName("table2", "LongBench", ("tables/table2", "table2"), "evaluate --task longbench"),
    PaperName("table3", "perplexity of every method", ("tables/table3*", "table3"), "compare"),
)
"""Figures 8 and 9 are Figure 4 of other models. The paper's other figures have no counterpart of their own here."""

ALIASES = {"fig8": "fig4", "fig9": "fig4"}


@dataclass(frozen=True, slots=True)
class Named:
    """A file of a run folder with the names that it may be asked for by."""

    file: PurePosixPath
    """In the run folder."""
    paper: PaperName | None
    """Where the paper has one like it."""
    model: str
    """Part of the file's name that names a model; empty if none does."""

    @property
    def stem(self) -> str:
        """Our own name of it."""
        return self.file.stem

    @property
    def copy_name(self) -> str:
        """The name it is copied under: the paper's first, then the model's, or our own."""
        if self.paper is None or self.stem.startswith(self.paper.key):
            return self.file.name
        return "-".join(filter(None, (self.paper.key, self.model or self.stem))) + self.file.suffix


def named_files(outputs: list[str]) -> list[Named]:
    """Name the figures, tables and pages among the files of a run, in the order of the paper and then of the alphabet.

    Args:
        outputs: paths in the run folder, with ``/``.

    Returns:
        Files with a name each; data, journals and scales are none of them.

    >>> [each.copy_name for each in named_files(["figures/x-tail.pdf", "figures/tiny-spectrum.pdf", "data/x.npy"])]
    ['fig1-tiny.pdf', 'x-tail.pdf']
    """
    found = [_named(PurePosixPath(name)) for name in sorted(outputs) if _is_shown(PurePosixPath(name))]
    order = {paper.key: k for k, paper in enumerate(PAPER_NAMES)}
    return sorted(found, key=lambda each: order.get(each.paper.key, len(order)) if each.paper else len(order))


def _is_shown(path: PurePosixPath) -> bool:
    return path.parts[0] in {"figures", "tables"} or (len(path.parts) == 1 and path.suffix == ".html")


def _named(path: PurePosixPath) -> Named:
    name = str(path.with_suffix(""))
    for paper in PAPER_NAMES:
        for pattern in paper.files:
            form = re.escape(pattern).replace("MODEL", "(?P<model>.+)").replace(r"\*", ".*")
            if match := re.fullmatch(form, name):
                return Named(path, paper, match.groupdict().get("model") or "")
    return Named(path, None, "")
