"""What runs the scans of models on the device of a plan, in words for manifests and tables."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from mambascope.spectra.config import Arch
from mambascope.spectra.scan import Engine, choose
from mambascope.spectra.scan.choice import KERNELS
from mambascope.spectra.scan.kernels import find, switched_off


def engine(arch: Arch, device: str, dtype: str) -> Engine:
    """Say what runs the scans of a model.

    Args:
        arch: of the model.
        device: as the plan has it; this machine need not have it, as it may only put tables together.
        dtype: of the weights.

    Returns:
        The engine. Without the GPU: what one that is young enough would run with the packages that are here.
    """
    where, states = torch.device(device), torch.float64 if dtype == "float64" else torch.float32
    if where.type != "cuda" or torch.cuda.is_available() or switched_off():
        return choose(arch, where, states)
    official = states == torch.float32 and torch.version.cuda is not None and find(KERNELS[arch]).function is not None
    return Engine("official" if official else "blocked", "by the packages of this machine, which has no GPU")


def engine_words(archs: Iterable[Arch], device: str, dtype: str) -> str:
    """Say what runs the scans of some models, and why; empty for none."""
    found = {arch: str(engine(arch, device, dtype)) for arch in sorted(set(archs))}
    if len(set(found.values())) < 2:
        return next(iter(found.values()), "")
    return ", ".join(f"{arch} {words}" for arch, words in found.items())
