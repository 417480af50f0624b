"""``mambascope bake``: fold scales into the weights of an ordinary checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..arguments import add_json, add_output, add_train_length, length
from ..console import print_json, print_table, say

LARGE_ERROR = 1e-2
"""Ours: from 1 % of the largest logit on, a person is warned."""


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "bake",
        help="fold scales into an ordinary checkpoint that loads anywhere",
        description="Writes weights, config.json, tokenizer, model card and scales. Kinds a and a_power always fold, "
        "dt exactly on Mamba-1 and up to the gated norm's epsilon on Mamba-2 (one factor a layer); what cannot be "
        "folded is refused with the reason. Logits are compared with the scaled model before config.json is written. "
        "In FalconMamba and hybrid models the Mamba layers' tensors change, and factors count these layers alone.",
        epilog="example: mambascope propose mamba2-tiny -o p; mambascope bake mamba2-tiny --scales p/scales.json -o b",
    )
    what = "bundled name (see `mambascope models`), folder with config.json and weights, or hub id owner/name"
    parser.add_argument("model", metavar="MODEL", help=what)
    parser.add_argument("--scales", type=Path, metavar="FILE", required=True, help="scales.json of propose")
    parser.add_argument(
        "--layout",
        choices=("transformers", "state-spaces"),
        default="transformers",
        help="model.safetensors for transformers (default), or the pytorch_model.bin that mamba_ssm reads",
    )
    parser.add_argument("--name", help="how reports call the result. Default: the model's name and -baked")
    parser.add_argument("--curves", type=Path, metavar="FILE", help="CSV of measurements to show in the model card")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="tokenizer.json. Default: the model's own")
    parser.add_argument(
        "--check-tokens", type=length, default=256, metavar="N", help="tokens of the self-check. Default: 256"
    )
    parser.add_argument("--no-check", action="store_true", help="leave the self-check out")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads. Default: torch's own choice")
    add_train_length(parser)
    add_output(parser, required=True)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Bake and tell how exact it is."""
    from mambascope.analysis.baking import bake

    from ..sources import set_threads

    set_threads(args)
    baked = bake(
        args.model,
        args.scales,
        args.output,
        args.layout,
        name=args.name,
        train_length=args.train_length,
        tokenizer=args.tokenizer,
        curves=args.curves,
        check_tokens=0 if args.no_check else args.check_tokens,
        fresh=args.fresh,
    )
    if args.json:
        print_json(baked.to_dict())
        return
    print_table(baked.document["folds"])
    print_table(baked.document["files"])
    if rates := baked.document.get("rates_check"):
        say(
            f"rates |A| of the {rates['layers']} Mamba layers, read back, differ from the scaled ones by "
            f"{rates['largest_error']:.2g}; logits were not compared: mambascope has no forward of this architecture"
        )
    elif (check := baked.check) is None:
        say("not compared with the scaled model (--no-check)")
    else:
        told = f"; on other text expect less than {check.stated_error:.2g}" if check.stated_error else ""
        say(f"logits differ by {check.error:.2g} of the largest on {check.tokens} tokens of {check.text}{told}")
        if check.error > LARGE_ERROR:
            say("that is much: these factors hardly fold; prefer kind a, or give the scales at run time")
    say(f"{args.output}: {baked.document['layout']} layout, {len(baked.changes)} tensors changed")
