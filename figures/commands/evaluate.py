"""``mambascope evaluate``: what a model, scaled or not, is worth at each length."""

from __future__ import annotations

import argparse
from typing import Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length, lengths
from ..console import print_json, progress, say


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "evaluate",
        help="bits per token and perplexity by length",
        description="Scores the first tokens of each document at several lengths, for one or more methods: none, "
        "spectrum (the proposal, made from calibration text), fresh-window (the control that cannot break down), "
        "constant:S (A scaled by S everywhere), scales (the file given with --scales).",
        epilog="example: mambascope evaluate mamba2-tiny --lengths 256,16k --methods none,spectrum,fresh-window",
    )
    add_model(parser)
    parser.add_argument("--task", choices=("perplexity",), default="perplexity", help="what to measure")
    add_text(parser, "text", "texts or ids to score. Default: the bundled test texts")
    add_text(parser, "calibration", "texts for the spectrum method. Default: the bundled calibration texts")
    parser.add_argument("--lengths", type=lengths, help="such as 256,16k. Default: T and 64 T")
    parser.add_argument("--methods", help="with commas. Default: none,spectrum,fresh-window (and scales if given)")
    parser.add_argument("--scales", metavar="FILE", help="scales.json to evaluate as the method `scales`")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="documents side by side. Default: 8")
    add_train_length(parser)
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate, print and store."""
    from mambascope.analysis.evaluate.methods import Evaluation, check_methods
    from mambascope.analysis.evaluate.perplexity import stack_documents
    from mambascope.analysis.study import Texts, token_counter
    from mambascope.spectra.errors import RefusedInputError
    from mambascope.spectra.scales import Scales

    from ..sources import Source, documents, run_folder, tell_how_many_reach, text_paths

    source = Source.open(args.model, args)
    default = "none,spectrum,fresh-window" + (",scales" if args.scales else "")
    methods = list(dict.fromkeys(name.strip() for name in (args.methods or default).split(",")))
    check_methods(methods, source.checkpoint.config)
    if {"spectrum", "fresh-window"} & set(methods) or not args.lengths:
        source.needs_train_length()
    if "scales" in methods and not args.scales:
        raise RefusedInputError("method 'scales' needs --scales FILE (make one with `mambascope propose`)")
    if args.batch < 1:
        raise RefusedInputError(f"--batch {args.batch}: expected at least 1")
    lengths = args.lengths or [source.needs_train_length(), 64 * source.needs_train_length()]
    if min(lengths) < 2:
        raise RefusedInputError("length 1: at least 2 tokens are needed, as the first is not scored")
    read = {"text": text_paths(args, "text", "test"), "calibration": [], "scales": []}
    if "spectrum" in methods:
        read["calibration"] = text_paths(args, "calibration", "calibration")
    if args.scales:
        read["scales"] = [args.scales]
    texts, calibration = documents(source, read["text"], args), documents(source, read["calibration"], args)
    Texts(calibration=calibration, validation=(), test=texts).check()
    tokens = stack_documents([d.ids for d in texts], max(lengths))
    tell_how_many_reach(texts, max(lengths), "text")
    scales = Scales.load(args.scales).check(source.checkpoint.config) if args.scales else None
    command = {"task": args.task, "model": args.model, "methods": methods}
    command |= {"lengths": lengths, "train_length": source.train_length}
    with run_folder(args, [source], command, read) as folder:
        job = Evaluation(source.load(args), tokens, lengths, source.train_length, calibration, scales, args.batch)
        passes = len(methods) + ("fresh-window" in methods) + ("spectrum" in methods) / 2
        with progress(int(tokens.size * passes), "evaluate") as tick:
            found = job.run(methods, folder=folder, observers=[token_counter(tick)])
        if folder:
            from ..report import write_table

            write_table(folder, "perplexity", found.to_dict()["rows"])
    for note in job.notes:
        say(note)
    if args.json:
        about = {"model": args.model, "task": args.task, "train_length": source.train_length, "notes": job.notes}
        print_json(about | found.to_dict())
    else:
        print(found)
