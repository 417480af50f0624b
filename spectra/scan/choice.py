"""Which engine runs a scan: found out from what is installed and from the tensors, and always with its reason."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..config import Arch
from . import cuda
from .kernels import SWITCH, KernelName, find, switched_off, too_old

KERNELS: dict[Arch, KernelName] = {"mamba": "selective_scan", "mamba2": "chunk_scan"}
"""The official kernel of each recurrence."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine and why it is the one."""

    name: Literal["compiled", "blocked", "official"]
    """``compiled`` (numba, CPU), ``blocked`` (plain torch) or ``official`` (kernels of mamba_ssm)."""
    why: str
    """Why it runs, or why a faster one does not."""
    install: str = ""
    """Command that installs the faster one, empty if there is none or it is there."""

    def __str__(self) -> str:
        return f"{self.name}: {self.why}" + (f"; {self.install}" if self.install else "")


def needs_gradient(tensors: Iterable[Tensor | None]) -> bool:
    """Return whether autograd has to follow what is done with these tensors."""
    return torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in tensors)


def choose(arch: Arch, device: torch.device, dtype: torch.dtype, *, gradient: bool = False) -> Engine:
    """Say which engine runs the scan of a model and why.

    Args:
        arch: ``mamba`` or ``mamba2``.
        device: where the tensors live.
        dtype: dtype of the states, float32 or float64; not that of the weights.
        gradient: whether autograd has to follow the scan.

    Returns:
        The engine. On a GPU blocks shorter than ``cuda.SHORTEST`` tokens run in plain torch all the same.
    """
    if switched_off():
        return Engine("blocked", f"{SWITCH}=off")
    if device.type != "cuda":
        return _choose_off_gpu(device.type, dtype)
    return _choose_on_gpu(arch, device, dtype, gradient)


@cache
def _choose_off_gpu(device_type: str, dtype: torch.dtype) -> Engine:
    if device_type != "cpu":
        return Engine("blocked", "plain torch, chunk by chunk")
    if dtype != torch.float32:
        return Engine("blocked", f"the compiled scan is for float32 states, not {_name(dtype)}")
    if problem := numba_problem():
        return Engine("blocked", problem, "pip install --force-reinstall numba")
    return Engine("compiled", "fused loops, with gradients")


@cache
def numba_problem() -> str:
    """Return why loops cannot be compiled here, empty if they can; numba is there for some Pythons and numpys only."""
    try:
        importlib.import_module("numba")
    except Exception as problem:  # a numba of another build raises whatever its libraries do
        return f"numba cannot be imported ({problem})"
    return ""


@cache
def _choose_on_gpu(arch: Arch, device: torch.device, dtype: torch.dtype, gradient: bool) -> Engine:
    if dtype != torch.float32:
        return Engine("blocked", f"the official kernel is for float32 states, not {_name(dtype)}")
    if gradient:
        return Engine("blocked", "gradients: the official kernels add theirs up in no fixed order")
    if torch.version.cuda is None:
        return Engine("blocked", "this torch was built for another maker's GPU")
    if old := too_old(KERNELS[arch], device):
        return Engine("blocked", old)
    kernel = find(KERNELS[arch])
    if kernel.function is None:
        return Engine("blocked", f"{kernel.module} cannot be imported ({kernel.why_not})", kernel.install)
    return Engine("official", f"{kernel.module} {kernel.version}".rstrip())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def runs_compiled(x: Tensor) -> bool:
    """Return whether compiled CPU code can and may work on a tensor."""
    fits = x.device.type == "cpu" and x.dtype == torch.float32
    return fits and not switched_off() and not in_forward_mode() and not numba_problem()


def in_forward_mode() -> bool:
    """Return whether forward-mode derivatives are followed: our loops, and other threads, would drop them silently."""
    return getattr(forward_ad, "_current_level", -1) >= 0  # what dual_level() itself asks


def engine_of(arch: Arch, x: Tensor, B: Tensor, tensors: Iterable[Tensor]) -> Engine:
    """Say which engine runs one call.

    Args:
        arch: ``mamba`` or ``mamba2``.
        x: inputs of the scan.
        B: input directions.
        tensors: everything that goes into the scan.

    Returns:
        The engine for this device, dtype and size.
    """
    if in_forward_mode():
        return Engine("blocked", "forward-mode derivatives are for plain torch")
    chosen = choose(arch, x.device, x.dtype, gradient=x.device.type == "cuda" and needs_gradient(tensors))
    if chosen.name == "official" and not cuda.fits(arch, x, B):
        return Engine("blocked", "the official kernels take neither a few tokens nor 2^31 elements")
    return chosen
