"""A method to copy: every step half as long, whatever the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mambascope.spectra.scales import scaling

from .citations import Citation
from .method import NOTHING, Description, Fitted, Role, Setting, Task, whether_baked


@dataclass(frozen=True, slots=True)
class HalvedSteps:
    """One factor of 1/2 on dt."""

    reads: ClassVar[frozenset[Role]] = NOTHING

    name: str = "halved-steps"
    """What it is called."""

    def describe(self) -> Description:
        """Say what it does, with the origin of its number."""
        return Description("every step half as long", (Setting("factor", "0.5", "an example"),))

    def cite(self) -> tuple[Citation, ...]:
        """Return no source: it is ours."""
        return ()

    def expected_tokens(self, _: Task) -> float:
        """Return 0: nothing is read."""
        return 0.0

    def fit(self, task: Task) -> Fitted:
        """Return the factor; nothing is read, so fitting costs no passes."""
        scales = scaling("dt", 0.5)
        return Fitted(self.name, scales, "no text was read", bakes=whether_baked(scales, task.model.config))
