"""``mambascope propose``: scales from a diagnosis, no loss evaluated."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length, length
from ..console import print_json, print_table, print_wrapped, progress, say


class _ListRules(argparse.Action):
    """``--rules``: print them and end, as ``--help`` does."""

    def __init__(self, option_strings: Sequence[str], dest: str, **named: Any) -> None:
        super().__init__(option_strings, dest, **(named | {"nargs": 0}))

    def __call__(self, *_: Any) -> None:
        from mambascope.analysis.goals import GOALS
        from mambascope.analysis.rules import RULES

        rows = [rule.to_dict() for rule in RULES.values()]
        print_table([{"rule": f"{row['rule']:<16}", "bakes": row["bakes"]} for row in rows])
        print()
        for row in rows:
            print_wrapped(f"{row['rule']}: {row['description']} ({row['source']})")
        print()
        for goal in GOALS.values():
            print_wrapped(f"--goal {goal.name} is {goal.rule}: {goal.why}")
        raise SystemExit(0)


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "propose",
        help="spectrum-guided scales for a target length",
        description="Measures step sizes on calibration text and draws in the horizons of modes that remember more "
        "than the training length. A model whose states stay in range is left alone. Prints factors and horizons by "
        "layer and what they give up; -o writes DIR/scales.json for evaluate, calibrate and bake.",
        epilog="examples: mambascope propose mamba2-tiny --target-length 16k -o out   # out/scales.json   |   "
        "mambascope propose mamba2-tiny --goal retrieval   |   mambascope propose mamba2-tiny --rule hard-clip:4",
    )
    add_model(parser)
    add_text(parser, "text", "calibration texts. Default: the bundled calibration texts")
    parser.add_argument("--target-length", type=length, metavar="L", help="length to prepare for. Default: 64 T")
    add_train_length(parser)
    parser.add_argument("--rule", metavar="NAME", help="a rule by name, such as hard-clip:4. Default: the goal's")
    parser.add_argument("--goal", default="perplexity", help="perplexity (default), balanced or retrieval")
    parser.add_argument("--rules", action=_ListRules, help="list the rules and what the goals choose, and end")
    parser.add_argument("--always", action="store_true", help="propose even where the states stay in range")
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the proposal and store its scales."""
    from mambascope.analysis.atomic import write_json
    from mambascope.analysis.goals import GOALS, rule_for
    from mambascope.analysis.planned_work import diagnosis_work
    from mambascope.analysis.proposal import TIMES_TO_SEE, followed_tokens, propose_for
    from mambascope.analysis.study import token_counter
    from mambascope.spectra.foreign.checkpoint import ForeignCheckpoint, open_any

    from ..foreign import about, plan_watched
    from ..resources import plan_resources
    from ..sources import Source, documents, run_folder, text_paths

    rule = rule_for(args.rule, args.goal)
    source = Source.open(args.model, args, open_any)
    told = about(source, watched=True)
    train_length = source.needs_train_length()
    target = args.target_length or TIMES_TO_SEE * train_length
    paths = text_paths(args, "text", "calibration")
    texts = documents(source, paths, args)
    command = {
        "model": args.model,
        "target_length": target,
        "train_length": train_length,
        "rule": rule.name,
        "goal": args.goal,
        "always": args.always,
    } | told
    followed = max(target, TIMES_TO_SEE * train_length)
    read, reach = followed_tokens(texts, train_length, followed)
    work = diagnosis_work(source.checkpoint.config, len(read), train_length, reach, writes=rule.needs_writes)
    load: Callable[[], Any] = (
        plan_watched(source, args, len(read), reach, len(read))
        if isinstance(source.checkpoint, ForeignCheckpoint)
        else partial(plan_resources(args, [(source, work)]).load, source, args)
    )
    with run_folder(args, [source], command, {"calibration": paths}) as folder:
        model = load()
        with progress(sum(min(followed, len(d)) for d in texts), "propose") as tick:
            found = propose_for(
                model,
                texts,
                train_length,
                target,
                rule=args.rule,
                goal=args.goal,
                always=args.always,
                observers=[token_counter(tick)],
            )
        if folder:
            from ..report import write_table

            write_json(folder.output("scales.json"), found.to_dict())
            write_table(folder, "diagnosis", found.diagnosis.rows())
            write_table(folder, "proposal", found.rows())
            write_table(folder, "memory", found.memory().rows())
    if found.diagnosis.target_length < target:
        say(f"the calibration texts end at {found.diagnosis.target_length} tokens: states were followed to there")
    barrier = rule.why_not_baked(source.checkpoint.config) if found.acts else ""
    if args.json:
        print_json({
            **told,
            "model": args.model,
            "rule": found.rule,
            "goal": found.goal,
            "acts": found.acts,
            "reason": found.reason,
            "memory": found.memory().sentence(),
            "not_baked": barrier,
            "scales": found.scales.to_dict(),
            "rows": found.rows(),
            "memory_rows": found.memory().rows(),
        })
        return
    print_table([_narrow(row, kept) for row, kept in zip(found.rows(), found.memory().rows(), strict=True)])
    print_wrapped(
        "s: factor on the decay of a layer's modes; tau: its longest horizon in tokens, before and with the scales; "
        f"old: share of its state's energy that is more than {found.memory().lag_tokens:,} tokens old, mean over modes"
    )
    say(f"{found.rule}: {found.reason}")
    if found.acts:
        say(f"memory: {found.memory().sentence()}")
        if args.rule is None:
            say(f"goal {found.goal}: {GOALS[found.goal].why}")
    if barrier:
        say(f"cannot be baked into this model: the rule {barrier}; give the scales at run time (--scales)")


def _narrow(row: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    def number(x: float) -> str:
        return f"{x:,.0f}" if 100 <= x < 1e6 else f"{x:.3g}"

    return {
        "layer": row["layer"],
        "s min": number(row["factor_min"]),
        "median": number(row["factor_median"]),
        "max": number(row["factor_max"]),
        "tau before": number(row["horizon_max_before_tokens"]),
        "after": number(row["horizon_max_after_tokens"]),
        "old before": f"{kept['energy_older_before']:.1%}",
        "old after": f"{kept['energy_older_after']:.1%}",
    }
