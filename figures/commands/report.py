"""``mambascope report``: the main job, one HTML file."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import add_engine, add_json, add_model, add_output, add_text, add_train_length, length
from ..console import print_json, print_table, progress, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from mambascope.analysis.heads import Heads
    from mambascope.analysis.resources import Work
    from mambascope.analysis.runs import RunFolder
    from mambascope.analysis.study import Study
    from mambascope.analysis.theory import Theory
    from mambascope.spectra.model import Model

    from ..report_jobs import ReportJob
    from ..resources import Resources


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "report",
        help="spectrum, states, breakdown, scales, before and after: report.html",
        description="Runs the main job on each model (default: those bundled that were trained on text alone) and "
        "writes one HTML file that needs no network, with all figures and tables beside it.",
        epilog="example: mambascope report state-spaces/mamba2-130m --train-length 2k -o out",
    )
    add_model(parser, many=True)
    add_text(parser, "text", "test texts, what is reported. Default: bundled")
    add_text(parser, "calibration", "texts that scales are made from. Default: bundled")
    add_text(parser, "validation", "texts that a constant is chosen on. Default: bundled")
    parser.add_argument("--target-length", type=length, metavar="L", help="Default: 64 T, or as far as the texts reach")
    add_train_length(parser)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="more corpora to judge rules on: DIR/CORPUS/{calibration,validation,test}/*.txt; their validation is read",
    )
    parser.add_argument("--no-rules", action="store_true", help="leave out which rule, and what it gives up")
    parser.add_argument("--no-calibration", action="store_true", help="leave out the scales refined on text")
    parser.add_argument("--calibration-steps", type=int, metavar="N", help="steps of the refinement. Default: 30")
    parser.add_argument("--no-theory", action="store_true", help="leave out the claims and the heads' predictions")
    parser.add_argument("--trials", type=int, metavar="N", help="trials of an ordinary experiment. Default: 65536")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the simulations. Default: 0")
    add_engine(parser)
    add_output(parser, default="mambascope-report")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Study every model and write the report."""
    from mambascope.analysis.engine import check_engine
    from mambascope.analysis.verification import TRIALS, UndecidedError, check_trials

    from ..corpora import validation_corpora
    from ..folders import workers_of
    from ..report import write_report, write_tables
    from ..report_jobs import report_job
    from ..resources import plan_resources
    from ..sources import Source, run_folder, text_paths
    from ..style import slugs

    trials = TRIALS if args.trials is None else args.trials
    if not args.no_theory:
        check_trials(trials)
        check_engine(args.engine, workers_of(args))
    corpora = {} if args.no_rules else validation_corpora(args)
    jobs = [report_job(Source.open(name, args), corpora, args) for name in args.model or _trained_on_text()]
    sources = [job.source for job in jobs]
    read = {
        "calibration": text_paths(args, "calibration", "calibration"),
        "validation": text_paths(args, "validation", "validation"),
        "test": text_paths(args, "text", "test"),
    } | {f"rules/{name}": files for name, files in corpora.items()}
    command: dict[str, Any] = {
        "models": [source.argument for source in sources],
        "lengths": [[job.train_length, job.target_length] for job in jobs],
        "rules": not args.no_rules,
        "calibration": None if args.no_calibration else [job.plan.to_dict() for job in jobs if job.plan],
    }
    if not args.no_theory:
        command |= {"theory": {"trials": trials, "seed": args.seed}}
    resources = plan_resources(args, [(job.source, _work(job, args)) for job in jobs])
    with run_folder(args, sources, command, read) as folder:
        assert folder is not None  # the option has a default
        keys = slugs([source.argument for source in sources])
        with progress(sum(job.planned(not args.no_theory) for job in jobs), "report") as tick:
            studies, heads = _study(jobs, keys, args, folder, tick, resources)
        theory = None if args.no_theory else _theory(trials, args, folder, heads)
        write_tables(folder, studies)
        page = write_report(folder, studies, folder.made_by(), theory, heads)
    rows = [
        {
            "model": one.name,
            "T": one.train_length,
            "L": one.target_length,
            **{f"harm {m}": one.harm(m) for m in ("none", "constant", "spectrum", "calibrated")},
        }
        for one in studies
    ]
    if args.json:
        print_json({"report": str(page), "rows": rows})
    else:
        print_table(rows)
        say("harm: bits per token above the fresh-window control, second half of L tokens")
        say(f"report: {page}")
    if theory is not None and (open_claims := theory.verification.undecided()):
        raise UndecidedError(f"the report is written, but claims are not settled: {'; '.join(open_claims)}")


def _work(job: ReportJob, args: argparse.Namespace) -> Work:
    """Return what is run through a model; simulations are not in it."""
    from mambascope.analysis.planned_work import calibration_work, diagnosis_work, forecast_work, methods_work
    from mambascope.analysis.study_forecast import windows_within

    from ..resources import shape_of

    T, L = job.train_length, job.target_length
    rows = min(8, max(map(len, (job.texts.calibration, job.texts.test))))
    work = methods_work(["fresh-window"], 0, rows, [L], T, L)
    work = work.and_then(diagnosis_work(job.source.checkpoint.config, rows, T, L, writes=bool(job.corpora)))
    work = work.and_then(forecast_work(0, windows_within(shape_of(job.source, args))))
    if job.plan:
        work = work.and_then(calibration_work(job.plan))
    return replace(
        work, tokens=job.planned(not args.no_theory), remedies=("shorter --target-length, or --no-calibration",)
    )


def _study(
    jobs: list[ReportJob],
    keys: list[str],
    args: argparse.Namespace,
    folder: RunFolder,
    tick: Callable[[int], None],
    resources: Resources,
) -> tuple[list[Study], list[Heads]]:
    """Study every model, and where theory is wanted the heads of those that break down."""
    from mambascope.analysis.atomic import write_json
    from mambascope.analysis.heads import can_replay, study_heads
    from mambascope.analysis.study import run_study

    from ..style import slugs

    refined_names = slugs([*keys, *(f"{key}-calibrated" for key in keys)])[len(keys) :]
    studies: list[Study] = []
    heads: list[Heads] = []
    for job, key, refined_name in zip(jobs, keys, refined_names, strict=True):
        model = resources.load(job.source, args)
        if model.name in {one.name for one in studies}:
            model.name = key  # two models of one name could not be told apart in the tables
        where: dict[str, Any] = {"train_length": job.train_length, "target_length": job.target_length}
        where |= {"key": key, "tick": tick}
        options = _options(args)
        one = run_study(model, job.texts, folder, argument=job.source.argument, options=options, **where)
        scales = one.proposal.scales
        write_json(folder.output(f"scales/{key}.json"), scales.to_dict())
        if one.proposal.acts:
            one = _with_evidence(one, job, model, key, folder, tick)
        else:
            tick(job.planned_rest())
        if one.refined:
            write_json(folder.output(f"scales/{refined_name}.json"), one.refined.found.stored())
        studies.append(one)
        if not args.no_theory and one.proposal.acts and can_replay(model):
            heads.append(study_heads(model, job.texts.calibration, scales, run=folder, **where))
    return studies, heads


def _with_evidence(
    study: Study, job: ReportJob, model: Model, key: str, folder: RunFolder, tick: Callable[[int], None]
) -> Study:
    """Add what the choice of the rule rests on, and the proposal refined on text, where they are wanted."""
    from mambascope.analysis.rule_table import rule_table, rules_for
    from mambascope.analysis.study_calibration import refine

    if job.corpora:
        found, first = study.proposal.diagnosis, next(iter(job.corpora.values()))
        table = rule_table(
            model, found, job.corpora, first, rules=rules_for(found), times=job.times, run=folder, key=key, tick=tick
        )
        study = replace(study, rules=replace(table, left_out=job.left_out))
    if job.plan:
        study = refine(study, model, job.texts, folder, job.plan, key=key, tick=tick)
    return study


def _options(args: argparse.Namespace) -> list[str]:
    """Return the words that other commands on the model need as well."""
    from ..lengths import tokens_text

    given = ["--train-length", tokens_text(args.train_length)] if args.train_length else []
    return given + (["--tokenizer", str(args.tokenizer)] if args.tokenizer else [])


def _theory(trials: int, args: argparse.Namespace, folder: RunFolder, heads: list[Heads]) -> Theory:
    """Verify the claims and write the tables of the theory part."""
    from mambascope.analysis.theory import study_theory, theory_jobs
    from mambascope.analysis.trials import planned_updates
    from mambascope.analysis.verification import chosen_claims

    from ..folders import workers_of
    from ..tables import write_table

    claims = chosen_claims([])
    with progress(planned_updates(theory_jobs(claims, trials, args.seed)), "theory", "upd") as tick:
        theory = study_theory(
            claims,
            trials=trials,
            seed=args.seed,
            engine=args.engine,
            workers=workers_of(args),
            run=folder,
            tick=tick,
        )
    for name, rows in theory.rows().items():
        write_table(folder, name, rows)
    if heads:
        write_table(folder, "heads", [row for each in heads for row in each.rows()])
        kept = [{"model": each.scaled.name} | row for each in heads for row in each.scaled.to_dict()["heads"]]
        write_table(folder, "scaled-heads", kept)
    return theory


def _trained_on_text() -> list[str]:
    """Return the bundled models but those for the passkey task, whose story `evaluate --task passkey` tells."""
    from mambascope.analysis.recipe import read_recipe
    from mambascope.spectra.checkpoint import bundled_models

    return [name for name in bundled_models() if read_recipe(name).passkey is None]
