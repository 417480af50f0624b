"""``mambascope train``: make a bundled model again, or train one from a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..arguments import add_output
from ..console import progress, say


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "train",
        help="train a byte-level model from a recipe",
        description="Trains on one CPU thread, or on a GPU, and writes DIR/model, a checkpoint with tokenizer that "
        "every other command takes. A stopped training goes on where it was, on a CPU to the same weights.",
        epilog="examples: mambascope train mamba2-tiny --data books/*.txt -o out   # the model: out/model   |   "
        "mambascope train recipe.json --data book.txt --steps 100 -o trial",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="bundled model's name, or a recipe.json")
    parser.add_argument("--data", type=Path, nargs="+", metavar="FILE", required=True, help="texts to train on")
    parser.add_argument("--steps", type=int, metavar="N", help="instead of the recipe's, in its last stage")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:N, or auto")
    add_output(parser, required=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train and store the model."""
    import torch

    from mambascope.analysis.recipe import read_recipe
    from mambascope.analysis.runs import InputFile, RunFolder
    from mambascope.analysis.train import read_corpus, train_in_folder
    from mambascope.spectra.loading import pick_device

    device = pick_device(args.device)
    torch.set_num_threads(1)  # the same bytes on any machine size
    recipe = read_recipe(args.recipe, steps=args.steps)
    inputs = [InputFile.of("text", path) for path in sorted(args.data)]
    corpus = read_corpus(sorted(args.data), [recipe])  # before a folder is made
    command = {"verb": "train", "recipe": recipe.to_dict()}
    with (
        RunFolder.open(
            args.output,
            command=command,
            seed=recipe.seed,
            fresh=args.fresh,
            inputs=inputs,
            device=str(device),
            threads=1,
        ) as folder,
        progress(recipe.tokens_seen(), f"train {recipe.name}") as tick,
    ):
        bits = train_in_folder(recipe, corpus, folder, tick, device)
    last = min(100, recipe.steps)
    say(f"{args.output / 'model'}: {recipe.steps} steps, {bits:.3f} bits per byte over the last {last} of them")
