"""``mambascope models``: what is bundled."""

from __future__ import annotations

import argparse
from typing import Any

from ..arguments import add_json
from ..console import print_json, print_table


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "models",
        help="list the bundled models",
        description="Prints one row a bundled model: its name for the other commands, architecture, layers, sizes, "
        "weights, and the length T that it was trained on.",
        epilog="examples: mambascope models   |   mambascope models --json",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """List the bundled models."""
    from mambascope.spectra.checkpoint import bundled_models, open_checkpoint
    from mambascope.spectra.layouts import expected_tensors
    from mambascope.spectra.loading import read_card

    rows = []
    for name in bundled_models():
        checkpoint = open_checkpoint(name)
        config, card = checkpoint.config, read_card(checkpoint.folder)
        shapes = expected_tensors(config)
        if config.tie_embeddings:
            shapes.pop("lm_head.weight", None)
        parameters = 0
        for shape in shapes.values():
            count = 1
            for size in shape:
                count *= size
            parameters += count
        rows.append({
            "model": name,
            "arch": config.arch,
            "layers": config.n_layer,
            "d_model": config.d_model,
            "d_state": config.d_state,
            "parameters": parameters,
            "train_length": card.train_length if card else None,
        })
    if args.json:
        print_json({"models": rows})
    else:
        print_table(rows)
