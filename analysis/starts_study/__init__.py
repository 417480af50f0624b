"""What a start is worth to a calibration: the same budget from several starts, judged on test text."""

from __future__ import annotations

from .plan import START_LABELS, StartsPlan, Task, make_starts_plan
from .result import StartsStudy
from .runner import study_starts

__all__ = ["START_LABELS", "StartsPlan", "StartsStudy", "Task", "make_starts_plan", "study_starts"]
