"""``mambascope diagnose``: which layers and heads leave the range of training, why, and what theory expects."""

from __future__ import annotations

import argparse
from typing import Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length, length
from ..console import print_json, print_table, print_wrapped, progress, say

WORST = 8
"""Heads or channels that a terminal shows."""


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "diagnose",
        help="which layers and heads break beyond the training length, and why",
        description="Measures, on calibration text, horizons and writes in windows of the training length and state "
        "norms out to the target length, and compares the norms with what theory expects from the windows alone. No "
        "loss is evaluated. Prints what breaks in words, a row a layer, and the heads or channels that grow most; -o "
        "keeps all of them.",
        epilog="examples: mambascope diagnose mamba2-tiny --target-length 16k -o out   |   "
        "mambascope diagnose DIR --text book.txt --train-length 2k --target-length 32k --json",
    )
    add_model(parser)
    add_text(parser, "text", "calibration texts. Default: the bundled calibration texts")
    parser.add_argument("--target-length", type=length, metavar="L", help="length to look at. Default: 64 T")
    add_train_length(parser)
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the diagnosis and store every number."""
    from mambascope.analysis.arrays import Arrays, kept_arrays
    from mambascope.analysis.breakdown import Breakdown, breakdown
    from mambascope.analysis.breakdown_words import words
    from mambascope.analysis.diagnosis import diagnose
    from mambascope.analysis.planned_work import diagnosis_work
    from mambascope.analysis.proposal import TIMES_TO_SEE, followed_tokens
    from mambascope.analysis.study import token_counter

    from ..resources import plan_resources
    from ..sources import Source, documents, run_folder, text_paths

    source = Source.open(args.model, args)
    train_length = source.needs_train_length()
    target = args.target_length or TIMES_TO_SEE * train_length
    paths = text_paths(args, "text", "calibration")
    tokens, reach = followed_tokens(documents(source, paths, args), train_length, target)
    command = {"model": args.model, "target_length": target, "train_length": train_length}
    work = diagnosis_work(source.checkpoint.config, len(tokens), train_length, reach, writes=True)
    plan = plan_resources(args, [(source, work)])
    with run_folder(args, [source], command, {"calibration": paths}) as folder:
        model = plan.load(source, args)

        def measure() -> Arrays:
            with progress(tokens.shape[0] * reach, "diagnose") as tick:
                watch = [token_counter(tick)]
                lengths = {"train_length": train_length, "target_length": reach}
                found = diagnose(model, tokens, **lengths, writes=True, observers=watch)
            return dict(breakdown(found).arrays())

        found = Breakdown.of_arrays(model.name, kept_arrays(folder, "modes", measure) if folder else measure())
        if folder:
            from ..report import write_table

            write_table(folder, "layers", found.layers())
            write_table(folder, f"{found.unit}s", found.heads())
    if reach < target:
        say(f"half of the calibration texts end at {reach} tokens: states were followed to there")
    told = words(found, args.model)
    if args.json:
        print_json({
            "model": args.model,
            "train_length": found.train_length,
            "target_length": found.target_length,
            "lengths": list(found.lengths_tokens),
            "layers": found.layers(),
            "heads": found.heads(),
            "words": told,
        })
        return
    for line in told:
        print_wrapped(line)
        print()
    print_table(_narrow_layers(found.layers()))
    print_wrapped(
        ">T: share of modes that remember more than T; tau: horizons in tokens; kappa: coherence of the writes; "
        "exp: growth exponent at T (0 full, 1 noise, 2 constant); out: share predicted out of range at L; then growth "
        "from T to L, predicted and measured; from: where inputs change"
    )
    print()
    worst = sorted(found.heads(), key=lambda row: -row["growth_predicted"])[:WORST]
    print_table(_narrow_heads(worst, found))
    print_wrapped(f"The {len(worst)} {found.unit}s of {len(found.heads()):,} that theory expects to grow most")


def _tokens(n: float) -> str:
    return f"{n:,.0f}" if n < 1e6 else f"{n:.1e}"


def _narrow_layers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "layer": row["layer"],
            ">T": f"{row['modes_beyond_T']:.0%}",
            "tau mid": _tokens(row["tau_median"]),
            "tau max": _tokens(row["tau_max"]),
            "kappa": f"{row['kappa']:.2g}",
            "exp": f"{row['exponent_at_T']:.2f}",
            "out": f"{row['out_at_L']:.0%}",
            "predicted": f"{row['growth_predicted']:.2f}",
            "measured": f"{row['growth_measured']:.2f}",
            "from": row["inputs_change_at"],
        }
        for row in rows
    ]


def _narrow_heads(rows: list[dict[str, Any]], found: Any) -> list[dict[str, Any]]:
    T, L = found.train_length, found.target_length
    return [
        {
            "layer": row["layer"],
            found.unit: row[found.unit],
            "|A|": f"{row['rate']:.2g}",
            "tau": _tokens(row["horizon_tokens"]),
            "kappa": f"{row['kappa']:.2g}",
            "norm T": f"{row[f'norm_at_{T}']:.3g}",
            "norm L": f"{row[f'norm_at_{L}']:.3g}",
            "predicted": f"{row['growth_predicted']:.1f}",
            "measured": f"{row['growth_measured']:.1f}",
        }
        for row in rows
    ]
