"""``mambascope norms``: hidden-state norms by layer and length, from one pass."""

from __future__ import annotations

import argparse
from typing import Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length, lengths
from ..console import print_json, print_table, print_wrapped, progress


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "norms",
        help="hidden-state norms by layer and length",
        description="Norms of the state vectors of every layer after each length; memory does not grow with it.",
        epilog="examples: mambascope norms mamba2-tiny --lengths 256..64k   |   mambascope norms "
        "state-spaces/mamba2-1.3b --protocol table1 --text canterbury_tales.json",
    )
    add_model(parser)
    add_text(parser, "text", "texts or ids to read. Default: the bundled test texts")
    parser.add_argument("--lengths", type=lengths, default=None, help="such as 1k,4k,64k or 1k..64k")
    parser.add_argument("--scales", metavar="FILE", help="scales.json to run with")
    parser.add_argument(
        "--protocol",
        choices=("all", "table1"),
        default="all",
        help="table1: (max, min) of the cache with the widest range, beside the PG19 row of the paper's Table 1; first "
        "text only, by default 1k..64k",
    )
    add_train_length(parser)
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print or store the norms."""
    from mambascope.analysis.evaluate.perplexity import stack_documents
    from mambascope.analysis.planned_work import norms_work
    from mambascope.analysis.study import token_counter
    from mambascope.spectra.norms import state_norms, table1
    from mambascope.spectra.published_norms import LENGTHS_TOKENS, beside_the_paper
    from mambascope.spectra.scales import Scales

    from ..resources import plan_resources
    from ..sources import Source, documents, run_folder, tell_how_many_reach, text_paths

    source = Source.open(args.model, args)
    paths = text_paths(args, "text", "test")
    texts = documents(source, paths, args)
    if args.protocol == "table1":
        texts = texts[:1]
    longest = max(map(len, texts))
    usual = LENGTHS_TOKENS if args.protocol == "table1" else tuple(2**k for k in range(8, 17))
    asked = args.lengths or [n for n in usual if n <= longest] or [longest]
    tokens = stack_documents([d.ids for d in texts], max(asked))
    tell_how_many_reach(texts, max(asked), "text")
    scales = Scales.load(args.scales).check(source.checkpoint.config) if args.scales else None
    command = {"model": args.model, "lengths": asked, "protocol": args.protocol}
    read = {"text": paths, "scales": [args.scales] if args.scales else []}
    plan = plan_resources(args, [(source, norms_work(source.checkpoint.config, len(tokens), asked))])
    with run_folder(args, [source], command, read) as folder:
        model = plan.load(source, args)
        with progress(len(tokens) * max(asked), "norms") as tick:
            found = state_norms(model, tokens, asked, intervention=scales, observers=[token_counter(tick)])
        if args.protocol == "table1":
            rows, told = beside_the_paper(table1(found), tokens[0], source.checkpoint.config)
        else:
            rows, told = found.rows(), ""
        if folder:
            from ..norms import norms_figure
            from ..report import write_table
            from ..style import save

            write_table(folder, "norms", rows)
            save(norms_figure(found, None, source.train_length), folder, "norms")
    if args.json:
        about = {"model": args.model, "protocol": args.protocol, "documents": len(tokens)}
        print_json(about | {"rows": rows} | ({"comparison": told} if told else {}))
    elif told:
        print_table([_beside(row) for row in rows])
        print_wrapped(told)
    else:
        print_table(rows)


def _beside(row: dict[str, Any]) -> dict[str, Any]:
    """Return ours and the paper's numbers as they fit a terminal, in the paper's digits."""

    def digits(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    return {
        "L": row["length_tokens"],
        "max": digits(row["max"]),
        "paper": digits(row["paper_max"]),
        "ratio": "-" if row["max_over_paper"] is None else f"{row['max_over_paper']:.4g}",
        "min": digits(row["min"]),
        "paper min": digits(row["paper_min"]),
        "layer": row["layer"],
        "paper layer": row["paper_layer"],
        "cache": row["cache"],
        "runner-up": row["runner_up_layer"],
        "tokens": {None: "-", True: "the paper's", False: "others"}[row["same_tokens"]],
    }
