"""``mambascope compare``: every method on every corpus at every length."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import add_engine, add_json, add_model, add_output, add_train_length, at_least, length
from ..compare_lengths import length_or_times, lengths_or_times
from ..console import print_json, print_wrapped, progress, say

if TYPE_CHECKING:
    from mambascope.analysis.compare_keys import PasskeyAsk
    from mambascope.analysis.compare_plan import ComparePlan
    from mambascope.analysis.study import Texts
    from mambascope.spectra.zoo import Split

    from ..sources import Source


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "compare",
        help="all methods on all corpora at all lengths, with intervals and costs",
        description="Fits each method once, on calibration and validation text of one corpus, scores it on the test "
        "text of every corpus, and asks for pass keys where a model does that task. Methods: none, fresh-window, "
        "spectrum, constant:KIND:S or constant:KIND:best (KIND a, a_power or dt), rule:NAME, scales:FILE, and those "
        "that --describe lists; or the sets all, constants, calibrated, rivals. --jobs defaults to one worker a core, "
        "and to 1 on a GPU or for weights above 128 MB; --threads are those of each worker, by default 1.",
        epilog="examples: mambascope compare mamba2-tiny --methods spectrum,constant:a:best --lengths 1k,16k -o out   |"
        "   mambascope compare mamba2-tiny mamba-tiny --lengths 16T,64T,128T --documents 8 -o table3   |   "
        "mambascope compare --methods rivals --describe   # what they are, and whom to cite",
    )
    add_model(parser, many=True)
    parser.add_argument("--methods", default="all", help="with commas, names or sets. Default: all")
    parser.add_argument(
        "--lengths", type=lengths_or_times, default="T,4T,16T,64T",
        help="such as 512..128k, or multiples of each model's own T: 16T,64T. Default: T,4T,16T,64T",
    )  # fmt: skip
    parser.add_argument(
        "--corpora", default="books,gov",
        help="with commas; gov:32k reads that corpus up to 32k tokens. Default: the bundled books,gov",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="texts of your own, DIR/CORPUS/{calibration,...}/*.txt"
    )
    parser.add_argument("--fit-on", metavar="CORPUS", help="corpus that methods are fitted on. Default: the first")
    parser.add_argument(
        "--calibrate-at", type=length_or_times, metavar="L",
        help="tokens of a calibration window, such as 4k or 8T. Default: 16T",
    )  # fmt: skip
    parser.add_argument("--starts", type=int, default=1, metavar="N", help="passages of a document at most. Default: 1")
    parser.add_argument("--documents", type=int, metavar="N", help="test documents of a corpus at most. Default: all")
    parser.add_argument("--reference", default="spectrum", metavar="METHOD", help="what differences are taken to")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of every calibration. Default: each method's own")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random draws. Default: 0")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="passages side by side. Default: 8")
    parser.add_argument(
        "--passkey-lengths", type=lengths_or_times, metavar="L",
        help="tokens of a prompt with a hidden key and its answer. Default: T,4T,16T, those that can hold one",
    )  # fmt: skip
    parser.add_argument(
        "--passkey-examples", type=int, default=10, metavar="N",
        help="keys at each of 5 depths; 0 asks for none. A model that finds fewer than half at T, unscaled, is not "
        "asked for more. Default: 10",
    )  # fmt: skip
    parser.add_argument("--describe", action="store_true", help="say what the methods are and whom to cite, and end")
    add_train_length(parser)
    add_engine(parser)
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def _corpora(words: str) -> dict[str, int | None]:
    """Read ``books,gov:32k``: names, each with the longest length to read of it."""
    import re

    from mambascope.spectra.errors import RefusedInputError

    found: dict[str, int | None] = {}
    for word in filter(None, (part.strip() for part in words.split(","))):
        name, colon, limit = word.partition(":")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise RefusedInputError(
                f"--corpora {word!r}: expected a name of letters and digits, as in books or gov:32k"
            )
        try:
            found[name] = length(limit) if colon else None
        except argparse.ArgumentTypeError as error:
            raise RefusedInputError(f"--corpora {word!r}: {error}") from error
    if not found:
        raise RefusedInputError("--corpora is empty; expected some of books, gov, or folders of --data")
    return found


def _describe(methods: Any) -> None:
    """Print what the methods are, and their sources as BibTeX."""
    for method in methods:
        print_wrapped(f"{method.name}: {method.describe()}")
    print()
    for citation in {c.key: c for method in methods for c in method.cite()}.values():
        print(citation.bibtex())


def run(args: argparse.Namespace) -> None:
    """Compare, print the tables and store everything."""
    from mambascope.analysis.compare import planned_tokens, run_comparisons, with_needed
    from mambascope.analysis.methods import chosen_methods
    from mambascope.analysis.planned_work import comparison_work
    from mambascope.spectra.checkpoint import bundled_models
    from mambascope.spectra.errors import RefusedInputError

    from ..compare import cost_lines, table_lines, write_comparisons  # now, not after hours of work
    from ..resources import plan_resources
    from ..sources import Source, run_folder
    from ..style import slugs

    names = [name.strip() for name in args.methods.split(",") if name.strip()]
    methods = with_needed(chosen_methods(names), args.reference)
    if args.describe:
        _describe(methods)
        return
    at_least(args, 1, ("starts", "documents", "steps", "batch"))
    at_least(args, 0, ("passkey_examples",))
    limits = _corpora(args.corpora)
    fit_on = args.fit_on or next(iter(limits))
    if fit_on not in limits:
        raise RefusedInputError(f"--fit-on {fit_on}: expected one of the corpora, {', '.join(limits)}")
    if not args.model:
        raise RefusedInputError(f"no model given; bundled are {', '.join(bundled_models())}")
    sources = [Source.open(name, args) for name in args.model]
    workers = _workers(args, sources)
    files = _files(args, limits, fit_on)
    args.threads = args.threads or 1  # here and in every worker: the results of one and of many must be the same
    command = {
        "models": args.model,
        "lengths": args.lengths.plain(),
        "corpora": limits,
        "fit_on": fit_on,
        "calibrate_at": str(args.calibrate_at or ""),
        "train_length": args.train_length,
        "starts": args.starts,
        "documents": args.documents,
        "steps": args.steps,
        "seed": args.seed,
        "batch": args.batch,
    }  # neither methods nor keys: a folder takes more of them later, and what it has is not computed again
    scales = {method.name: [Path(method.name.partition(":")[2])] for method in methods if "scales:" in method.name}
    plans = [
        _plan(source, args, methods, limits, fit_on, files, key)
        for source, key in zip(sources, slugs(args.model), strict=True)
    ]
    jobs = [(source, comparison_work(plan)) for source, plan in zip(sources, plans, strict=True)]
    resources = plan_resources(args, jobs, at_once=True, workers=workers)
    with run_folder(args, sources, command, files | scales) as folder:
        plans = [replace(p, model=resources.load(s, args)) for p, s in zip(plans, sources, strict=True)]
        total = sum(planned_tokens(plan, passkey=plan.asks(folder)) for plan in plans)
        with progress(total, "compare") as tick:
            found = run_comparisons(plans, run=folder, engine=args.engine, jobs=workers, tick=tick)
        if folder:
            write_comparisons(folder, found)
    if args.json:
        print_json({"comparisons": [each.to_dict() | {"costs": list(each.costs)} for each in found]})
        return
    for each in found:
        print("\n".join([*table_lines(each), "", *cost_lines(each)]))
        print()
        for told in each.verdicts():
            print_wrapped(told)
    say(
        "harm: tail bits (second half of a length) above the fresh-window control; inside: bits lost inside T tokens; "
        "keys: pass keys found"
    )


SMALL_BYTES = 2**27
"""Weights up to which every core gets a worker by default: each holds a model of its own."""


def _workers(args: argparse.Namespace, sources: list[Source]) -> int:
    """Return how many processes work: ``--jobs``, or one a core where models are small and no GPU is used."""
    from mambascope.analysis.engine import check_engine, default_jobs
    from mambascope.spectra.loading import pick_device

    small = all(sum(path.stat().st_size for path in s.checkpoint.files) <= SMALL_BYTES for s in sources)
    usual = default_jobs() if small and pick_device(args.device).type == "cpu" else 1
    workers = usual if args.jobs is None else int(args.jobs)
    check_engine(args.engine, workers)
    return workers


def _files(args: argparse.Namespace, limits: dict[str, int | None], fit_on: str) -> dict[str, list[Path]]:
    """Return the texts that are read, by corpus and part."""
    from ..corpora import corpus_files

    parts: dict[str, tuple[Split, ...]] = {
        name: ("calibration", "validation", "test") if name == fit_on else ("test",) for name in limits
    }
    return {f"{name}/{part}": corpus_files(name, part, args.data) for name in limits for part in parts[name]}


def _texts(source: Source, args: argparse.Namespace, files: dict[str, list[Path]], corpus: str) -> Texts:
    from mambascope.analysis.study import Texts

    from ..sources import documents

    of = {split: documents(source, files.get(f"{corpus}/{split}", []), args) for split in Texts.__slots__}
    return Texts(**of)


def _plan(
    source: Source,
    args: argparse.Namespace,
    methods: Any,
    limits: dict[str, int | None],
    fit_on: str,
    files: dict[str, list[Path]],
    key: str,
) -> ComparePlan:
    from mambascope.analysis.calibration.plan import TIMES
    from mambascope.analysis.compare import ComparePlan

    from ..resources import shape_of

    T = source.needs_train_length()
    return ComparePlan(
        shape_of(source, args),  # the weights come once the run folder is open
        {name: _texts(source, args, files, name) for name in limits},
        methods,
        tuple(args.lengths.at(T)),
        train_length=T,
        fit_length=args.calibrate_at.at(T) if args.calibrate_at else TIMES * T,
        fit_on=fit_on,
        starts=args.starts,
        documents=args.documents,
        longest={name: limit for name, limit in limits.items() if limit is not None},
        reference=args.reference,
        steps=args.steps,
        seed=args.seed,
        batch=args.batch,
        passkey=_keys(source, args, files[f"{fit_on}/test"], T),
        key=key,
    ).checked()


def _keys(source: Source, args: argparse.Namespace, test: list[Path], train_length: int) -> PasskeyAsk | None:
    """Return what keys are asked for, hidden in the test texts of the first corpus."""
    from mambascope.analysis.compare_keys import PasskeyAsk
    from mambascope.analysis.passkey.answers import decoder_of
    from mambascope.analysis.passkey.grid import PasskeyPlan
    from mambascope.analysis.passkey.task import PasskeyTask
    from mambascope.spectra.errors import RefusedInputError
    from mambascope.spectra.loading import encoder_of

    if not args.passkey_examples or any(path.suffix in {".npy", ".jsonl"} for path in test):
        return None
    by_hand = args.passkey_lengths is not None
    chosen = (args.passkey_lengths or lengths_or_times("T,4T,16T")).at(train_length)
    task = PasskeyTask.of_texts(
        (path.read_bytes() for path in test), encoder_of(source.checkpoint, args.tokenizer), seed=args.seed
    )
    ask = PasskeyAsk(
        task, decoder_of(source.checkpoint, args.tokenizer), PasskeyPlan(tuple(chosen), examples=args.passkey_examples)
    )
    problems = [told for length in chosen if (told := ask.problem(length))]
    if by_hand and problems:
        raise RefusedInputError(f"--passkey-lengths: {problems[0]}")
    return ask
