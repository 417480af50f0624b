"""``mambascope norms``: hidden-state norms by layer and length, from one pass."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length, lengths
from ..console import print_json, print_table, print_wrapped, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mambascope.spectra.dynamics import Observer
    from mambascope.spectra.norms import StateNorms
    from mambascope.spectra.scales import Scales

    from ..sources import Source

    Measure = Callable[[Sequence[Observer]], StateNorms]


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "norms",
        help="hidden-state norms by layer and length",
        description="Norms of the state vectors of every layer after each length; memory does not grow with it. "
        "Hybrid models and FalconMamba are run by transformers, if it is installed, and watched.",
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
    from mambascope.analysis.study import token_counter
    from mambascope.spectra.foreign.checkpoint import open_any
    from mambascope.spectra.norms import table1
    from mambascope.spectra.published_norms import LENGTHS_TOKENS, beside_the_paper
    from mambascope.spectra.scales import Scales

    from ..foreign import about, name_layers
    from ..sources import Source, documents, run_folder, tell_how_many_reach, text_paths

    source = Source.open(args.model, args, open_any)
    _refuse_for_foreign(source, args)
    of_model = about(source, watched=True)
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
    command = {"model": args.model, "lengths": asked, "protocol": args.protocol} | of_model
    read = {"text": paths, "scales": [args.scales] if args.scales else []}
    load = _plan(source, args, tokens, asked, scales)
    with run_folder(args, [source], command, read) as folder:
        measure = load()
        with progress(len(tokens) * max(asked), "norms") as tick:
            found = measure([token_counter(tick)])
        if args.protocol == "table1":
            differs = [f"it ran with the factors of {args.scales}"] if args.scales else []
            differs += [f"it ran in {args.dtype}"] if args.dtype not in {"float32", "float64"} else []
            rows, told = beside_the_paper(table1(found), tokens[0], source.checkpoint.config, differs)
        else:
            rows, told = found.rows(), ""
        if folder:
            from ..norms import norms_figure
            from ..report import write_table
            from ..style import save

            write_table(folder, "norms", rows)
            save(name_layers(norms_figure(found, None, source.train_length), source), folder, "norms")
    if args.json:
        head = {"model": args.model, "protocol": args.protocol, "documents": len(tokens)} | of_model
        print_json(head | {"rows": rows} | ({"comparison": told} if told else {}))
    elif told:
        print_table([_beside(row) for row in rows])
        print_wrapped(told)
    else:
        print_table(rows)


def _refuse_for_foreign(source: Source, args: argparse.Namespace) -> None:
    """Refuse what only our own forward can do."""
    from mambascope.spectra.errors import RefusedInputError
    from mambascope.spectra.foreign.checkpoint import ForeignCheckpoint

    if not isinstance(source.checkpoint, ForeignCheckpoint):
        return
    if args.scales:
        raise RefusedInputError(
            f"--scales {args.scales}: factors act in mambascope's own forward, which {args.model} does not have; bake "
            f"them (mambascope bake {args.model} --scales {args.scales} -o OUT) and take the norms of OUT"
        )
    if args.protocol == "table1":
        raise RefusedInputError("--protocol table1: the paper's Table 1 is of mamba and mamba2; leave it out")


def _plan(
    source: Source, args: argparse.Namespace, tokens: Any, asked: Sequence[int], scales: Scales | None
) -> Callable[[], Measure]:
    """Return what loads the model and gives what measures its norms, if there is room for it."""
    from mambascope.analysis.planned_work import norms_work
    from mambascope.spectra.foreign.checkpoint import ForeignCheckpoint
    from mambascope.spectra.foreign.measures import foreign_state_norms
    from mambascope.spectra.norms import state_norms

    from ..foreign import plan_watched
    from ..resources import plan_resources

    if isinstance(source.checkpoint, ForeignCheckpoint):
        watched = plan_watched(source, args, len(tokens), max(asked), len(tokens))

        def watch() -> Measure:
            model = watched()
            return lambda observers: foreign_state_norms(model, tokens, asked, observers=observers)

        return watch
    plan = plan_resources(args, [(source, norms_work(source.checkpoint.config, len(tokens), asked))])

    def load() -> Measure:
        model = plan.load(source, args)
        return lambda observers: state_norms(model, tokens, asked, intervention=scales, observers=observers)

    return load


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
