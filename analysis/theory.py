"""The theory part of a report: verdicts, growth over time, the regime near 1, and real heads against prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambascope.simulate.claims import Claim
from mambascope.simulate.laws import LogUniform, point, uniform
from mambascope.simulate.montecarlo import Estimate, Paths, summarise
from mambascope.simulate.near_one import Coverage, coverage
from mambascope.simulate.recurrence import Recurrence
from mambascope.simulate.step_laws import InputLaw, Markov
from mambascope.simulate.threefry import key_words

from .runs import RunFolder
from .trials import Job, run_jobs
from .verification import TRIALS, Tick, Verification, jobs_of, verify

Floats = npt.NDArray[np.float64]

CHANNELS = 8
TIMES = tuple(round(2 ** (k / 2)) for k in range(2, 23))
"""Steps at which growth is followed: 2 to 2048, twice a doubling."""

GROWTHS = {
    "one decay 0.9, noise": Recurrence("scalar_identity", CHANNELS, point(0.9)),
    "one decay 0.998, noise": Recurrence("scalar_identity", CHANNELS, point(0.998)),
    "one decay 0.998, constant input": Recurrence(
        "scalar_identity", CHANNELS, point(0.998), inputs=InputLaw(variance=0.25, mean=1.0)
    ),
    "decays U[0, 0.999], noise": Recurrence("diagonal", CHANNELS, uniform(0.0, 0.999)),
    "rates log-uniform [0.001, 1], sticky steps": Recurrence(
        "diagonal",
        CHANNELS,
        LogUniform(0.001, 1.0),
        steps=Markov((0.1, 3.0), ((0.98, 0.02), (0.02, 0.98))),
    ),
}
"""Recurrences whose growth is drawn."""

NEAR_ONE = tuple(10.0**-k for k in (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8))
"""Distances of the largest decay from 1 at which plain Monte Carlo is put to the test."""


@dataclass(frozen=True, slots=True)
class Theory:
    """What theory says, and what simulation says of theory."""

    verification: Verification
    """Verdicts on the claims."""
    growth: dict[str, Estimate]
    """E ||h_T||^2 over time, by recurrence."""
    near_one: tuple[Coverage, ...]
    """Plain Monte Carlo as decays come close to 1."""

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of every table of this part, by name of the table."""
        comparisons = []
        for verdict in self.verification.verdicts:
            told = verdict.to_dict()
            for kind in ("comparisons", "controls"):
                comparisons += [{"claim": verdict.claim, "control": kind == "controls"} | row for row in told[kind]]
        growth = [{"recurrence": name} | row for name, found in self.growth.items() for row in found.rows()]
        return {
            "claims": self.verification.rows(),
            "comparisons": comparisons,
            "growth": growth,
            "near-one": [asdict(each) for each in self.near_one],
        }


def _growth_jobs(trials: int, seed: int) -> list[Job]:
    return [
        Job(f"growth/{k}", Paths(recurrence, TIMES), max(2, trials // 8), key_words(seed, "growth", name))
        for k, (name, recurrence) in enumerate(GROWTHS.items())
    ]


def theory_jobs(claims: Sequence[Claim], trials: int, seed: int) -> list[Job]:
    """Return everything that is simulated for the theory part, for a progress bar."""
    return jobs_of(claims, trials, seed) + _growth_jobs(trials, seed)


def study_theory(
    claims: Sequence[Claim],
    *,
    trials: int = TRIALS,
    seed: int = 0,
    engine: str = "sequential",
    workers: int = 1,
    run: RunFolder | None = None,
    tick: Tick = lambda _: None,
) -> Theory:
    """Verify claims, follow growth over time, and test plain Monte Carlo near 1.

    Args:
        claims: which claims.
        trials: trials of an ordinary experiment; growth takes an eighth of them.
        seed: root seed.
        engine: where the work is done.
        workers: worker processes.
        run: keeps what is finished.
        tick: called with state updates as they are done.

    Returns:
        The results.
    """
    where: dict[str, Any] = {"engine": engine, "workers": workers, "run": run, "tick": tick}
    found = verify(claims, trials=trials, seed=seed, **where)
    values = run_jobs(_growth_jobs(trials, seed), **where)
    growth = {
        name: summarise(recurrence, TIMES, values[f"growth/{k}"])
        for k, (name, recurrence) in enumerate(GROWTHS.items())
    }
    return Theory(found, growth, tuple(coverage(eps, seed=seed) for eps in NEAR_ONE))
