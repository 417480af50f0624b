"""What scales are for: horizons drawn in mend perplexity and cost recall, and a goal says which of the two matters."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.hints import nearest

from .rules import Rule, find_rule


@dataclass(frozen=True, slots=True)
class Goal:
    """What scales are for, and the rule that serves it."""

    name: str
    """``perplexity``, ``balanced`` or ``retrieval``."""
    rule: str
    """Name of its rule."""
    why: str
    """Why that rule, and what it was checked on."""


FAR_CLIP = 4.0
"""C of ``hard-clip:C`` for retrieval. Ours: of the clips 1, 2, 4 and 16 the nearest one that costs a mode less than a
quarter of what it keeps over T."""


def kept_over_T(times: float) -> float:
    """Return what a mode of horizon ``times`` T keeps of a write for T tokens.

    >>> round(kept_over_T(4), 2)
    0.78
    """
    return math.exp(-1 / times)


def most_growth(times: float) -> float:
    """Return by how much a mode of horizon ``times`` T grows from T tokens to any length if its input is constant.

    >>> round(most_growth(4), 1)
    4.5
    """
    return -1 / math.expm1(-1 / times)


_GOALS = (
    Goal(
        "perplexity",
        "soft-clip",
        "states end at the size that training showed, under the strictest assumption on their inputs, and its factors "
        "can be baked into every model; `mambascope report` holds it against every other rule on validation text",
    ),
    Goal(
        "balanced",
        "soft-clip-noise",
        "horizons may reach 2T, right if noise drives the slow modes: more memory than for perplexity, less than for "
        "retrieval",
    ),
    Goal(
        "retrieval",
        f"hard-clip:{FAR_CLIP:g}",
        f"modes that forget within {FAR_CLIP:g}T are left alone and the slowest keep {kept_over_T(FAR_CLIP):.0%} of a "
        f"write for T tokens, while on steady inputs no state can grow more than {most_growth(FAR_CLIP):.1f} times; "
        "`mambascope report` checks it on repeated passages, NOT on a recall task: the bundled model that can do one "
        "stays in range and is left alone. Longer memory by smaller steps (head-dt, rescaled-time) dilutes what stays: "
        "a write counts for less",
    ),
)
GOALS: dict[str, Goal] = {goal.name: goal for goal in _GOALS}
"""By name, the default first."""


def rule_for(rule: str | None, goal: str) -> Rule:
    """Return the rule of a name, or that of a goal where none is named.

    Args:
        rule: a name, as ``find_rule`` takes it.
        goal: a goal's name.

    Returns:
        The rule.

    Raises:
        RefusedInputError: unknown rule or goal.
    """
    if goal not in GOALS:
        hint = nearest(goal, GOALS)
        raise RefusedInputError(
            f"goal {goal!r}: {hint + ' Expected' if hint else 'expected'} one of {', '.join(GOALS)}"
        )
    return find_rule(rule or GOALS[goal].rule)
