"""``mambascope evaluate --task passkey``: which keys a model finds, scaled or not, by length and depth."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..arguments import length
from ..console import print_json, print_table, print_wrapped, progress, say

if TYPE_CHECKING:
    from mambascope.analysis.methods import Method
    from mambascope.analysis.passkey.evaluation import PasskeyFound, PasskeyJob

    from ..sources import Source

METHODS = "none,spectrum,rule:hard-clip:4"
OPTIONS = (
    "examples", "far_examples", "depths", "measure", "keys", "noise", "criterion", "train_up_to", "train_batch",
    "rates", "steps",
)  # fmt: skip
"""Options of this task alone; None where they are not given."""


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers with commas between them.

    Args:
        text: what the user wrote.

    Returns:
        The numbers.

    Raises:
        argparse.ArgumentTypeError: one is not a number of 0 or more.

    >>> numbers("0, 0.5,1")
    (0.0, 0.5, 1.0)
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 <= number < float("inf") for number in found):
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers with commas, as in 0,0.5,1")
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the task."""
    group = parser.add_argument_group(
        "--task passkey",
        "Methods are those of `compare`, and passkey:a, passkey:dt, passkey:a+dt, passkey:a_power (scales trained on "
        "the task), passkey:full (all weights); the set passkey has them all.",
    )
    group.add_argument("--examples", type=int, metavar="N", help="keys of a cell. Default: 100")
    group.add_argument("--far-examples", type=int, metavar="N", help="keys of a cell beyond 16 T. Default: as many")
    group.add_argument("--depths", type=numbers, help="shares of the noise before the key. Default: 0,0.25,0.5,0.75,1")
    group.add_argument(
        "--measure",
        choices=("whole", "context"),
        help="a length is prompt and answer (whole, default), or noise and needle, as in the papers",
    )
    group.add_argument("--keys", choices=("test", "validation"), help="whose keys and noise. Default: test")
    group.add_argument("--noise", type=Path, nargs="+", metavar="FILE", help="texts to hide keys in. Default: bundled")
    group.add_argument(
        "--criterion", choices=("first", "word"), help="the answer starts with the key (default), or has it as a word"
    )
    group.add_argument("--train-up-to", type=length, metavar="L", help="longest prompt of a training. Default: 10 T")
    group.add_argument("--train-batch", type=int, metavar="N", help="prompts of a step of a training. Default: 6")
    group.add_argument("--rates", type=numbers, help="learning rates to choose among. Default: each method's own")
    group.add_argument("--steps", type=int, metavar="N", help="steps of every training. Default: each method's own")


def run(args: argparse.Namespace) -> None:
    """Fit, ask for keys, print and store."""
    from dataclasses import replace

    from mambascope.analysis.methods import chosen_methods
    from mambascope.analysis.passkey.answers import BATCH, BATCH_ON_GPU
    from mambascope.analysis.planned_work import methods_work
    from mambascope.spectra.loading import pick_device

    from ..passkey import summary_rows, write_passkey  # now, not after hours of work
    from ..resources import plan_resources
    from ..sources import Source, run_folder, text_paths

    source = Source.open(args.model, args)
    T = source.needs_train_length()
    named = [name.strip() for name in (args.methods or METHODS).split(",") if name.strip()]
    methods = chosen_methods([f"scales:{args.scales}" if name == "scales" else name for name in named])
    _refuse(args, [method.name for method in methods])
    _fill(args, T)
    files = {
        "calibration": text_paths(args, "calibration", "calibration"),
        "validation": text_paths(args, "validation", "validation"),
        "noise": text_paths(args, "noise", args.keys),
    }
    files |= {method.name: [Path(method.name.partition(":")[2])] for method in methods if "scales:" in method.name}
    command = {"task": "passkey", "model": args.model, "train_length": T, "lengths": args.lengths}
    command |= {name: getattr(args, name) for name in OPTIONS if name != "noise"}
    command |= {"batch": args.batch, "calibrate_at": args.calibrate_at, "seed": args.seed}
    # no methods: a folder takes more of them later, and what it has is not computed again
    job = _job(source, args, files, methods)
    planned = job.planned_tokens(methods)
    batch = args.batch or (BATCH if pick_device(args.device).type == "cpu" else BATCH_ON_GPU)
    work = methods_work(methods, planned, batch, args.lengths, T, args.calibrate_at)
    plan = plan_resources(args, [(source, work)])
    with run_folder(args, [source], command, files) as folder:
        job = replace(job, fits=replace(job.fits, model=plan.load(source, args), run=folder))
        with progress(planned, "passkey") as tick:
            found = job.run(methods, tick)
        if folder:
            write_passkey(folder, found)
    if args.json:
        print_json({"model": args.model, "task": "passkey", "train_length": T} | found.to_dict())
        return
    print_table(summary_rows(found))
    _tell(found)


def _fill(args: argparse.Namespace, train_length: int) -> None:
    """Put defaults in place, so that a run folder takes a default that is spelled out for the same."""
    from mambascope.analysis.calibration.plan import TIMES
    from mambascope.analysis.passkey.task import DEPTHS
    from mambascope.analysis.passkey.tuning import BATCH
    from mambascope.analysis.passkey.tuning import TIMES as UP_TO

    T = train_length
    defaults = {
        "lengths": [T, 2 * T, 4 * T, 8 * T, 16 * T], "examples": 100, "depths": DEPTHS, "measure": "whole",
        "keys": "test", "criterion": "first", "seed": 0, "train_up_to": UP_TO * T, "calibrate_at": TIMES * T,
        "train_batch": BATCH, "rates": (),
    }  # fmt: skip
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def _refuse(args: argparse.Namespace, methods: list[str]) -> None:
    """Refuse what cannot be before a text is read."""
    from mambascope.spectra.errors import RefusedInputError

    if args.text:
        raise RefusedInputError("--text is for --task perplexity; give the texts that keys are hidden in with --noise")
    if "fresh-window" in methods:
        raise RefusedInputError("fresh-window scores texts and answers no question; leave it out of --task passkey")
    for option in ("examples", "far_examples", "steps", "batch", "train_batch"):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            raise RefusedInputError(f"--{option.replace('_', '-')} {getattr(args, option)}: expected at least 1")
    if args.depths and max(args.depths) > 1:
        raise RefusedInputError(f"--depths {max(args.depths):g}: expected shares from 0 to 1")
    if args.depths and len(set(args.depths)) < len(args.depths):
        raise RefusedInputError("--depths: a depth is given twice; its keys would be counted twice")
    if args.rates and min(args.rates) == 0:
        raise RefusedInputError("--rates 0: expected numbers above 0")


def _job(
    source: Source, args: argparse.Namespace, files: dict[str, list[Path]], methods: Sequence[Method]
) -> PasskeyJob:
    """Read the texts; the model is one without weights as yet, and there is no run folder."""
    from mambascope.analysis.calibration.plan import TIMES
    from mambascope.analysis.methods.on_passkey import PasskeyFits
    from mambascope.analysis.methods.plain import FromFile
    from mambascope.analysis.passkey.answers import decoder_of
    from mambascope.analysis.passkey.evaluation import PasskeyJob
    from mambascope.analysis.passkey.grid import PasskeyPlan
    from mambascope.analysis.passkey.problem import PasskeyTexts
    from mambascope.analysis.passkey.task import PasskeyTask
    from mambascope.analysis.texts import Texts, refuse_fitted_on
    from mambascope.spectra.loading import encoder_of

    from ..resources import shape_of
    from ..sources import documents

    T = source.needs_train_length()
    encode = encoder_of(source.checkpoint, args.tokenizer)
    sets = {role: documents(source, files[role], args) for role in ("calibration", "validation", "noise")}
    test = () if args.keys == "validation" and not args.noise else sets["noise"]
    texts = Texts(sets["calibration"], sets["validation"], test).check()
    for method in methods:
        if isinstance(method, FromFile):
            refuse_fitted_on(method.path, texts.test)

    def task(role: str, part: str) -> PasskeyTask:
        return PasskeyTask.of_texts(map(Path.read_bytes, files[role]), encode, part=part, seed=args.seed)

    plan = PasskeyPlan(
        tuple(args.lengths), tuple(args.depths), args.examples, args.measure, args.criterion,
        far_examples=args.far_examples, far_from=TIMES * T,
    )  # fmt: skip
    reported = task("noise", args.keys)
    plan.planned_tokens(reported)  # refuses lengths without room before a model is loaded
    prompts = PasskeyTexts(
        task("calibration", "train"), task("validation", "validation"), texts.calibration, texts.validation
    )
    fits = PasskeyFits(
        shape_of(source, args), texts, T, tuple(sorted({*plan.lengths, 2 * T})), args.calibrate_at,
        seed=args.seed, steps=args.steps, prompts=prompts, longest=args.train_up_to, rates=args.rates,
        rows=args.train_batch,
    )  # fmt: skip
    return PasskeyJob(fits, reported, plan, decoder_of(source.checkpoint, args.tokenizer), sets["noise"], args.batch)


def _tell(found: PasskeyFound) -> None:
    """Say what the columns are, and of trained scales whether theory foresaw them."""
    for told in found.sentences():
        print_wrapped(told)
    counts = found.examples_words()
    say(f"solved: 95 % of the keys or more at every depth; {counts}; keys of the part {found.keys}")
