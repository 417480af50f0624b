"""``mambascope starts``: what a start is worth to a calibration."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length, length
from ..console import print_json, print_table, print_wrapped, progress

if TYPE_CHECKING:
    from mambascope.analysis.starts_study import StartsStudy


def _words(text: str) -> tuple[str, ...]:
    """Read names with commas between them; ``none`` for none."""
    return () if text == "none" else tuple(part.strip() for part in text.split(","))


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "starts",
        help="compare starts of a calibration",
        description="Calibrates from the spectrum's proposal, from 1, from the best constant and from random factors "
        "with equal budgets, then one factor a layer as published, and scores starts and results on test text. Every "
        "step is kept in the run folder. Prints a row a start and seed, a row a kind of factor, and what they say.",
        epilog="examples: mambascope starts mamba2-tiny --target-length 4k -o out   |   "
        "mambascope starts mamba2-tiny --seeds 1 --layer-kinds none -o quick",
    )
    add_model(parser)
    add_text(parser, "calibration", "texts for proposal, losses and gradients. Default: the bundled calibration texts")
    add_text(parser, "validation", "texts that choose points and the best constant. Default: the bundled ones")
    add_text(parser, "text", "test texts. Default: the bundled test texts")
    parser.add_argument("--target-length", type=length, metavar="L", help="tokens of a window. Default: 16 T")
    parser.add_argument(
        "--far-length", type=length, metavar="N", help="the first seed also reads test texts to here. Default: 4 L"
    )
    add_train_length(parser)
    parser.add_argument("--methods", type=_words, default=("spsa", "backprop"), help="Default: spsa,backprop")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds of every start. Default: 3")
    parser.add_argument("--kind", default="a", help="a (default), a_power, dt or joint")
    parser.add_argument("--granularity", help="model, layer, head or state. Default: as fine as the proposal")
    parser.add_argument("--steps", type=int, default=30, metavar="N", help="steps of a calibration. Default: 30")
    parser.add_argument("--batch", type=int, default=2, metavar="N", help="windows of a step. Default: 2")
    parser.add_argument(
        "--far-rates", type=_words, metavar="METHOD:X,...", default=None,
        help="learning rates of the starts that do not rest on the spectrum. Default: spsa:1,backprop:1",
    )  # fmt: skip
    parser.add_argument("--select-every", type=int, default=5, metavar="N", help="steps between two looks. Default: 5")
    parser.add_argument("--selection-windows", type=int, default=8, metavar="N", help="windows to look at. Default: 8")
    parser.add_argument(
        "--layer-kinds", type=_words, default=("a_power", "a", "dt"), help="Default: a_power,a,dt; none"
    )
    parser.add_argument("--layer-methods", type=_words, default=("spsa-paper", "spsa"), help="Default: spsa-paper,spsa")
    parser.add_argument("--layer-passes", type=int, default=200, metavar="N", help="budget a calibration. Default: 200")
    parser.add_argument("--layer-batch", type=int, default=4, metavar="N", help="windows of a step. Default: 4")
    parser.add_argument(
        "--engine", default="sequential", help="sequential (default), loky, dask, dask://HOST:PORT, ray"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="worker processes, of one thread each. Default: one a core"
    )
    add_output(parser, default="mambascope-starts")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Compare, print what was found, write tables and figures."""
    from mambascope.analysis.engine import check_engine
    from mambascope.analysis.planned_work import starts_work
    from mambascope.analysis.starts_study import make_starts_plan, study_starts
    from mambascope.analysis.starts_study.plan import read_rates
    from mambascope.analysis.starts_study.runner import planned_passes

    from ..folders import workers_of
    from ..resources import plan_resources
    from ..sources import Source, all_texts, check_target, run_folder, text_paths

    check_engine(args.engine, workers_of(args))
    source = Source.open(args.model, args)
    names = (
        "target_length", "far_length", "methods", "seeds", "kind", "granularity", "steps", "batch", "select_every",
        "selection_windows", "layer_kinds", "layer_methods", "layer_passes", "layer_batch",
    )  # fmt: skip
    plan = make_starts_plan(
        train_length=source.needs_train_length(),
        arch=source.checkpoint.config.arch,
        far_rates=read_rates(args.far_rates) if args.far_rates is not None else None,
        **{name: getattr(args, name) for name in names},
    )
    texts = all_texts(source, args)
    check_target(texts, plan.train_length, plan.target_length)
    read = {role: text_paths(args, role, role) for role in ("calibration", "validation")}
    read["test"] = text_paths(args, "text", "test")
    workers = 1 if args.engine == "sequential" else workers_of(args)
    work = starts_work(planned_passes(plan), max(plan.batch or 0, plan.layer_batch), plan.target_length)
    resources = plan_resources(args, [(source, work)], workers=workers)
    with run_folder(args, [source], {"model": args.model, "plan": plan.to_dict()}, read) as folder:
        assert folder is not None  # the option has a default
        model = resources.load(source, args)
        with progress(planned_passes(plan), "starts", "pass") as tick:
            found = study_starts(model, texts, folder, plan, engine=args.engine, jobs=workers_of(args), tick=tick)
        from ..starts import write_starts

        write_starts(folder, found)
    if args.json:
        print_json({"argument": args.model} | found.to_dict())
    else:
        show(found)


def show(found: StartsStudy) -> None:
    """Print both tables and what they say."""
    rows = []
    for row in found.test_rows():
        if row["part"] == "starts":
            rows.append({
                "method": row["method"],
                "start": row["start"],
                "seed": row["seed"],
                "passes": round(row["passes"]),
                "selection start": f"{row['selection_start']:.4f}",
                "final": f"{row['selection_final']:.4f}",
                "test harm": f"{row['harm_final']:+.4f}",
                "less start": _span(row, "final_less_start"),
            })
    print_table(rows)
    print()
    print_table([
        {
            "one factor a layer": row["entry"],
            "seeds": row["seeds"],
            "passes": round(row["passes"]),
            "test harm": _span(row, "harm"),
            "less best": _span(row, "less_best"),
            "inside T": f"{row['inside_less_unscaled']:+.4f}",
        }
        for row in found.layer_rows()
    ])
    print()
    for sentence in found.sentences():
        print_wrapped(sentence)


def _span(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_ci_low"], row[f"{name}_ci_high"]
    return f"{row[name]:+.4f}" + ("" if low is None else f" [{low:+.4f}, {high:+.4f}]")
