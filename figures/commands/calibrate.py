"""``mambascope calibrate``: refine scales on text, step by step."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length, length
from ..console import print_json, print_table, say
from ..progress import meter

if TYPE_CHECKING:
    from mambascope.analysis.calibration.record import Step


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "calibrate",
        help="refine scales on calibration text",
        description="Moves scaling factors to lower the loss at a target length: losses and gradients from calibration "
        "text, the point to keep chosen on validation text, test text only compared with both. Every step is kept in "
        "the run folder; the result is DIR/scales.json.",
        epilog="examples: mambascope calibrate mamba2-tiny --method backprop --target-length 4k -o out   |   "
        "mambascope calibrate mamba2-tiny --method spsa --start out/scales.json --steps 20 -o fine",
    )
    add_model(parser)
    add_text(parser, "calibration", "texts for losses and gradients. Default: the bundled calibration texts")
    add_text(parser, "validation", "texts that choose the point to keep. Default: the bundled validation texts")
    add_text(parser, "text", "test texts, refused if they are among the others. Default: the bundled test texts")
    parser.add_argument("--target-length", type=length, metavar="L", help="tokens of a window. Default: 16 T")
    add_train_length(parser)
    parser.add_argument("--method", default="spsa", help="spsa (default), backprop, spsa-paper or spsa-released")
    start = "spectrum (default), projected, ones, random[:LOW,HIGH], log-random:LOW,HIGH, constant:S or a scales.json"
    parser.add_argument("--start", default="spectrum", help=start)
    parser.add_argument("--kind", default="a", help="a (default), a_power, dt or joint")
    parser.add_argument("--granularity", default="head", help="model, layer, head (default; or channel) or state")
    parser.add_argument("--steps", type=int, metavar="N", help="steps. Default: the method's")
    parser.add_argument("--batch", type=int, metavar="N", help="windows of a step. Default: the method's")
    parser.add_argument(
        "--learning-rate",
        type=float,
        metavar="X",
        help="size of a step. Default: the method's, larger from a start far away",
    )
    parser.add_argument("--perturbation", type=float, metavar="C", help="c of SPSA. Default: 0.1")
    parser.add_argument("--select-every", type=int, default=5, metavar="N", help="steps between two looks. Default: 5")
    parser.add_argument("--selection-windows", type=int, default=8, metavar="N", help="windows to look at. Default: 8")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random draws. Default: 0")
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


@contextmanager
def _live(passes: float, steps: int) -> Generator[Callable[[Step], None], None, None]:
    """Show step, loss and the time left."""
    shape = "{desc} |{bar}| {percentage:.0f} % [{elapsed}, {remaining} left{postfix}]"
    with meter(passes, "calibrate", bar_format=shape) as advance:
        selected, done = "", 0.0

        def watch(step: Step) -> None:
            nonlocal selected, done
            if step.selection is not None:
                selected = f", selection {step.selection.tail:.4f}"
            told = "" if step.bits is None else f", loss {step.bits:.4f}"
            advance(step.passes - done, f"step {step.step} of {steps}{told}{selected} bits")
            done = step.passes

        yield watch


def run(args: argparse.Namespace) -> None:
    """Calibrate, print the steps and store the scales."""
    from pathlib import Path

    from mambascope.analysis.calibration import calibrate
    from mambascope.analysis.calibration.plan import TIMES, make_plan
    from mambascope.analysis.calibration.starts import name_of
    from mambascope.analysis.planned_work import calibration_work

    from ..resources import plan_resources
    from ..sources import Source, all_texts, run_folder, tell_how_many_reach, text_paths

    source = Source.open(args.model, args)
    train_length = source.needs_train_length()
    target = args.target_length or TIMES * train_length
    names = ("kind", "granularity", "start", "method", "seed", "steps", "batch", "learning_rate", "perturbation")
    chosen = {name: getattr(args, name) for name in (*names, "select_every", "selection_windows")}
    plan = make_plan(train_length=train_length, target_length=target, **chosen | {"start": name_of(args.start)})
    texts = all_texts(source, args)
    read = {role: text_paths(args, role, role) for role in ("calibration", "validation")}
    if Path(args.start).is_file():
        read["start"] = [Path(args.start)]
    for role in ("calibration", "validation"):
        tell_how_many_reach(getattr(texts, role), target, role)
    resources = plan_resources(args, [(source, calibration_work(plan))])
    with run_folder(args, [source], {"model": args.model, "plan": plan.to_dict()}, read) as folder:
        model = resources.load(source, args)
        with _live(plan.expected_passes(), plan.steps) as watch:
            found = calibrate(
                model, texts, train_length=train_length, target_length=target, run=folder, watch=watch, **chosen
            )
        if folder:
            from ..report import write_table

            write_table(folder, "calibration", found.rows())
    if args.json:
        print_json({"model": args.model} | found.to_dict())
    else:
        print_table([row for row in found.rows() if row["selection_tail_bits"] is not None])
        say(found.note())
