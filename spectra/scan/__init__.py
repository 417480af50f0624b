"""The recurrences h_t = exp(dt_t A) h_{t-1} + gain_t B_t x_t,  y_t = C_t h_t, and the choice among their engines.

``reference`` is a float64 loop and the oracle of every test, ``blocked`` runs in plain torch on any device,
``compiled_diagonal`` and ``compiled_scalar_identity`` are float32 loops for the CPU with gradients, and ``cuda`` runs
the official GPU kernels (float32, forward only). All start from a given state and return the last one; ``dt`` and
``gain`` are separate arguments so that a scaling of A, of dt, or of both is the same call. ``choose`` says which engine
runs and why.

Source: Gu and Dao 2023 (Mamba), Algorithm 2; Dao and Gu 2024 (Mamba-2), section 6.
"""

from __future__ import annotations

from .choice import Engine, choose, engine_of
from .dispatch import diagonal_scan, prepare, scalar_identity_scan

__all__ = ["Engine", "choose", "diagonal_scan", "engine_of", "prepare", "scalar_identity_scan"]
