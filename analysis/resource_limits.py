"""How much more memory this process may take: what the machine has free, what its cgroup allows, what a GPU has free.

Source: proc(5), MemAvailable; the kernel's documentation of cgroup v2 (memory.max, memory.current, memory.stat) and v1
(memory.limit_in_bytes, memory.usage_in_bytes). Pages of files count as free, as the kernel drops them when it must.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

_UNLIMITED = 2**60  # cgroup v1 writes a number near 2^63 for no limit


@dataclass(frozen=True, slots=True)
class Limit:
    """Memory that may be taken beyond what the process holds."""

    room_bytes: int
    """How much more."""
    origin: str
    """Who sets it, in words."""


def in_bytes(size: float) -> str:
    """Return a size with two or three digits.

    >>> in_bytes(1_500_000_000), in_bytes(81_000_000), in_bytes(2000), in_bytes(0)
    ('1.5 GB', '81 MB', '1 MB', '0 MB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 995e6 else f"{math.ceil(size / 1e6)} MB"


def held_bytes(name: str = "RssAnon") -> int:
    """Return what the process holds for itself, without pages of files; 0 where the system does not tell."""
    with suppress(OSError, IndexError, ValueError):
        return 1024 * int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])
    return 0


def host_limit(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Limit | None:
    """Return the tightest limit that the host sets.

    Args:
        proc: where the kernel tells about memory and this process.
        cgroups: where control groups are mounted.

    Returns:
        The limit; None where the system does not tell (other than Linux).
    """
    found = []
    with suppress(OSError, IndexError, ValueError):
        free = 1024 * int((proc / "meminfo").read_text().split("MemAvailable:")[1].split()[0])
        found.append(Limit(free, "free on this machine"))
    found += [Limit(room, "left to this process by its control group") for room in _cgroup_rooms(proc, cgroups)]
    return min(found, key=lambda limit: limit.room_bytes, default=None)


def _cgroup_rooms(proc: Path, cgroups: Path) -> list[int]:
    rooms = []
    with suppress(OSError):
        for line in (proc / "self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if not controllers:
                names, root = ("memory.max", "memory.current", "file"), cgroups
            elif "memory" in controllers.split(","):
                names, root = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"), cgroups / "memory"
            else:
                continue
            here = root / place.lstrip("/")
            for folder in [here, *here.parents]:
                if (room := _room(folder, *names)) is not None:
                    rooms.append(room)
                if folder == root:
                    break
    return rooms


def _room(folder: Path, limit: str, usage: str, files: str) -> int | None:
    with suppress(OSError, ValueError):
        most = int((folder / limit).read_text())  # the word "max" is no number: no limit
        if most < _UNLIMITED:
            counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return max(0, most - int((folder / usage).read_text()) + int(counts.get(files, 0)))
    return None


def limit_of(device: torch.device, most_bytes: int | None = None) -> Limit | None:
    """Return what limits the memory of a run.

    Args:
        device: where it runs.
        most_bytes: all that the process may hold on that device, where a user says so.

    Returns:
        The limit; None where there is none that one could know.
    """
    cuda = device.type == "cuda"
    if most_bytes is not None:
        held = torch.cuda.memory_reserved(device) if cuda else held_bytes()
        origin = f"left of {in_bytes(most_bytes)} (--max-memory) beside the {in_bytes(held)} that are in use"
        return Limit(max(0, most_bytes - held), origin)
    if cuda:
        return Limit(torch.cuda.mem_get_info(device)[0], "free on the GPU")
    return host_limit()
