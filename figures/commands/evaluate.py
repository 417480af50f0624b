"""``mambascope evaluate``: what a model, scaled or not, is worth at each length."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
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
    from mambascope.analysis.runs import InputFile, RunFolder
    from mambascope.analysis.study import Texts, token_counter
    from mambascope.spectra.errors import RefusedInputError
    from mambascope.spectra.scales import Scales

    from ..sources import Source, documents, text_paths

    source = Source.open(args.model, args)
    default = "none,spectrum,fresh-window" + (",scales" if args.scales else "")
    methods = list(dict.fromkeys((args.methods or default).split(",")))
    check_methods(methods)
    if {"spectrum", "fresh-window"} & set(methods) or not args.lengths:
        source.needs_train_length()
    if args.batch < 1:
        raise RefusedInputError(f"--batch {args.batch}: expected at least 1")
    lengths = args.lengths or [source.needs_train_length(), 64 * source.needs_train_length()]
    if min(lengths) < 2:
        raise RefusedInputError("length 1: at least 2 tokens are needed, as the first is not scored")
    paths, calibration_paths = text_paths(args, "text", "test"), text_paths(args, "calibration", "calibration")
    texts = documents(source, paths, args)
    calibration = documents(source, calibration_paths, args) if "spectrum" in methods else ()
    Texts(calibration=calibration, validation=(), test=texts).check()
    tokens = stack_documents([d.ids for d in texts], max(lengths))
    scales = Scales.load(args.scales).check(source.checkpoint.config) if args.scales else None
    job = Evaluation(source.load(args), tokens, lengths, source.train_length, calibration, scales, args.batch)
    with ExitStack() as stack:
        folder = None
        if args.output:
            command = {"verb": "evaluate", "task": args.task, "model": args.model, "methods": methods}
            command |= {"lengths": lengths, "train_length": source.train_length}
            inputs = source.inputs() + [InputFile.of("text", path) for path in paths]
            if "spectrum" in methods:
                inputs += [InputFile.of("calibration", path) for path in calibration_paths]
            if args.scales:
                inputs.append(InputFile.of("scales", args.scales))
            opened = RunFolder.open(
                args.output, command=command, seed=None, fresh=args.fresh, inputs=inputs, dtype=args.dtype
            )
            folder = stack.enter_context(opened)
        passes = len(methods) + 2 * ("fresh-window" in methods) + ("spectrum" in methods)
        tick = stack.enter_context(progress(tokens.size * passes, "evaluate"))
        found = job.run(methods, folder=folder, observers=[token_counter(tick)])
        if folder:
            from ..report import write_table

            write_table(folder, "perplexity", found.to_dict()["rows"])
    for note in job.notes:
        say(note)
    if args.json:
        print_json({"model": args.model, "task": args.task, "train_length": source.train_length, **found.to_dict()})
    else:
        print(found)
