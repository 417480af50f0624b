"""``mambascope evaluate``: what a model, scaled or not, is worth at each length."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length, length, lengths
from ..console import print_json, progress, say
from . import evaluate_longbench, evaluate_passkey

if TYPE_CHECKING:
    from ..sources import Source


OTHER_TASKS = {"passkey": evaluate_passkey, "longbench": evaluate_longbench}
"""Tasks with a module of their own."""


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "evaluate",
        help="bits per token and perplexity by length",
        description="Scores the first tokens of each document at several lengths, for one or more methods: none, "
        "spectrum (the proposal, made from calibration text), fresh-window (the control that cannot break down), "
        "constant:S (A scaled by S everywhere) and constant:KIND:S (KIND a, a_power or dt), rule:NAME (see propose "
        "--rules), scales (the file given with --scales), and every method and set that `compare --describe` lists. "
        "Each length is scored on the documents that reach it; means and 95 % intervals are over documents. With "
        "--task passkey: which keys, hidden in a text, the model finds. With --task longbench: its answers to "
        "LongBench, the seven tasks of the paper's Table 2.",
        epilog="examples: mambascope evaluate mamba2-tiny --lengths 256,16k --methods none,spectrum,fresh-window   |   "
        "mambascope evaluate mamba2-recall --task passkey --lengths 512,4k -o keys   |   "
        "mambascope evaluate mamba2-tiny --task longbench --data LongBench --max-length 2k -o longbench",
    )
    add_model(parser)
    parser.add_argument("--task", choices=("perplexity", *OTHER_TASKS), default="perplexity", help="what to measure")
    add_text(parser, "text", "texts or ids to score. Default: the bundled test texts")
    add_text(parser, "calibration", "texts that methods are fitted on. Default: the bundled calibration texts")
    add_text(parser, "validation", "texts that methods choose by. Default: the bundled validation texts")
    parser.add_argument(
        "--calibrate-at", type=length, metavar="L", help="tokens of a calibration window. Default: 16 T"
    )
    parser.add_argument("--lengths", type=lengths, help="such as 256,16k. Default: T and 64 T")
    parser.add_argument("--methods", help="with commas. Default: none,spectrum,fresh-window (and scales if given)")
    parser.add_argument("--scales", metavar="FILE", help="scales.json to evaluate as the method `scales`")
    parser.add_argument(
        "--reference", metavar="METHOD", help="compare the others with it. Default: spectrum, if it is run"
    )
    parser.add_argument(
        "--starts",
        type=int,
        default=1,
        metavar="N",
        help="passages of each document, spread over it and never overlapping; they count as one text. Default: 1",
    )
    parser.add_argument(
        "--same-documents",
        action="store_true",
        help="score every length on the documents that reach the longest, not on all that reach it",
    )
    parser.add_argument(
        "--bos", type=int, metavar="ID", help="token id put before each passage, read and not scored. Default: none"
    )
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="texts side by side. Default: 8; for passkey 20, on a GPU 100; for longbench 16 answers",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of all random draws. Default: 0")
    add_train_length(parser)
    for task in OTHER_TASKS.values():
        task.add_options(parser)
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate, print and store."""
    _refuse_options_of_others(args)
    run_task = OTHER_TASKS[args.task].run if args.task in OTHER_TASKS else _run_perplexity
    run_task(args)


def _refuse_options_of_others(args: argparse.Namespace) -> None:
    from mambascope.spectra.errors import RefusedInputError

    for task, module in OTHER_TASKS.items():
        given = [name for name in module.OPTIONS if getattr(args, name) is not None]
        if given and args.task != task:
            raise RefusedInputError(f"--{given[0].replace('_', '-')} is for --task {task}")
    if "scales" in (name.strip() for name in (args.methods or "").split(",")) and not args.scales:
        raise RefusedInputError("method 'scales' needs --scales FILE (make one with `mambascope propose`)")


def _run_perplexity(args: argparse.Namespace) -> None:
    """Score texts."""
    from mambascope.analysis.calibration.plan import TIMES
    from mambascope.analysis.evaluate.methods import Evaluation, needs_calibration
    from mambascope.analysis.evaluate.passages import cut_passages
    from mambascope.analysis.planned_work import methods_work
    from mambascope.analysis.study import Texts
    from mambascope.analysis.texts import refuse_fitted_on
    from mambascope.spectra.scales import Scales

    from ..resources import plan_resources, shape_of
    from ..sources import Source, documents, run_folder, text_paths

    source = Source.open(args.model, args)
    methods, lengths = _methods_and_lengths(source, args)
    read = {"text": text_paths(args, "text", "test"), "calibration": [], "validation": [], "scales": []}
    if any(needs_calibration(method) for method in methods):
        read |= {name: text_paths(args, name, name) for name in ("calibration", "validation")}
    if args.scales:
        read["scales"] = [args.scales]
    read |= {method: [Path(method.partition(":")[2])] for method in methods if method.startswith("scales:")}
    texts = documents(source, read["text"], args)
    fitted_on = {name: documents(source, read[name], args) for name in ("calibration", "validation")}
    Texts(**fitted_on, test=texts).check()
    for file in read["scales"] + [paths[0] for name, paths in read.items() if name.startswith("scales:")]:
        refuse_fitted_on(file, texts)
    shorter = [] if args.same_documents else lengths
    passages = cut_passages(texts, max(lengths), args.starts, shorter=shorter, bos=args.bos)
    _tell_who_is_short([len(d) for d in texts], lengths, args.same_documents)
    scales = Scales.load(args.scales).check(source.checkpoint.config) if args.scales else None
    command = {"task": args.task, "model": args.model, "methods": methods, "lengths": lengths}
    command |= {"train_length": source.train_length, "reference": args.reference, "starts": args.starts}
    command |= {"same_documents": args.same_documents, "bos": args.bos, "batch": args.batch or 8}
    command |= {"calibrate_at": args.calibrate_at, "seed": args.seed or 0}
    T, batch = source.train_length, args.batch or 8
    job = Evaluation(
        shape_of(source, args), passages, lengths, T, fitted_on["calibration"], fitted_on["validation"], scales,
        args.calibrate_at, batch, args.reference, args.seed or 0,
    )  # fmt: skip
    planned, rows = job.planned_tokens(methods), min(batch, len(passages))
    trained = T or min(lengths)  # methods that need neither do not ask
    work = methods_work(methods, planned, rows, lengths, trained, args.calibrate_at or TIMES * trained)
    plan = plan_resources(args, [(source, work)])
    with run_folder(args, [source], command, read) as folder:
        job.model = plan.load(source, args)
        with progress(planned, "evaluate") as tick:
            found = job.run(methods, folder=folder, tick=tick)
        if folder:
            from ..evaluate import write_evaluation

            write_evaluation(folder, args.model, found, T)
    for note in job.notes:
        say(note)
    if args.json:
        about = {"model": args.model, "task": args.task, "train_length": T, "notes": job.notes}
        print_json(about | found.to_dict())
    else:
        print(found)


def _methods_and_lengths(source: Source, args: argparse.Namespace) -> tuple[list[str], list[int]]:
    """Return what is asked for, refusing what cannot be before a text is read."""
    from mambascope.analysis.evaluate.methods import check_methods, check_reference, needs_train_length
    from mambascope.analysis.methods import SETS
    from mambascope.spectra.errors import RefusedInputError

    default = "none,spectrum,fresh-window" + (",scales" if args.scales else "")
    named = [name.strip() for name in (args.methods or default).split(",") if name.strip()]
    methods = list(dict.fromkeys(each for name in named for each in SETS.get(name, (name,))))
    check_methods(methods, source.checkpoint.config)
    check_reference(args.reference, methods)
    if any(map(needs_train_length, methods)) or not args.lengths:
        source.needs_train_length()
    if args.batch is not None and args.batch < 1:
        raise RefusedInputError(f"--batch {args.batch}: expected at least 1")
    if args.starts < 1:
        raise RefusedInputError(f"--starts {args.starts}: expected at least 1 passage a document")
    ids = source.checkpoint.config.vocab_size
    if args.bos is not None and not 0 <= args.bos < ids:
        raise RefusedInputError(f"--bos {args.bos}: expected an id from 0 to {ids - 1}")
    lengths = args.lengths or [source.needs_train_length(), 64 * source.needs_train_length()]
    if min(lengths) < 2:
        raise RefusedInputError("length 1: at least 2 tokens are needed, as the first is not scored")
    return methods, lengths


def _tell_who_is_short(tokens: list[int], lengths: list[int], same_documents: bool) -> None:
    """Say on stderr which lengths fewer documents reach."""
    at = [max(lengths)] if same_documents else lengths
    for far in at:
        reach = sum(n >= far for n in tokens)
        if reach < len(tokens):
            then = "the others are left out" + ("" if same_documents else " of its rows")
            say(f"text: {reach} of {len(tokens)} documents reach {far} tokens; {then}")
