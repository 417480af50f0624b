"""``mambascope norms``: hidden-state norms by layer and length, from one pass."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length, lengths
from ..console import print_json, print_table, progress


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "norms",
        help="hidden-state norms by layer and length",
        description="Norms of the state vectors of every layer after each length; memory does not grow with it.",
        epilog="example: mambascope norms mamba2-tiny --lengths 256..64k",
    )
    add_model(parser)
    add_text(parser, "text", "texts or ids to read. Default: the bundled test texts")
    parser.add_argument("--lengths", type=lengths, default=None, help="such as 1k,4k,64k or 1k..64k")
    parser.add_argument("--scales", metavar="FILE", help="scales.json to run with")
    parser.add_argument(
        "--protocol",
        choices=("all", "table1"),
        default="all",
        help="table1: (max, min) of the cache with the widest range, as in the paper's Table 1; first text only",
    )
    add_train_length(parser)
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print or store the norms."""
    from mambascope.analysis.evaluate.perplexity import stack_documents
    from mambascope.analysis.study import token_counter
    from mambascope.spectra.norms import state_norms, table1
    from mambascope.spectra.scales import Scales

    from ..sources import Source, documents, run_folder, tell_how_many_reach, text_paths

    source = Source.open(args.model, args)
    paths = text_paths(args, "text", "test")
    texts = documents(source, paths, args)
    if args.protocol == "table1":
        texts = texts[:1]
    longest = max(map(len, texts))
    asked = args.lengths or [n for n in (2**k for k in range(8, 17)) if n <= longest] or [longest]
    tokens = stack_documents([d.ids for d in texts], max(asked))
    tell_how_many_reach(texts, max(asked), "text")
    scales = Scales.load(args.scales).check(source.checkpoint.config) if args.scales else None
    command = {"model": args.model, "lengths": asked, "protocol": args.protocol}
    read = {"text": paths, "scales": [args.scales] if args.scales else []}
    with run_folder(args, [source], command, read) as folder:
        model = source.load(args)
        with progress(tokens.size, "norms") as tick:
            found = state_norms(model, tokens, asked, intervention=scales, observers=[token_counter(tick)])
        rows = [asdict(cell) for cell in table1(found)] if args.protocol == "table1" else found.rows()
        if folder:
            from ..norms import norms_figure
            from ..report import write_table
            from ..style import save

            write_table(folder, "norms", rows)
            save(norms_figure(found, None, source.train_length), folder, "norms")
    if args.json:
        print_json({"model": args.model, "protocol": args.protocol, "documents": len(tokens), "rows": rows})
    else:
        print_table(rows)
