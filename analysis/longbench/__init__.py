"""LongBench, the seven English tasks of the paper's Table 2: prompts, answers in full length, metrics, averages."""

from __future__ import annotations
