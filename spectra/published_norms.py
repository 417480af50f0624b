"""The PG19 row of the paper's Table 1, and whether a text is the one that it was measured on.

Source: Mamba Modulation (arXiv 2509.19633), Table 1, row PG19, by the notebook track_norm/track_norm.ipynb of
github.com/gnepul-ace/mamba_modulation (commit 0ac3cb3c46), whose recorded output also names the layers. Model:
state-spaces/mamba2-1.3b in float32. Text: data/pg19/pg19.json beside it (Chaucer, Project Gutenberg 2383), its first L
tokens by EleutherAI/gpt-neox-20b's tokenizer, no token added in front.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .config import Config
from .norms import Table1Cell

MODEL = "state-spaces/mamba2-1.3b"
"""Whose norms they are."""


@dataclass(frozen=True, slots=True)
class PublishedCell:
    """One length of the row."""

    length_tokens: int
    """L."""
    max: float
    """Printed maximum."""
    min: float
    """Printed minimum, of the same cache; it has one or two digits."""
    layer: int
    """Layer of that cache, an ``ssm`` cache at every length."""
    ids_sha256: str
    """First 16 hex digits over the first L ids as little-endian uint32: ours, computed from the text."""


PG19_ROW = (
    PublishedCell(1024, 158.7656, 0.0033, 8, "958aa98b80a0b114"),
    PublishedCell(2048, 160.8465, 0.0014, 8, "0dd307bc47fed2a0"),
    PublishedCell(4096, 166.3788, 0.0050, 8, "79b8c3a445023f32"),
    PublishedCell(8192, 876.0833, 0.0004, 32, "ab081d35d2eea12f"),
    PublishedCell(16384, 1241.3979, 0.0005, 32, "850d1199f771123d"),
    PublishedCell(32768, 1201.5530, 0.0003, 32, "c4030773d67ff5db"),
    PublishedCell(65536, 1242.7589, 0.0002, 32, "2fb9be7993d431b2"),
)
LENGTHS_TOKENS = tuple(cell.length_tokens for cell in PG19_ROW)
"""Lengths of the row."""


def same_tokens(ids: npt.NDArray[np.integer], cell: PublishedCell) -> bool:
    """Return whether a text begins with the tokens that a cell was measured on."""
    first = np.ascontiguousarray(ids[: cell.length_tokens], dtype="<u4")
    return hashlib.sha256(first.tobytes()).hexdigest().startswith(cell.ids_sha256)


def same_shape(config: Config) -> bool:
    """Return whether a model has the shape of the one that the row was measured on."""
    shape = (config.arch, config.d_model, config.n_layer, config.d_inner, config.d_state, config.headdim)
    return shape == ("mamba2", 2048, 48, 4096, 128, 64) and config.ngroups == 1 and config.vocab_size == 50288


def beside_the_paper(
    cells: Sequence[Table1Cell], ids: npt.NDArray[np.integer], config: Config, differs: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], str]:
    """Lay our cells beside the published ones.

    Args:
        cells: from ``norms.table1``, of one text.
        ids: that text's ids, (length,).
        config: shape of the model.
        differs: in words, what of the run itself is not as it was there, such as factors.

    Returns:
        One row a cell: ours, then ``paper_max``, ``paper_min``, ``paper_layer``, ``max_over_paper`` (None at lengths
        that the paper does not have) and ``same_tokens``; and in words whether the two can be compared at all.
    """
    of = {cell.length_tokens: cell for cell in PG19_ROW}
    rows = []
    for cell in cells:
        theirs = of.get(cell.length_tokens)
        row = asdict(cell)
        row |= {f"paper_{name}": theirs and getattr(theirs, name) for name in ("max", "min", "layer")}
        row |= {"max_over_paper": theirs and cell.max / theirs.max}
        rows.append(row | {"same_tokens": theirs and same_tokens(ids, theirs)})
    same = [row["same_tokens"] for row in rows if row["same_tokens"] is not None]
    return rows, _words(same, same_shape(config), differs)


def _words(same: Sequence[bool], shape: bool, of_run: Sequence[str]) -> str:
    source = f"paper: Table 1 of arXiv 2509.19633, row PG19, {MODEL} in float32"
    if not same:
        return f"{source}; it has none of these lengths (it has {LENGTHS_TOKENS[0]} to {LENGTHS_TOKENS[-1]}, doubling)"
    differs = [] if all(same) else ["the tokens are not the paper's (another text or another tokenizer)"]
    differs += [] if shape else ["the model has another shape"]
    differs += of_run
    if not differs:
        return f"{source}; the tokens are the paper's and the model has its shape, so max should agree"
    return f"{source}; not comparable: {' and '.join(differs)}"
