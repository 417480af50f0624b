"""``mambascope doctor``: what this machine has, and which engine will run a model on it, with the reason."""

from __future__ import annotations

import argparse
import re
from typing import Any

from ..arguments import add_json
from ..console import print_json, print_table

_PACKAGES = ("numpy", "numba", "safetensors", "triton", "mamba-ssm", "causal-conv1d", "transformers", "tokenizers")
_NODE = "/dev/nvidiactl"
"""What NVIDIA's driver makes where a GPU may be used; its folder in /proc is there in every container, too."""


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "doctor",
        help="what is installed, which engine runs each kind of model on each device, and why",
        description="Says which engine runs Mamba-1 and Mamba-2 on each device, for float32 and float64 states, with "
        "and without gradients, why, and what to install for a faster one. MAMBASCOPE_KERNELS=off keeps "
        "every device to plain torch.",
        epilog="examples: mambascope doctor   |   mambascope doctor --json > doctor.json",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print what was found."""
    found = examine()
    if args.json:
        print_json(found)
        return
    print(f"mambascope {found['mambascope']}, Python {found['python']}, torch {found['torch']}, {found['platform']}")
    print(", ".join(f"{name} {version or 'not installed'}" for name, version in found["packages"].items()))
    for device in found["devices"]:
        print(f"{device['device']}: {device['name']}, {device['memory_gib']:.1f} GiB")
    print()
    print_table(_short(found["engines"]))
    print()
    for kernel in found["kernels"]:
        state = f"found, version {kernel['version'] or 'unknown'}" if kernel["found"] else kernel["why_not"]
        print(f"{kernel['module']} ({kernel['for']}): {state}")
    for line in found["advice"]:
        print(line)


def examine() -> dict[str, Any]:
    """Look at this machine.

    Returns:
        Versions, devices, engines and kernels as plain JSON values.
    """
    import platform
    import sys
    from importlib import metadata

    import torch

    from mambascope.spectra.scan import choose
    from mambascope.spectra.scan.kernels import NAMES, find, switched_off

    devices = _devices()
    engines = []
    for device in (row["device"] for row in devices):
        for arch in ("mamba", "mamba2"):
            for dtype, gradient in ((torch.float32, False), (torch.float32, True), (torch.float64, False)):
                engine = choose(arch, torch.device(device), dtype, gradient=gradient)
                engines.append({
                    "device": device,
                    "arch": arch,
                    "states": str(dtype).removeprefix("torch."),
                    "gradient": gradient,
                    "engine": engine.name,
                    "why": engine.why,
                    "install": _here(engine.install) or None,
                })
    uses = {"chunk_scan": "Mamba-2", "selective_scan": "Mamba-1", "causal_conv": "convolution of both"}
    kernels = []
    for kernel in map(find, NAMES):
        kernels.append({
            "module": kernel.module,
            "for": uses[kernel.name],
            "found": kernel.function is not None,
            "version": kernel.version or None,
            "why_not": kernel.why_not or None,
            "install": None if kernel.function else _here(kernel.install),
        })
    return {
        "mambascope": metadata.version("mambascope"),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": devices,
        "engines": engines,
        "kernels": kernels,
        "switch": "off" if switched_off() else "auto",
        "advice": _advice(devices, kernels, engines),
    }


def _devices() -> list[dict[str, Any]]:
    import os

    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rows = [{"device": "cpu", "name": f"{os.cpu_count()} cores", "memory_gib": memory / 2**30, "capability": None}]
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        rows.append({
            "device": f"cuda:{index}",
            "name": about.name,
            "memory_gib": about.total_memory / 2**30,
            "capability": f"{about.major}.{about.minor}",
        })
    return rows


def _advice(devices: list[dict[str, Any]], kernels: list[dict[str, Any]], engines: list[dict[str, Any]]) -> list[str]:
    """Return what runs and what would make this machine faster, in words."""
    from mambascope.spectra.scan.cuda import SHORTEST
    from mambascope.spectra.scan.kernels import SWITCH, switched_off

    lines = _unseen_gpu() if len(devices) == 1 else []
    none = "torch sees no GPU" if lines else "no GPU"
    if switched_off():
        return [*lines, f"{SWITCH}=off: plain torch runs everything, on every device"]
    for install in {row["install"]: 0 for row in engines if row["device"] == "cpu" and row["install"]}:
        lines += ["for the compiled CPU loops:", install]
    if len(devices) == 1:
        compiled = any(row["engine"] == "compiled" for row in engines)  # not where numba cannot be imported
        runs = "compiled CPU loops and plain torch run" if compiled else "plain torch runs"
        return [*lines, f"{none}: {runs} everything; the kernels above would not be used"]
    on_gpu = [row for row in engines if row["device"] != "cpu"]
    if any(row["engine"] == "official" for row in on_gpu):
        lines.append(f"on a GPU, blocks under {SHORTEST} tokens (single steps of decoding) are scanned in plain torch")
    usable = any(row["engine"] == "official" or row["install"] for row in on_gpu)  # else the GPU takes no such kernel
    wanted = {row["install"] for row in on_gpu} | (
        {k["install"] for k in kernels if "conv" in k["module"]} if usable else set()
    )
    missing = [kernel for kernel in kernels if not kernel["found"] and kernel["install"] in wanted]
    if missing:
        lines.append("for the official kernels (extra `cuda`; needs nvcc and this torch's CUDA version):")
    return lines + list(dict.fromkeys(kernel["install"] for kernel in missing))


def _unseen_gpu() -> list[str]:
    """Return what to do where torch sees no GPU and NVIDIA's driver seems to be here."""
    import shutil
    from pathlib import Path

    import torch

    sign = shutil.which("nvidia-smi") or (_NODE if Path(_NODE).exists() else None)
    if sign is None:
        return []
    but = f"NVIDIA's driver seems to be here ({sign}), but torch {torch.__version__}"
    if torch.version.cuda:
        return [f"{but} sees no GPU: check nvidia-smi, CUDA_VISIBLE_DEVICES and the driver's version"]
    return [
        f"{but} was built without CUDA; to install a build with it (pytorch.org/get-started tells which):",
        _here("pip uninstall --yes torch && pip install torch"),
    ]


def _here(install: str) -> str:
    """Return an install line for the environment that this program runs in."""
    import shlex
    import sys

    return re.sub(r"\bpip (?=(un)?install\b)", lambda _: f"{shlex.quote(sys.executable)} -m pip ", install)


def _short(engines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the engines, equal answers for one device and kind of model on one line."""
    states: dict[tuple[str, ...], list[str]] = {}
    for row in engines:
        answer = (row["device"], row["arch"], row["engine"], row["why"])
        states.setdefault(answer, []).append(row["states"] + (" with gradients" if row["gradient"] else ""))
    columns = ("device", "arch", "engine", "states", "why")
    return [
        dict(zip(columns, (device, arch, engine, ", ".join(labels), why), strict=True))
        for (device, arch, engine, why), labels in states.items()
    ]


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
