"""The official GPU kernels as they are found here: each looked for by its own module, never by its package.

A package can be there without a kernel: mamba_ssm installs without its compiled Mamba-1 scan, and its newest source
does so by default. ``mamba_ssm/__init__`` on the other hand imports every model, transformers and the compiled scan,
which the Triton kernels need none of. So they are imported alone, as modules of our own: a second mamba_ssm in the
process neither gets our settings nor imposes its own on us.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
import types
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch

from ..errors import RefusedInputError

KernelName = Literal["chunk_scan", "selective_scan", "causal_conv"]
NAMES: tuple[KernelName, ...] = ("chunk_scan", "selective_scan", "causal_conv")
SWITCH = "MAMBASCOPE_KERNELS"
"""Environment variable: ``auto`` (default) or ``off``, which keeps every device to plain torch."""

_MODULES = {
    "chunk_scan": "mamba_ssm.ops.triton.ssd_combined",
    "selective_scan": "selective_scan_cuda",
    "causal_conv": "causal_conv1d_cuda",
}
_OLDEST_GPU: dict[KernelName, tuple[int, int]] = {"chunk_scan": (8, 0), "selective_scan": (7, 5), "causal_conv": (7, 5)}
"""Compute capability that a kernel needs: TensorFloat-32 for Triton's products; what the other two are built for."""
_PACKAGES = {"chunk_scan": "mamba-ssm", "selective_scan": "mamba-ssm", "causal_conv": "causal-conv1d"}
_BUILD = "--no-build-isolation"
_TOOLS = "pip install setuptools wheel packaging ninja && "  # both build from source, against the torch that is here
_INSTALL = {
    "mamba-ssm": f"{_TOOLS}MAMBA_KEEP_CUDA_BUILD=TRUE pip install {_BUILD} mamba-ssm",
    "causal-conv1d": f"{_TOOLS}pip install {_BUILD} causal-conv1d",
}


@dataclass(frozen=True, slots=True)
class Kernel:
    """One official kernel, found or not."""

    name: KernelName
    """``chunk_scan`` (Mamba-2), ``selective_scan`` (Mamba-1) or ``causal_conv``."""
    module: str
    """Module that holds it."""
    function: Callable[..., Any] | None
    """The kernel, None where it cannot be imported."""
    version: str
    """Version of its package, empty if that is not known."""
    why_not: str
    """Why it cannot be imported, empty if it can."""
    install: str
    """Command that installs it."""


def switched_off() -> bool:
    """Return whether the user keeps official kernels and compiled loops out.

    Returns:
        True if ``MAMBASCOPE_KERNELS`` is ``off``.

    Raises:
        RefusedInputError: it has a value that means nothing.
    """
    value = os.environ.get(SWITCH, "auto")
    if value not in {"auto", "off"}:
        raise RefusedInputError(f"{SWITCH}={value!r}: expected auto (default) or off")
    return value == "off"


def too_old(name: KernelName, device: torch.device) -> str:
    """Return why a GPU is too old for a kernel, which would fail on it; empty if it is not."""
    capability, oldest = torch.cuda.get_device_capability(device), _OLDEST_GPU[name]
    return f"compute capability {capability} is below {oldest}" if capability < oldest else ""


@cache
def find(name: KernelName) -> Kernel:
    """Look for one kernel; the answer holds for the life of the process."""
    package, module = _PACKAGES[name], _MODULES[name]
    try:
        function, why_not = _import(name), ""
    # a module built for another torch or CUDA fails with whatever its loader raises; the reason is passed on
    except Exception as error:
        function, why_not = None, f"{type(error).__name__}: {' '.join(str(error).split())}"
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    install = _INSTALL[package]
    if version and function is None:  # there without this kernel, or built for another torch: pip would do nothing
        install = install.replace(_BUILD, f"{_BUILD} --no-deps --no-cache-dir --force-reinstall")
    return Kernel(name, module, function, version, why_not, install)


def _import(name: KernelName) -> Callable[..., Any]:
    if name == "chunk_scan":
        with _private_package("mamba_ssm"), _one_configuration():
            found = importlib.import_module(_MODULES[name]).mamba_chunk_scan_combined
    elif name == "selective_scan":
        found = importlib.import_module(_MODULES[name]).fwd
    else:
        importlib.import_module(_MODULES[name])
        found = importlib.import_module("causal_conv1d").causal_conv1d_fn
    assert callable(found)
    return found  # type: ignore[no-any-return]


@contextmanager
def _private_package(name: str) -> Generator[None, None, None]:
    """Let submodules be imported without the package's ``__init__``, as modules that nobody else sees."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def take_out() -> dict[str, types.ModuleType]:
        inside = [key for key in sys.modules if key.partition(".")[0] == name]
        return {key: sys.modules.pop(key) for key in inside}

    others = take_out()
    package = types.ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = package
    try:
        yield
    finally:
        take_out()
        sys.modules.update(others)


@contextmanager
def _one_configuration() -> Generator[None, None, None]:
    """Import with one tile size a kernel: which of several wins a timing would change the last digits of results."""
    before = os.environ.get("MAMBA_DETERMINISTIC")
    os.environ.setdefault("MAMBA_DETERMINISTIC", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if before is None:
            del os.environ["MAMBA_DETERMINISTIC"]
