"""Methods that fit nothing: the model as it is, the control that cannot break down, scales from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mambascope.spectra.scales import Scales

from .citations import Citation
from .method import NOTHING, Description, Fitted, Role, Setting, Task, whether_baked

FRESH = "fresh-window"
"""Name of the control."""


@dataclass(frozen=True, slots=True)
class Unscaled:
    """The model as it was trained."""

    reads: ClassVar[frozenset[Role]] = NOTHING

    name: str = "none"
    """What it is called."""

    def describe(self) -> Description:
        """Say what it does."""
        return Description("the model as it was trained, one state from the first token to the last")

    def cite(self) -> tuple[Citation, ...]:
        """Return no source."""
        return ()

    def expected_tokens(self, _: Task) -> float:
        """Return 0: nothing is fitted."""
        return 0.0

    def fit(self, _: Task) -> Fitted:
        """Change nothing."""
        return Fitted(self.name, None, "nothing to fit")


@dataclass(frozen=True, slots=True)
class FreshWindow:
    """The control: no state is older than the training length. It is scored window by window, see ``score_fresh``."""

    reads: ClassVar[frozenset[Role]] = NOTHING

    name: str = FRESH
    """What it is called."""

    def describe(self) -> Description:
        """Say what it does."""
        return Description(
            "the same tokens, each scored with a state started fresh between T/2 and T tokens before it",
            (Setting("stride", "T/2", "ours: half of each window is read for context and not scored"),),
        )

    def cite(self) -> tuple[Citation, ...]:
        """Return no source."""
        return ()

    def expected_tokens(self, _: Task) -> float:
        """Return 0: nothing is fitted."""
        return 0.0

    def fit(self, _: Task) -> Fitted:
        """Change nothing: the control is a way of reading, which every token pays for twice."""
        return Fitted(self.name, None, "nothing to fit", bakes="no: a way of reading, at twice the cost of a token")


@dataclass(frozen=True, slots=True)
class FromFile:
    """Scales that were made before."""

    reads: ClassVar[frozenset[Role]] = NOTHING

    path: Path
    """A file written by ``propose`` or ``calibrate``."""

    @property
    def name(self) -> str:
        """What it is called."""
        return f"scales:{self.path}"

    def describe(self) -> Description:
        """Say what it does."""
        return Description(f"the factors in {self.path.name}")

    def cite(self) -> tuple[Citation, ...]:
        """Return no source: the file says how it was made."""
        return ()

    def expected_tokens(self, _: Task) -> float:
        """Return 0: the factors are there."""
        return 0.0

    def fit(self, task: Task) -> Fitted:
        """Read the file."""
        scales = Scales.load(self.path).check(task.model.config)
        return Fitted(self.name, scales, f"read from {self.path.name}", bakes=whether_baked(scales, task.model.config))
