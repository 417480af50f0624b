"""Small models that break down early, late, or not at all: the cases that a forecast of harm is tested on.

They differ in the architecture, the training length T, and the law that the rates |A| start from; everything else is
shared. A rate a with steps near dt remembers 1 / (a dt) tokens, so a law with rates far below 1 / (T dt) gives memories
that training at T cannot teach a model to handle. "usual" is uniform on [1, 16] (Dao and Gu 2024).
Each takes about two minutes on one free CPU core. Sizes and steps are ours: small and quick, and 2.2 bits per byte or
better.
"""

from __future__ import annotations

from .recipe import RateInit, Recipe

TOKENS_PER_STEP = 2048
"""Ours: 16 windows of 128 bytes, 0.09 s a step on one core."""

WIDE = RateInit("log_uniform", 1e-3, 1.0)
SLOW = RateInit("log_uniform", 1e-4, 1e-1)
MIDDLE = RateInit("log_uniform", 1e-2, 1.0)
FAST = RateInit("log_uniform", 0.1, 10.0)
USUAL = RateInit("uniform", 1.0, 16.0)

_LAWS = {"wide": WIDE, "slow": SLOW, "middle": MIDDLE, "fast": FAST, "usual": USUAL}


def _variant(arch: str, train_length: int, law: str) -> Recipe:
    small = {"mamba2": (32, 16), "mamba": (8, 16)}[arch]  # d_state, headdim (mamba has none and keeps the default)
    init = _LAWS[law]
    return Recipe(
        name=f"{arch}-t{train_length}-{law}",
        arch="mamba" if arch == "mamba" else "mamba2",
        d_model=96,
        n_layer=3,
        d_state=small[0],
        headdim=small[1],
        A_init=init,
        why=f"A case for the forecast of harm: rates {init.law} on [{init.low:g}, {init.high:g}], trained at "
        f"{train_length} tokens.",
        train_length=train_length,
        batch=TOKENS_PER_STEP // train_length,
        steps=1200,
    )


VARIANTS: tuple[Recipe, ...] = (
    _variant("mamba2", 128, "wide"),
    _variant("mamba2", 64, "usual"),
    _variant("mamba", 128, "wide"),
    _variant("mamba2", 128, "fast"),
    _variant("mamba2", 256, "slow"),
    _variant("mamba", 128, "usual"),
    _variant("mamba2", 64, "fast"),
    _variant("mamba2", 64, "middle"),
    _variant("mamba", 256, "fast"),
    _variant("mamba2", 256, "middle"),
    _variant("mamba", 64, "middle"),
)
"""The cases: seven Mamba-2, four Mamba; the three bundled models come on top."""
