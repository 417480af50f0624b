"""What of a machine can change a number: its software stands in a result's address, its kind of chip beside the result.

Nodes of one cluster have the same packages, or can have, and a worker that has others is refused. Their CPUs may be of
several kinds, whose sums differ in the last digits: that does not make another result, but each says where it was made.
"""

from __future__ import annotations

import platform
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mambascope.spectra.config import Arch
from mambascope.spectra.errors import MambascopeError

from .manifest import RECORDED, version_of
from .scan_engine import engine

DECIDING = ("mambascope", "torch", "numpy", "numba")
"""Distributions of which another version may give other digits."""
ON_GPU = ("triton", "mamba-ssm", "causal-conv1d")
"""The same on a GPU, beside those."""


class OtherWorkerError(MambascopeError):
    """A worker of a cluster has other software than the plan was made with; another worker may have the same."""


def software(arch: Arch, device: str, dtype: str) -> dict[str, Any]:
    """Return the part of a machine that is in the address of a result.

    Args:
        arch: of the model.
        device: as the plan has it.
        dtype: of the weights.

    Returns:
        ``engine`` and ``versions``; None for what is not installed.
    """
    names = DECIDING + (ON_GPU if torch.device(device).type == "cuda" else ())
    return {"engine": engine(arch, device, dtype).name, "versions": {name: version_of(name) for name in names}}


def check_software(expected: Mapping[str, Any], arch: Arch, device: str, dtype: str) -> None:
    """Refuse to work where the software differs from that of the plan: the number would get a false address.

    Args:
        expected: facts of a cell or a fit.
        arch: of the model.
        device: as the plan has it.
        dtype: of the weights.

    Raises:
        OtherWorkerError: the engine or a version is another one.
    """
    here = software(arch, device, dtype)
    there = {"engine": expected["engine"], **expected["versions"]}
    found = {"engine": here["engine"], **here["versions"]}
    names = [name for name in sorted(there.keys() | found.keys()) if there.get(name) != found.get(name)]
    if names:
        ours, theirs = (", ".join(f"{name} {of.get(name) or 'absent'}" for name in names) for of in (found, there))
        raise OtherWorkerError(
            f"the worker on {socket.gethostname()} has {ours}, the sweep was planned with {theirs}; "
            "start workers with the same packages and the same MAMBASCOPE_KERNELS"
        )


@cache
def machine(device: str) -> dict[str, Any]:
    """Describe this machine, to be kept beside a result.

    Args:
        device: that the result is computed on.

    Returns:
        Kind of CPU and GPU (None where the result is of a CPU), and all versions that a run folder records.
    """
    where = torch.device(device)
    gpu = torch.cuda.get_device_name(where) if where.type == "cuda" and torch.cuda.is_available() else None
    versions = {"python": platform.python_version()} | {name: v for name in RECORDED if (v := version_of(name))}
    return {"cpu": f"{_cpu()} ({torch.backends.cpu.get_cpu_capability()})", "gpu": gpu, "versions": versions}


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
