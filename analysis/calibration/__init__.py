"""Refine scales on text: SPSA as published and ours, and back-propagation through streams of any length."""

from __future__ import annotations

from .calibration import calibrate
from .parameters import CALIBRATION_KINDS, GRANULARITIES
from .plan import METHODS
from .record import Step
from .result import Calibrated

__all__ = ["CALIBRATION_KINDS", "GRANULARITIES", "METHODS", "Calibrated", "Step", "calibrate"]
