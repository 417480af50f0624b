"""A comparison of starts made by hand, for the tests of its words and figures: nothing runs, every number is known."""

import numpy as np

from mambascope.analysis.starts_study import StartsStudy, make_starts_plan
from mambascope.analysis.starts_study.curves import StartRun
from mambascope.analysis.starts_study.plan import CONSTANTS
from mambascope.analysis.starts_study.scores import Score

CONTROL = np.linspace(2.0, 2.7, 8)
HARM = {"spectrum": 0.01, "projected": 0.05, "ones": 0.3, "constant": 0.1, "uniform": 0.2, "log-uniform": 0.04}


def score_of(harm, seed=0, documents=8, far=True):
    noise = 0.001 * np.random.default_rng(seed).normal(0, 1, documents)
    tail = CONTROL[:documents] + harm + noise
    return Score(tuple(tail - 0.5), tuple(tail), tuple(tail + harm) if far else ())


def made_up(harms=None, *, gain=0.5, documents=8, **changes):
    """Every run ends at ``harms`` of its start on test text, and began at ``1 + gain`` times that."""
    harms = HARM | (harms or {})
    options = {"train_length": 16, "target_length": 64, "arch": "mamba2", "layer_passes": 100} | changes
    plan = make_starts_plan(**options)
    far = plan.far_length is not None
    runs = []
    for place, task in enumerate(plan.tasks(largest=100.0, best_constant=8.0, proposal_passes=20.0)):
        final = harms[task.label] * (1 + 0.1 * task.plan.seed)
        spent = {"spectrum": 20, "constant": 200}.get(task.label, 0)
        looks = [(spent + 8 + 50 * k, 2.0 + final * (1 + gain * (2 - k) / 2)) for k in range(3)]
        runs.append(
            StartRun(
                task=task, curve=tuple(looks), start_bits=looks[0][1], final_bits=looks[-1][1], step=plan.steps or 1,
                passes=looks[-1][0], start=score_of(final * (1 + gain), place, documents, far),
                final=score_of(final, place, documents, far),
            )
        )  # fmt: skip
    constants = {s: 2.1 + abs(np.log(s / 8.0)) for s in CONSTANTS}
    return StartsStudy(
        model="made-up", plan=plan, largest=100.0, proposal_passes=20.0, constants=constants, constant_passes=200,
        runs=tuple(runs), selection_unscaled=5.0, selection_control=2.0, unscaled=score_of(3.0, 99, documents, far),
        control=Score(tuple(CONTROL[:documents] - 0.5), tuple(CONTROL[:documents]), tuple(CONTROL[:documents])),
    )  # fmt: skip
