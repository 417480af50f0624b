"""Settle the paper's claims: derive, simulate, judge.

A run folder keeps every block of trials and every derivation, so that a stopped verification goes on where it was and
ends with the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mambascope.simulate.claims import KEYS, Claim, load
from mambascope.simulate.threefry import key_words
from mambascope.simulate.verdict import Sample, Verdict, chance_each
from mambascope.spectra.errors import MambascopeError, RefusedInputError
from mambascope.spectra.html_table import html_table

from .engine import run_in_order
from .runs import RunFolder
from .trials import Job, run_jobs

Tick = Callable[[int], None]

TRIALS = 65536
"""Trials of an ordinary experiment. Ours: standard errors of levels are then 0.3 to 0.6 %; the weakest claim's power is
printed with every run."""
FEWEST_TRIALS = 4096
"""Below, the skewness of a sample says too little about the tails of its mean for the promised rate of false alarms."""


MOST_TRIALS = 2**24
"""Every trial's numbers are kept until the verdict: more would need tens of gigabytes."""


class UndecidedError(MambascopeError):
    """A claim could not be settled, or a check failed that had to hold."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Verification:
    """All verdicts of a run."""

    claims: tuple[Claim, ...]
    """What was settled."""
    verdicts: tuple[Verdict, ...]
    """One a claim, in the same order."""
    seed: int
    """Root seed."""
    trials: int
    """Trials of an ordinary experiment."""

    @property
    def family_error(self) -> float:
        """Bound on the chance that this run rejects any true form, over all its comparisons, from their own numbers."""
        return float(sum(c.false_alarm(v.chance) for v in self.verdicts for c in v.comparisons))

    @property
    def weakest_power(self) -> float:
        """Smallest power, over claims, of the simulated comparison that tells most."""
        return min(verdict.power for verdict in self.verdicts)

    def undecided(self) -> list[str]:
        """Return what keeps each unsettled claim from being settled; empty if all are."""
        reasons = []
        for verdict in self.verdicts:
            if not verdict.decisive:
                found = [f"printed form: {verdict.printed}", f"corrected form: {verdict.corrected}"]
                found += [f"step not confirmed: {step}" for step in verdict.unconfirmed]
                found += [] if verdict.control_failed else ["negative control passed, which it must not"]
                reasons.append(f"{verdict.claim} ({'; '.join(found)})")
        return reasons

    def _repr_html_(self) -> str:
        return html_table(self.rows(), f"{len(self.claims)} claims, {self.trials:,} trials, seed {self.seed}")

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a claim, for a table."""
        rows = []
        for claim, verdict in zip(self.claims, self.verdicts, strict=True):
            chosen = verdict.strongest()
            rows.append({
                "claim": claim.key,
                "printed": verdict.printed,
                "corrected": verdict.corrected,
                "derived": verdict.derived,
                "shown by": chosen.name,
                "value": chosen.value,
                "error": chosen.error,
                "printed says": chosen.printed,
                "corrected says": chosen.corrected,
                "control rejected": verdict.control_failed,
                "power": verdict.power,
            })
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        words = ("title", "source", "corrected", "assumptions")
        return {
            "seed": self.seed,
            "trials": self.trials,
            "family_error": self.family_error,
            "power": self.weakest_power,
            "verdicts": [
                verdict.to_dict()
                | {"statement": claim.printed}
                | {f"{name}_text" if name == "corrected" else name: getattr(claim, name) for name in words}
                for claim, verdict in zip(self.claims, self.verdicts, strict=True)
            ],
        }


def derivation_failures(claim: str) -> list[str]:
    """Return the steps of a claim's derivation that could not be confirmed: what a worker does."""
    return load(claim).derive().failures()


def chosen_claims(keys: Sequence[str]) -> list[Claim]:
    """Return claims by key, all of them for no key.

    Args:
        keys: keys of claims.

    Returns:
        The claims, in the order of the paper.

    Raises:
        RefusedInputError: a key is not known.
    """
    for key in keys:
        try:
            load(key)
        except KeyError as problem:
            raise RefusedInputError(problem.args[0]) from None
    return [load(key) for key in KEYS if not keys or key in keys]


def check_trials(trials: int) -> None:
    """Refuse numbers of trials that cannot be run or mean nothing.

    Args:
        trials: of an ordinary experiment.

    Raises:
        RefusedInputError: below ``FEWEST_TRIALS``, or more than memory holds.
    """
    if not FEWEST_TRIALS <= trials <= MOST_TRIALS:
        raise RefusedInputError(f"--trials {trials}: expected {FEWEST_TRIALS} to {MOST_TRIALS}")


def jobs_of(claims: Sequence[Claim], trials: int, seed: int) -> list[Job]:
    """Return the experiments of claims.

    Args:
        claims: which.
        trials: trials of an ordinary experiment.
        seed: root seed.

    Returns:
        One job an experiment, named by claim and experiment.
    """
    return [
        Job(f"{claim.key}/{slug(name)}", part.experiment, part.count, key_words(seed, claim.key, name))
        for claim in claims
        for name, part in claim.experiments(trials).items()
    ]


def slug(name: str) -> str:
    """Return an experiment's name as part of a file name.

    >>> slug("U[0, 0.5]")
    'u-0-0.5'
    """
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


def verify(
    claims: Sequence[Claim] | None = None,
    *,
    trials: int = TRIALS,
    seed: int = 0,
    engine: str = "sequential",
    workers: int = 1,
    run: RunFolder | None = None,
    tick: Tick = lambda _: None,
) -> Verification:
    """Settle claims.

    Args:
        claims: which. Default: all.
        trials: trials of an ordinary experiment.
        seed: root seed.
        engine: where the work is done, see ``engine.ENGINES``; results do not depend on it.
        workers: worker processes.
        run: keeps what is finished.
        tick: called with state updates as they are done.

    Returns:
        The verdicts.

    Raises:
        RefusedInputError: too few trials for any error bar.
    """
    check_trials(trials)
    claims = tuple(chosen_claims([]) if claims is None else claims)
    values = run_jobs(jobs_of(claims, trials, seed), engine=engine, workers=workers, run=run, tick=tick)
    unconfirmed = _derivations([claim.key for claim in claims], engine, workers, run)
    compared = []
    for claim in claims:
        samples = {name: Sample(values[f"{claim.key}/{slug(name)}"]) for name in claim.experiments(trials)}
        compared.append((tuple(claim.compare(samples)), tuple(claim.control(samples))))
    chance = chance_each([c for comparisons, _ in compared for c in comparisons])
    verdicts = [
        Verdict(claim.key, comparisons, controls, tuple(unconfirmed[claim.key]), chance)
        for claim, (comparisons, controls) in zip(claims, compared, strict=True)
    ]
    return Verification(claims, tuple(verdicts), seed, trials)


def _derivations(keys: Sequence[str], engine: str, workers: int, run: RunFolder | None) -> dict[str, list[str]]:
    """Check every derivation; return the steps that could not be confirmed, by claim."""
    missing = [key for key in keys if run is None or ("cell", f"derivation/{key}") not in run.journal]
    pieces = [(key,) for key in missing]
    checked = run_in_order(derivation_failures, pieces, engine=engine, jobs=workers)
    found = dict(zip(missing, checked, strict=True))
    if run is None:
        return found
    return {key: list(run.cell(f"derivation/{key}", lambda key=key: found[key])) for key in keys}  # type: ignore[misc]
