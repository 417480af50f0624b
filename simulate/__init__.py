"""What theory predicts for one mode of a Mamba state; no torch, no files, plain arrays in and out."""

from .modes import energy_gain, mean_gain, overshoot, soft_clip

__all__ = ["energy_gain", "mean_gain", "overshoot", "soft_clip"]
