"""Foreign models on the command line: opening, what is said of their layers, loading to be watched, figures."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mambascope.analysis.resource_limits import in_bytes, limit_of
from mambascope.analysis.resources import PROGRAM_BYTES, Need, check_need
from mambascope.spectra.foreign.checkpoint import ForeignCheckpoint
from mambascope.spectra.foreign.forward import BLOCK_TOKENS, ForeignModel, way_of
from mambascope.spectra.loading import DTYPES, pick_device

from .console import print_json, say
from .sources import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCAN_COPIES = 4
"""Arrays of a Mamba-1 scan's size, tokens times d_inner times d_state, that transformers holds at once. From
`make bench`: 3.9 GB at 32,768 tokens, 512 channels and d_state 16 are 3.6 of them."""
CHUNK_TOKENS, CHUNK_COPIES = 256, 4
"""Tokens of a Mamba-2 chunk as these families are published, and float32 arrays of a chunk that are held at once:
decays, their products with the scores, inputs, states. Counted, not measured; a config.json may ask for more."""


def about(source: Source, *, watched: bool) -> dict[str, Any]:
    """Return what a manifest and a document say of a foreign model, and say it on stderr; nothing of one of ours.

    Args:
        source: the model.
        watched: its forward is needed.

    Returns:
        ``model_type``, ``layers`` (the kind of each) and, where it runs, ``forward`` (who runs it, and how).
    """
    checkpoint = source.checkpoint
    if not isinstance(checkpoint, ForeignCheckpoint):
        return {}
    say(checkpoint.foreign.words())
    told = {"model_type": checkpoint.foreign.model_type, "layers": list(checkpoint.foreign.kinds)}
    if not watched:
        return told
    way = way_of(checkpoint)
    say(f"mambascope has no forward of this architecture: {way}")
    return told | {"forward": way}


def plan_watched(
    source: Source, args: argparse.Namespace, rows: int, length: int, texts: int
) -> Callable[[], ForeignModel]:
    """Estimate what watching a foreign model takes; refuse it where there is no room for it and for its scan.

    Args:
        source: its checkpoint is a ``ForeignCheckpoint``.
        args: the command's options; with ``--dry-run`` the program ends here.
        rows: texts side by side.
        length: tokens of each.
        texts: how many there are.

    Returns:
        What loads the model into transformers.

    Raises:
        SystemExit: with ``--dry-run``, after the need was printed.
    """
    checkpoint = source.checkpoint
    assert isinstance(checkpoint, ForeignCheckpoint)
    c, wide = checkpoint.config, DTYPES[args.dtype].itemsize
    entries = [file.entries[name] for name, file in checkpoint.sources.items()]
    if c.arch == "mamba":
        tokens, each = rows * length, SCAN_COPIES * c.d_inner * c.d_state * 4
    else:
        tokens, each = (
            min(rows * length, BLOCK_TOKENS),
            4 * CHUNK_COPIES * c.nheads * (CHUNK_TOKENS + c.headdim + 2 * c.d_state),
        )
    parts = {
        "weights": sum(math.prod(entry.shape) * wide for entry in entries),
        f"a scan of {tokens:,} tokens": tokens * each,
        "the program": PROGRAM_BYTES,
    }
    need = Need(source.argument, parts, remedies=("give shorter texts", "--dtype bfloat16 halves the weights"))
    check_need(need, limit_of(pick_device(args.device), args.max_memory))
    told = f"{args.command} {source.argument}: {texts * length:,} tokens; memory: about {in_bytes(need.peak_bytes)}"
    if args.dry_run:
        if args.json:
            models = [{"model": source.argument, "tokens": texts * length, "seconds": None}]
            memory = {"peak_bytes": need.peak_bytes, "parts": parts}
            print_json({"dry_run": True, "command": args.command, "models": models, "memory": memory})
        else:
            print(f"{told} ({need.words()})\nnothing was run or written (--dry-run)")
        raise SystemExit(0)

    def load() -> ForeignModel:
        say(f"{told} ({need.words()})")
        return ForeignModel.load(checkpoint, device=args.device, dtype=args.dtype, name=source.argument)

    return load


def name_layers(figure: Figure, source: Source) -> Figure:
    """Give a figure the words for layers that have others between them: true indices, or that an axis goes by order."""
    layers = source.checkpoint.layers
    if layers == tuple(range(len(layers))):
        return figure
    for axes in figure.axes:
        if axes.get_ylabel() == "layer":
            axes.set_ylabel("Mamba layer, by order")
        legend = axes.get_legend()
        for text in legend.get_texts() if legend else ():
            text.set_text(_true(text.get_text(), layers))
        for line in axes.lines:
            line.set_label(_true(str(line.get_label()), layers))
    return figure


def _true(label: str, layers: tuple[int, ...]) -> str:
    return re.sub(r"\blayer (\d+)$", lambda found: f"layer {layers[int(found[1])]}", label)
