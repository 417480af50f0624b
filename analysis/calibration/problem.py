"""The loss that a method lowers: one model, windows of its texts, and a count of what it all costs."""

from __future__ import annotations

import numpy as np

from mambascope.spectra.model import Model

from ..study import Texts
from .backprop import loss_and_gradient
from .descent import LEAST, MOST
from .objective import Bits, first_scored, window_bits
from .parameters import Floats, Parameters
from .plan import GRADIENT_PASSES, Plan
from .windows import Ids, draw_windows, spread_windows


class TextProblem:
    """Calibration windows for the losses of steps, selection windows to choose a point on.

    Attributes:
        passes: forward passes so far over one window of the target length; a gradient counts as ``GRADIENT_PASSES``.
        chosen: the selection windows.
        fixed: the calibration windows of the published methods, the same in every step.
    """

    def __init__(self, model: Model, plan: Plan, texts: Texts, parameters: Parameters) -> None:
        self.model, self.plan, self.parameters = model, plan, parameters
        self.documents = [d.ids for d in texts.calibration]
        L = plan.target_length
        self.chosen: Ids = spread_windows([d.ids for d in texts.validation], L, plan.selection_windows, "selection")
        self.fixed = spread_windows(self.documents, L, plan.batch, "calibration")
        self.least: Floats = np.full(parameters.size, LEAST)
        self.most: Floats = np.array([MOST[kind] for kind in parameters.kinds])
        self.passes = 0.0
        self._looked: dict[bytes, Bits] = {}

    def windows(self, step: int) -> Ids:
        """Return a step's windows: drawn anew, or the whole calibration set where the published methods read that."""
        if not self.plan.keeps_best:
            return self.fixed
        return draw_windows(self.documents, self.plan.target_length, self.plan.batch, self.plan.seed, step)

    def loss(self, u: Floats, step: int) -> float:
        """Return the bits of a step's windows."""
        windows = self.windows(step)
        self.passes += len(windows)
        return window_bits(self.model, windows, self.parameters.scales(u), self.plan.train_length).of(self.plan.score)

    def gradient(self, u: Floats, step: int) -> tuple[float, Floats]:
        """Return the bits of a step's windows and their gradient with respect to u."""
        windows = self.windows(step)
        self.passes += GRADIENT_PASSES * len(windows)
        parameters, first = self.parameters, first_scored(self.plan.score, self.plan.target_length)
        found = loss_and_gradient(self.model, windows, parameters.values(u), parameters.scales_of, first=first)
        return found.bits, parameters.pull(found.values)

    def look(self, u: Floats) -> Bits:
        """Return the bits of the selection windows; a point that was just looked at costs nothing."""
        key = u.tobytes()
        if key not in self._looked:
            self.passes += len(self.chosen)
            scales = self.parameters.scales(u)
            self._looked = {key: window_bits(self.model, self.chosen, scales, self.plan.train_length)}
        return self._looked[key]

    def forget(self) -> None:
        """Forget the last look, so that what a step costs does not depend on where a run was stopped."""
        self._looked = {}

    def selection(self, u: Floats) -> float:
        """Return the bits of the selection windows, scored as the method scores."""
        return self.look(u).of(self.plan.score)
