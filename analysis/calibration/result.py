"""What a calibration gives back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mambascope.spectra.html_table import html_table
from mambascope.spectra.scales import Scales

from .objective import Bits
from .plan import Plan
from .record import Step


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Calibrated scales, and how they came about."""

    scales: Scales
    """The result."""
    start: Scales
    """Where it started."""
    plan: Plan
    """What was done."""
    history: tuple[Step, ...]
    """Every step; the start is step 0."""
    step: int
    """Step whose point is the result."""
    texts_sha256: dict[str, list[str]]
    """Content hashes of the calibration and selection (``validation``) documents."""

    @property
    def start_bits(self) -> Bits:
        """The start on the selection windows."""
        return self._look(0)

    @property
    def bits(self) -> Bits:
        """The result on the selection windows; a fresh evaluation of the stored scales gives the same."""
        return self._look(self.step)

    @property
    def passes(self) -> float:
        """What it cost, in forward passes over one window of the target length."""
        return self.history[-1].passes

    def _look(self, step: int) -> Bits:
        found = self.history[step].selection
        assert found is not None
        return found

    def best_so_far(self) -> list[tuple[float, float]]:
        """Return (passes, least selection tail bits until then), one pair a look."""
        looks = [(s.passes, s.selection.tail) for s in self.history if s.selection is not None]
        return [(passes, min(bits for _, bits in looks[: k + 1])) for k, (passes, _) in enumerate(looks)]

    def provenance(self) -> dict[str, Any]:
        """Return how the scales were made, for the file that holds them."""
        return {
            "made_by": "calibrate",
            "plan": self.plan.to_dict(),
            "step": self.step,
            "passes": self.passes,
            "selection": {"start": asdict(self.start_bits), "result": asdict(self.bits)},
            "texts_sha256": self.texts_sha256,
        }

    def note(self) -> str:
        """Say in words what happened."""
        return (
            f"calibrated by {self.plan.method} from {self.plan.start} (step {self.step} of {self.plan.steps}): "
            f"{self.bits.tail:.4f} tail bits per token on selection windows of {self.plan.target_length} tokens, "
            f"{self.start_bits.tail:.4f} at the start; inside the training length {self.bits.inside:.4f}, "
            f"{self.start_bits.inside:.4f} at the start"
        )

    def stored(self) -> dict[str, Any]:
        """Return the content of ``scales.json``."""
        return self.scales.to_dict() | {"note": self.note(), "provenance": self.provenance()}

    def _repr_html_(self) -> str:
        return html_table(self.rows(), self.note())

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a step."""
        return [step.row() for step in self.history]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "plan": self.plan.to_dict(),
            "selection": {"start": asdict(self.start_bits), "result": asdict(self.bits)},
            "passes": self.passes,
            "rows": self.rows(),
            "scales": self.scales.to_dict(),
            "note": self.note(),
            "provenance": self.provenance(),
        }

    def __repr__(self) -> str:
        return (
            f"Calibrated({self.plan.method}, {self.plan.kind}, {self.plan.granularity}: selection "
            f"{self.start_bits.tail:.4f} -> {self.bits.tail:.4f} bits, {self.passes:.0f} passes)"
        )
