"""Spectrum-guided scales: what ``mambascope propose`` makes from step sizes on calibration text, no loss evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..goals import GOALS
from ..proposal import TIMES_TO_SEE, planned_tokens, propose_for
from ..rules import Rule
from ..study import token_counter
from ..training_windows import WINDOWS
from .citations import EXTEND, MODULATION, WINSORIZATION, Citation
from .method import CALIBRATION, Description, Fitted, Role, Setting, Task, whether_baked


def _proposed(name: str, task: Task, rule: str | None) -> Fitted:
    read: list[int] = []
    found = propose_for(
        task.model,
        task.texts.calibration,
        task.train_length,
        task.target_length,
        rule=rule,
        always=rule is not None,
        observers=[token_counter(read.append), token_counter(task.tick)],
    )
    scales = found.scales.check(task.model.config)
    passes = sum(read) / task.fit_length
    return Fitted(name, scales, found.reason, passes=passes, bakes=whether_baked(scales, task.model.config))


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The default proposal; a model whose states stay in range is left alone."""

    reads: ClassVar[frozenset[Role]] = CALIBRATION

    name: str = "spectrum"
    """What it is called."""

    def describe(self) -> Description:
        """Say what it does."""
        goal = next(iter(GOALS.values()))
        return Description(
            "the default proposal, zero-shot: horizons drawn in below T, from step sizes and one formula",
            (
                Setting("rule", goal.rule, f"ours: {goal.why}"),
                Setting("windows", str(WINDOWS), "ours, see training_windows"),
                Setting("states followed to", f"{TIMES_TO_SEE} T at least", "ours, see proposal"),
            ),
        )

    def cite(self) -> tuple[Citation, ...]:
        """Return the source of the idea to scale the spectrum."""
        return (MODULATION,)

    def expected_tokens(self, task: Task) -> float:
        """Estimate the tokens of the diagnosis."""
        return float(planned_tokens(task.texts.calibration, task.train_length, task.target_length))

    def fit(self, task: Task) -> Fitted:
        """Diagnose and propose."""
        return _proposed(self.name, task, None)


@dataclass(frozen=True, slots=True)
class ByRule:
    """A proposal by a named rule, for the longest length; it acts even where states stay in range."""

    reads: ClassVar[frozenset[Role]] = CALIBRATION

    rule: Rule
    """The rule."""

    @property
    def name(self) -> str:
        """What it is called."""
        return f"rule:{self.rule.name}"

    def describe(self) -> Description:
        """Say what it does."""
        return Description(f"zero-shot by rule {self.rule.name}: {self.rule.description}")

    def cite(self) -> tuple[Citation, ...]:
        """Return the sources that the rule names."""
        by_words = (("Modulation", MODULATION), ("MambaExtend", EXTEND), ("winsorization", WINSORIZATION))
        return tuple(citation for word, citation in by_words if word in self.rule.source)

    def expected_tokens(self, task: Task) -> float:
        """Estimate the tokens of the diagnosis."""
        return float(planned_tokens(task.texts.calibration, task.train_length, task.target_length))

    def fit(self, task: Task) -> Fitted:
        """Diagnose and propose."""
        return _proposed(self.name, task, self.rule.name)
