"""What a calibration leaves on the disk: a journal line for each step, and the state to go on from."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from mambascope.spectra.model import Model

from ..runs import RunFolder
from ..states import StateError, read_state, write_state
from .objective import Bits
from .parameters import Floats

STATE = "calibration.safetensors"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a calibration."""

    step: int
    """Steps done; 0 is the start."""
    passes: float
    """Forward passes over one window of the target length so far, those on selection windows among them."""
    bits: float | None
    """What the step saw: bits per token of its own windows before it moved; None at the start."""
    selection: Bits | None
    """The new point on the selection windows, where it was looked at."""

    def row(self) -> dict[str, Any]:
        """Return a row of a table."""
        look = self.selection
        return {
            "step": self.step,
            "passes": self.passes,
            "bits": self.bits,
            "selection_tail_bits": None if look is None else look.tail,
            "selection_inside_bits": None if look is None else look.inside,
        }

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Step:
        """Make a step from its journal line."""
        look = stored["selection"]
        return cls(stored["step"], stored["passes"], stored["bits"], None if look is None else Bits(**look))


class History:
    """The steps so far, the last point and the best one; kept in a run folder if there is one."""

    def __init__(self, run: RunFolder | None) -> None:
        self.run = run
        self.steps: list[Step] = []
        self.u: Floats = np.empty(0)
        self.best_u: Floats = np.empty(0)
        self.best = 0
        self.memory: dict[str, Floats] = {}
        if run is not None and run.output(STATE).is_file():
            self._load(run)

    def _load(self, run: RunFolder) -> None:
        arrays, _ = read_state(run.output(STATE))
        try:
            done = int(arrays.pop("steps")[0])
            self.u, self.best_u = arrays.pop("u"), arrays.pop("best_u")
            for k in range(done):
                self._take(Step.of(run.journal.get("step", str(k))))
        except (LookupError, TypeError, ValueError) as error:
            raise StateError(run.folder / STATE, error) from error
        self.memory = {name.removeprefix("memory/"): array for name, array in arrays.items()}

    def _take(self, step: Step) -> bool:
        """Append a step; True if its point is the best so far on the selection windows."""
        self.steps.append(step)
        before = self.steps[self.best].selection
        if step.selection is None or before is None or (step.step and step.selection.tail >= before.tail):
            return False
        self.best = step.step
        return True

    def add(self, step: Step, u: Floats, memory: dict[str, Floats]) -> None:
        """Keep a step for good: its line first, then the state after it."""
        self.u, self.memory = u, memory
        if self._take(step):
            self.best_u = u
        if self.run is None:
            return
        if ("step", str(step.step)) not in self.run.journal:  # else killed before the state was written
            self.run.journal.append("step", str(step.step), asdict(step))
        arrays = {"u": self.u, "best_u": self.best_u, "steps": np.array([len(self.steps)])}
        arrays |= {f"memory/{name}": array for name, array in self.memory.items()}
        write_state(self.run.output(STATE), arrays)


def fingerprint(model: Model) -> str:
    """Return a hash of a model's weights, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
