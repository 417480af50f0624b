"""What scales are for: horizons drawn in mend perplexity and cost recall, and a goal says which of the two matters."""

from __future__ import annotations

from dataclasses import dataclass

from mambascope.spectra.errors import RefusedInputError

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


_GOALS = (
    Goal(
        "perplexity",
        "soft-clip",
        "states end at the size that training showed, under the strictest assumption on their inputs; on validation "
        "books both bundled models stay within 0.005 bits of the fresh-window control from 4 to 64 T and lose nothing "
        "inside T, which no other rule does that can be baked into both",
    ),
    Goal(
        "balanced",
        "soft-clip-noise",
        "horizons may reach 2T, right if noise drives the slow modes; between the other two on validation text and on "
        "repeated passages",
    ),
    Goal(
        "retrieval",
        "hard-clip:4",
        "modes that forget within 4T are left alone and the slowest keep 78 % of a write for T tokens, while on steady "
        "inputs no state can grow more than 4.5 times; checked on repeated passages of 48 tokens in the bundled "
        "models, NOT on a recall task, as no model that can do one is bundled. Longer memory by smaller steps "
        "(head-dt, rescaled-time) kept less of the passages: what stays is diluted",
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
        raise RefusedInputError(f"goal {goal!r}: expected one of {', '.join(GOALS)}")
    return find_rule(rule or GOALS[goal].rule)
