"""``mambascope simulate``: the norm of a recurrence's state, simulated and exact."""

from __future__ import annotations

import argparse
from typing import Any

from ..arguments import add_engine, add_json, add_output, lengths, power_of_two
from ..console import print_json, print_table, progress, say

MOST_NUMBERS = 2**27
"""Squared norms kept until the end: one gigabyte, two while they are put together."""


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "simulate",
        help="E ||h||^2 of a recurrence of your own, simulated and exact",
        description="Runs h_t = exp(-a dt_t) h_{t-1} + gain_t u_t from h_0 = 0 and prints the mean of ||h||^2 over "
        "trials with its standard error, quantiles of one trial, the exact value by quadrature where one is known, "
        "and whether the error bar can be trusted.",
        epilog="examples: mambascope simulate --law uniform:0,0.9 --times 16,256   |   "
        "mambascope simulate --law uniform:0,1-1e-8 --times 1k --qmc 4096   |   "
        "mambascope simulate --kind scalar_identity --law model:mamba2-tiny/0 --steps gamma:0.5,0.1 --times 256,16k",
    )
    parser.add_argument("--kind", choices=("diagonal", "scalar_identity"), default="diagonal", help="Default: diagonal")
    parser.add_argument(
        "--law",
        default="uniform:0,0.9",
        help="decays of a step of size --law-step: uniform:LOW,HIGH beta:A,B,LOW,HIGH point:L twopoint:L1,L2[,W]; "
        "rates: loguniform:LOW,HIGH model:NAME[/LAYER]. A HIGH near 1 is written 1-1e-8. Default: uniform:0,0.9",
    )
    parser.add_argument("--law-step", type=float, default=1.0, metavar="DT", help="Default: 1")
    parser.add_argument(
        "--steps",
        default="constant:1",
        help="constant:DT gamma:SHAPE,SCALE softplus:MU,SIGMA markov:DT1,DT2/P11,P12/P21,P22 trace:FILE.npy. "
        "Default: constant:1",
    )
    parser.add_argument("--channels", type=int, default=8, metavar="D", help="size of the state. Default: 8")
    parser.add_argument("--mixing", type=int, metavar="M", help="inputs of a random B. Default: one input a channel")
    parser.add_argument("--mean", type=float, default=0.0, help="mean of the inputs. Default: 0")
    parser.add_argument("--variance", type=float, default=1.0, help="variance of the inputs. Default: 1")
    parser.add_argument("--rho", type=float, default=0.0, help="correlation of neighbouring inputs. Default: 0")
    parser.add_argument("--discretisation", choices=("euler", "zoh"), default="euler", help="Default: euler, as Mamba")
    parser.add_argument("--times", type=lengths, default=[256], help="steps, such as 16,256 or 1..1k. Default: 256")
    parser.add_argument("--trials", type=int, default=16384, metavar="N", help="Default: 16384")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="Default: 0")
    parser.add_argument(
        "--qmc", type=power_of_two, metavar="POINTS", help="also by this many scrambled Sobol points, a power of 2"
    )
    add_engine(parser)
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Simulate, print and store."""
    import numpy as np

    from mambascope.analysis.atomic import NotFiniteError, json_bytes
    from mambascope.analysis.engine import check_engine
    from mambascope.analysis.runs import InputFile
    from mambascope.analysis.trials import Job, planned_updates, run_jobs
    from mambascope.simulate.exact import exact_second_moment, quasi_second_moment
    from mambascope.simulate.montecarlo import Paths, summarise
    from mambascope.simulate.recurrence import Recurrence
    from mambascope.simulate.step_laws import InputLaw
    from mambascope.simulate.threefry import key_words
    from mambascope.spectra.errors import RefusedInputError

    from ..folders import theory_folder, workers_of
    from ..laws import eigenvalue_law, law_files, step_law

    if not 2 <= args.trials * len(args.times) <= MOST_NUMBERS or args.trials < 2:
        raise RefusedInputError(
            f"--trials {args.trials}: expected at least 2, and trials x times up to {MOST_NUMBERS}, which are kept"
        )
    check_engine(args.engine, workers_of(args))
    try:
        recurrence = Recurrence(
            args.kind,
            args.channels,
            eigenvalue_law(args.law, args.law_step),
            step_law(args.steps),
            InputLaw(args.variance, args.mean, args.rho),
            args.discretisation,
            args.mixing,
        )
        paths = Paths(recurrence, tuple(args.times))
    except ValueError as problem:
        raise RefusedInputError(str(problem)) from problem
    if args.qmc and exact_second_moment(recurrence, args.times[:1]) is None:
        raise RefusedInputError("--qmc needs a closed form for one mode: not for these steps, inputs or discretisation")
    job = Job("paths", paths, args.trials, key_words(args.seed, "simulate"))
    names = ("kind", "law", "law_step", "steps", "channels", "mixing", "mean", "variance", "rho", "discretisation")
    command = {name: getattr(args, name) for name in (*names, "times", "trials", "qmc")}
    inputs = [InputFile.of("law", path) for path in law_files(args.law, args.steps)]
    with theory_folder(args, command, args.seed, inputs) as folder:
        with progress(planned_updates([job]), "simulate", "upd") as tick:
            values = run_jobs([job], engine=args.engine, workers=workers_of(args), run=folder, tick=tick)
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
                found = summarise(recurrence, args.times, values[job.name])
        except ArithmeticError as problem:
            raise NotFiniteError(f"the exact value of this recurrence could not be computed: {problem}") from problem
        rows = found.rows()
        for row in rows if args.qmc else []:
            row["qmc"], row["qmc_se"] = quasi_second_moment(recurrence, row["steps"], args.qmc, args.seed)
        json_bytes(rows)  # an overflow is said so, not shown
        if folder:
            from ..tables import write_table

            write_table(folder, "simulation", rows)
    if args.json:
        print_json({"command": command | {"seed": args.seed}, "rows": rows})
        return
    print_table(rows)
    if not found.covered.all():
        instead = "; the exact value has no such trouble" if found.exact is not None else ""
        say(f"covered False: too few trials for this law's error bars to be trusted; give more{instead}")
