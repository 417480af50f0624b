"""``mambascope propose``: scales from a diagnosis, no loss evaluated."""

from __future__ import annotations

import argparse
from typing import Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length, length
from ..console import print_json, print_table, progress, say


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "propose",
        help="spectrum-guided scales for a target length",
        description="Measures step sizes on calibration text and draws in the horizons of modes that remember more "
        "than the training length. A model whose states stay in range is left alone.",
        epilog="example: mambascope propose mamba2-tiny --target-length 16k -o out",
    )
    add_model(parser)
    add_text(parser, "text", "calibration texts. Default: the bundled calibration texts")
    parser.add_argument("--target-length", type=length, metavar="L", help="length to prepare for. Default: 64 T")
    add_train_length(parser)
    parser.add_argument("--inputs", choices=("coherent", "noise"), default="coherent", help="what drives slow modes")
    parser.add_argument("--always", action="store_true", help="propose even where the states stay in range")
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the proposal and store its scales."""
    from mambascope.analysis.atomic import write_json
    from mambascope.analysis.proposal import TIMES_TO_SEE, propose_for
    from mambascope.analysis.study import token_counter

    from ..sources import Source, documents, run_folder, text_paths

    source = Source.open(args.model, args)
    train_length = source.needs_train_length()
    target = args.target_length or TIMES_TO_SEE * train_length
    paths = text_paths(args, "text", "calibration")
    texts = documents(source, paths, args)
    command = {
        "model": args.model,
        "target_length": target,
        "train_length": train_length,
        "inputs": args.inputs,
        "always": args.always,
    }
    with run_folder(args, [source], command, {"calibration": paths}) as folder:
        model = source.load(args)
        followed = max(target, TIMES_TO_SEE * train_length)
        with progress(sum(min(followed, len(d)) for d in texts), "propose") as tick:
            found = propose_for(
                model,
                texts,
                train_length,
                target,
                inputs=args.inputs,
                always=args.always,
                observers=[token_counter(tick)],
            )
        if folder:
            from ..report import write_table

            write_json(folder.output("scales.json"), found.scales.to_dict() | {"note": found.reason})
            write_table(folder, "diagnosis", found.diagnosis.rows())
            write_table(folder, "proposal", found.rows())
    if found.diagnosis.target_length < target:
        say(f"the calibration texts end at {found.diagnosis.target_length} tokens: states were followed to there")
    if args.json:
        print_json({
            "model": args.model,
            "rule": found.rule,
            "acts": found.acts,
            "reason": found.reason,
            "scales": found.scales.to_dict(),
            "rows": found.rows(),
        })
    else:
        print_table(found.diagnosis.rows())
        print_table(found.rows())
        say(f"{found.rule}: {found.reason}")
