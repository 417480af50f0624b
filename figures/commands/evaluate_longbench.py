"""``mambascope evaluate --task longbench``: answers to the seven English tasks of LongBench, scaled or not."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..arguments import at_least, length
from ..console import print_json, print_table, print_wrapped, progress, say

if TYPE_CHECKING:
    from mambascope.analysis.longbench.evaluation import LongBenchJob
    from mambascope.analysis.longbench.files import DataFiles
    from mambascope.analysis.longbench.prompts import Asked
    from mambascope.analysis.longbench.tasks import LongBenchTask
    from mambascope.analysis.methods import Method

    from ..sources import Source

METHODS = "none,spectrum"
OPTIONS = ("data", "tasks", "max_length", "limit", "words", "longbench_e")
"""Options of this task alone; None where they are not given."""


def words(text: str) -> tuple[int, int]:
    """Read a range of lengths in words.

    Args:
        text: what the user wrote.

    Returns:
        The shortest and the longest.

    Raises:
        argparse.ArgumentTypeError: it is not a range.

    >>> words("4000..8000")
    (4000, 8000)
    """
    low, dots, high = text.partition("..")
    if not dots or not low.isdecimal() or not high.isdecimal() or int(low) > int(high):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a range of words, as in 4000..8000")
    return int(low), int(high)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the task."""
    group = parser.add_argument_group(
        "--task longbench",
        "Qasper, HotpotQA, 2WikiMQA, TREC, TriviaQA, LCC and RepoBench-P with LongBench's prompts and metrics. Methods "
        "are those of `compare`, fitted on --calibration and --validation text, for --lengths (default: T, 2 T, 4 T, "
        "... up to the longest prompt). Answers are written --batch side by side (default: 16), which changes none of "
        "them; a method that looks at whole prompts, or a model in half precision, answers one at a time.",
    )
    group.add_argument(
        "--data", metavar="DIR", help="folder with LongBench's files such as qasper.jsonl, its data.zip, or `hub`"
    )
    group.add_argument("--tasks", help="names of files with commas. Default: those of the seven that are there")
    group.add_argument(
        "--max-length",
        type=length,
        metavar="N",
        help="cut the middle out of prompts of more tokens, alike for every method. Default: read them whole",
    )
    group.add_argument("--limit", type=int, metavar="N", help="only the first samples of a task. Default: all")
    group.add_argument("--words", type=words, metavar="A..B", help="only samples of so many words, as the files say")
    group.add_argument(
        "--longbench-e",
        action="store_true",
        default=None,
        help="read LongBench-E (qasper_e.jsonl and so on); scores are means over all lengths, not by range",
    )


def run(args: argparse.Namespace) -> None:
    """Fit, ask, print and store."""
    from dataclasses import replace

    from mambascope.analysis.longbench.evaluation import check_names
    from mambascope.analysis.methods import chosen_methods
    from mambascope.analysis.planned_work import longbench_work

    from ..longbench import differences, sentences, text_rows, write_longbench  # now, not after hours of work
    from ..resources import plan_resources
    from ..sources import Source, run_folder

    named = [name.strip() for name in (args.methods or METHODS).split(",") if name.strip()]
    _refuse(args, named)
    source = Source.open(args.model, args)
    methods = chosen_methods([f"scales:{args.scales}" if name == "scales" else name for name in named])
    check_names([method.name for method in methods], args.reference)
    data, tasks = _data(args)
    job = _job(source, args, methods, _asked(source, args, data, tasks))
    fits = job.fits
    # no methods: a folder takes more of them later, and what it has is not computed again
    command = {"task": "longbench", "model": args.model, "train_length": source.train_length, "bos": args.bos}
    command |= {"tasks": [task.name for task in tasks], "max_length": args.max_length, "limit": args.limit}
    command |= {"words": args.words, "longbench_e": data.extended, "seed": fits.seed}
    command |= {"lengths": list(fits.lengths), "calibrate_at": fits.fit_length}
    files = _files(args, methods, data, tasks)
    plan = plan_resources(args, [(source, longbench_work(methods, job))])
    with run_folder(args, [source], command, files) as folder:
        job = replace(job, fits=replace(fits, model=plan.load(source, args), run=folder))
        passes = len(methods) * (job.prompt_tokens() + job.answer_tokens())
        with progress(round(job.fit_tokens(methods)) + passes, "longbench") as tick:
            found = job.run(methods, tick)
        if folder:
            write_longbench(folder, found)
    for fitted in found.fitted:
        if fitted.passes:
            say(f"{fitted.method}: {fitted.how}")
    if args.json:
        about = {"model": args.model, "task": "longbench", "train_length": source.train_length, "data": args.data}
        print_json(about | found.to_dict() | {"notes": sentences(found)})
        return
    print_table(text_rows(found))
    for told in (*differences(found), *sentences(found)):
        print_wrapped(told)


def _refuse(args: argparse.Namespace, methods: list[str]) -> None:
    """Refuse what cannot be before a file is read."""
    from mambascope.spectra.errors import RefusedInputError

    if args.data is None:
        raise RefusedInputError(
            "--task longbench needs --data DIR: the folder with LongBench's files such as qasper.jsonl, its data.zip, "
            "or `--data hub` to fetch that"
        )
    if args.text:
        raise RefusedInputError("--text is for --task perplexity; give LongBench's files with --data")
    if args.batch is not None and args.batch > 1 and args.dtype in {"float16", "bfloat16"}:
        raise RefusedInputError(
            f"--batch {args.batch}: in {args.dtype} nearly every token is so close to another that a batch would "
            "decide between them, so answers are written one at a time; leave it out, or give --dtype float32"
        )
    if args.starts != 1 or args.same_documents:
        raise RefusedInputError("--starts and --same-documents are for --task perplexity")
    at_least(args, 1, ("limit", "batch"))
    at_least(args, 2, ("max_length",))


def _data(args: argparse.Namespace) -> tuple[DataFiles, tuple[LongBenchTask, ...]]:
    """Find the files, and say which tasks have none."""
    from mambascope.analysis.longbench.files import DataFiles
    from mambascope.analysis.longbench.tasks import TASKS

    data = DataFiles.find(args.data, extended=bool(args.longbench_e))
    tasks = data.chosen([name.strip() for name in (args.tasks or "").split(",") if name.strip()])
    missing = [task.title for task in TASKS.values() if task not in tasks]
    if missing and not args.tasks:
        say(f"{args.data}: no files for {', '.join(missing)}; the average leaves them out")
    return data, tasks


def _files(
    args: argparse.Namespace, methods: tuple[Method, ...], data: DataFiles, tasks: tuple[LongBenchTask, ...]
) -> dict[str, list[Path]]:
    """Return all files that are read, by role, for the manifest."""
    files = {"longbench": data.paths(tasks)} | _texts(args)  # a method that comes later may ask for them
    return files | {m.name: [Path(m.name.partition(":")[2])] for m in methods if m.name.startswith("scales:")}


def _texts(args: argparse.Namespace) -> dict[str, list[Path]]:
    """Return the files that methods are fitted on, by role."""
    from ..sources import text_paths

    return {
        "calibration": text_paths(args, "calibration", "calibration"),
        "validation": text_paths(args, "validation", "validation"),
    }


def _asked(
    source: Source, args: argparse.Namespace, data: DataFiles, tasks: tuple[LongBenchTask, ...]
) -> tuple[Asked, ...]:
    """Read the samples and make their prompts, all of them: methods are fitted for the longest."""
    from mambascope.analysis.longbench.prompts import ask
    from mambascope.analysis.longbench.samples import read_samples
    from mambascope.spectra.errors import RefusedInputError
    from mambascope.spectra.loading import encoder_of

    config = source.checkpoint.config
    known = config.tokens_in_vocab or config.vocab_size
    if args.bos is not None and not 0 <= args.bos < config.vocab_size:
        raise RefusedInputError(f"--bos {args.bos}: expected an id from 0 to {config.vocab_size - 1}")
    encode = encoder_of(source.checkpoint, args.tokenizer)
    low, high = args.words or (0, float("inf"))
    found = []
    for task in tasks:
        where = f"{data.place}/{data.name_of(task)}"
        samples = [s for s in read_samples(data.read(task), task, where) if low <= s.words <= high]
        if not samples:
            raise RefusedInputError(f"{where}: no sample has {args.words[0]} to {args.words[1]} words")
        known = max(known, (args.bos or 0) + 1)  # an id that no text gives, where it is asked for
        found.append(ask(task, samples, encode, max_length=args.max_length, bos=args.bos, tokens_in_vocab=known))
    return tuple(found)


def _job(
    source: Source, args: argparse.Namespace, methods: tuple[Method, ...], asked: tuple[Asked, ...]
) -> LongBenchJob:
    """Read the texts that methods are fitted on; the model is one without weights as yet."""
    from mambascope.analysis.calibration.plan import TIMES
    from mambascope.analysis.evaluate.methods import needs_calibration
    from mambascope.analysis.generation import end_tokens
    from mambascope.analysis.longbench.evaluation import LongBenchJob
    from mambascope.analysis.methods import Task
    from mambascope.analysis.passkey.answers import decoder_of
    from mambascope.analysis.side_by_side import ROWS
    from mambascope.analysis.study import Texts

    from ..resources import shape_of
    from ..sources import documents

    fitting = any(needs_calibration(method.name) for method in methods)
    longest = max(len(prompt.ids) for each in asked for prompt in each.prompts)
    T = source.needs_train_length() if fitting else source.train_length or longest
    sets = {role: documents(source, paths, args) if fitting else () for role, paths in _texts(args).items()}
    fits = Task(
        shape_of(source, args), Texts(**sets, test=()).check(), T, tuple(args.lengths or doublings(T, longest)),
        args.calibrate_at or TIMES * T, args.seed or 0,
    )  # fmt: skip
    decode, end = decoder_of(source.checkpoint, args.tokenizer), end_tokens(source.checkpoint, args.tokenizer)
    chosen = tuple(each.first(args.limit) for each in asked)
    rows = args.batch or ROWS
    return LongBenchJob(fits, chosen, decode, end, args.max_length, args.bos, args.reference, rows)


def doublings(train_length: int, longest: int) -> list[int]:
    """Return the lengths that methods are fitted for: T, 2 T, 4 T, ... up to one that holds the longest prompt.

    >>> doublings(256, 1500)
    [256, 512, 1024, 2048]
    """
    found = [train_length, 2 * train_length]
    while found[-1] < longest:
        found.append(2 * found[-1])
    return found
