"""``mambascope verify``: what is true of the paper's claims about the norm of a Mamba state."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..arguments import add_engine, add_json, add_output
from ..console import print_json, print_table, print_wrapped, progress, say

if TYPE_CHECKING:
    from mambascope.analysis.verification import Verification
    from mambascope.simulate.claims import Claim


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "verify",
        help="derive, simulate and judge the paper's claims",
        description="Derives each claim symbolically, simulates the recurrences that it is about, and says what holds, "
        "what fails and what is true instead. Exit code 4 if a claim could not be settled or a negative control "
        "did not fail.",
        epilog="examples: mambascope verify   |   mambascope verify theorem-4.2 eq-6 --json   |   "
        "mambascope verify --explain theorem-4.2   # derivation, nothing simulated   |   "
        "mambascope verify -o verdicts   # and tables, figures",
    )
    parser.add_argument("claims", metavar="CLAIM", nargs="*", help="keys such as theorem-4.2. Default: all")
    parser.add_argument("--trials", type=int, metavar="N", help="trials of an ordinary experiment. Default: 65536")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="root seed. Default: 0")
    parser.add_argument("--explain", action="store_true", help="print statements and derivations, simulate nothing")
    parser.add_argument("--latex", action="store_true", help="with --explain: as LaTeX")
    add_engine(parser)
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Verify, or explain."""
    from mambascope.analysis.engine import check_engine
    from mambascope.analysis.theory import study_theory, theory_jobs
    from mambascope.analysis.trials import planned_updates
    from mambascope.analysis.verification import TRIALS, UndecidedError, check_trials, chosen_claims, jobs_of, verify
    from mambascope.spectra.errors import RefusedInputError

    from ..folders import theory_folder, workers_of

    claims = chosen_claims(args.claims)
    if args.latex and not args.explain:
        raise RefusedInputError("--latex goes with --explain")
    if args.explain:
        explain(claims, args)
        return
    trials = TRIALS if args.trials is None else args.trials
    check_trials(trials)
    check_engine(args.engine, workers_of(args))
    command = {"claims": [claim.key for claim in claims], "trials": trials}
    where: dict[str, Any] = {"trials": trials, "seed": args.seed, "engine": args.engine, "workers": workers_of(args)}
    with theory_folder(args, command, args.seed) as folder:
        jobs = (theory_jobs if folder else jobs_of)(claims, trials, args.seed)
        with progress(planned_updates(jobs), "verify", "upd") as tick:
            if folder is None:
                found = verify(claims, tick=tick, **where)
            else:
                theory = study_theory(claims, run=folder, tick=tick, **where)
                found = theory.verification
        if folder:
            from ..theory import write_theory

            write_theory(folder, theory)
    if args.json:
        print_json(found.to_dict())
    else:
        show(found)
    if reasons := found.undecided():
        raise UndecidedError("not settled: " + "; ".join(reasons) + "; more --trials narrow the error bars")


def show(found: Verification) -> None:
    """Print the verdict table, then for each claim what was measured and what is true."""
    rows = []
    for verdict in found.verdicts:
        z = max((c.distance(c.corrected) for c in verdict.comparisons if c.simulated), key=abs, default=None)
        rows.append({
            "claim": verdict.claim,
            "as printed": verdict.printed,
            "corrected": verdict.corrected,
            "worst z": "exact" if z is None else f"{z:+.1f}",
            "derived": "yes" if verdict.derived else "NO",
            "control": "rejected" if verdict.control_failed else "NOT REJECTED",
        })
    print_table(rows)
    for claim, verdict in zip(found.claims, found.verdicts, strict=True):
        chosen = verdict.strongest()
        print()
        print_wrapped(f"{claim.key} {verdict.printed}: {claim.printed}")
        if verdict.printed != "holds":
            print_wrapped(f"is true instead: {claim.corrected}", indent=4)
        told = "" if chosen.printed is None else f", printed {chosen.printed:.5g}"
        told += f", corrected {chosen.corrected:.5g}"
        error = "s.e." if chosen.simulated else "bound"
        print_wrapped(f"{chosen.name}: measured {chosen.value:.5g} ({error} {chosen.error:.1g}){told}", indent=4)
    say(
        f"chance that a true form was rejected anywhere: at most {found.family_error:.0e}; power to tell each claim "
        f"from its rival: at least {found.weakest_power:.4f}; seed {found.seed}, {found.trials:,} trials"
    )


def explain(claims: list[Claim], args: argparse.Namespace) -> None:
    """Print each claim's statement, assumptions and derivation."""
    if args.json:
        print_json({"claims": [_explained(claim) for claim in claims]})
        return
    for claim in claims:
        derivation = claim.derive()
        if args.latex:
            print(f"% {claim.key}: {claim.title} ({claim.source})\n{derivation.latex()}\n")
            continue
        print(f"{claim.key}: {claim.title}\n{claim.source}\n")
        print_wrapped(f"as printed: {claim.printed}", indent=2)
        print_wrapped(f"corrected: {claim.corrected}", indent=2)
        print_wrapped(f"assumes: {'; '.join(claim.assumptions)}", indent=2)
        print()
        print(derivation.text() + "\n")


def _explained(claim: Claim) -> dict[str, Any]:
    derivation = claim.derive()
    steps = [
        {"says": step.says, "left": str(step.left), "relation": step.relation, "right": str(step.right)}
        for step in derivation.steps
    ]
    named = {name: getattr(claim, name) for name in ("title", "source", "printed", "corrected")}
    return (
        {"claim": claim.key, "assumptions": list(claim.assumptions), "steps": steps}
        | named
        | {"concludes": derivation.concludes}
    )
