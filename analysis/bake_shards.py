"""Copy a checkpoint's safetensors with some of its tensors changed, and every other byte as it is.

A file keeps its name, its order and its header to the byte, unless a tensor gets a wider type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import torch

from mambascope.spectra.errors import CheckpointError
from mambascope.spectra.tensor_files import DTYPE_NAMES
from mambascope.spectra.tensor_source import TensorFile

from .atomic import json_bytes

COPY_BYTES = 2**24
"""Bytes copied at a time."""


def copy_shard(
    given: IO[bytes],
    out: IO[bytes],
    source: TensorFile,
    dtype_of: Callable[[str], torch.dtype],
    changed: Mapping[str, Callable[[], torch.Tensor]],
) -> int:
    """Copy one safetensors file.

    Args:
        given: the file, opened for reading, which ``source`` has checked.
        out: where to.
        source: its tensors.
        dtype_of: the type that a tensor will have; another than its own only if it changes.
        changed: makes the new value of each tensor that changes, by its name; asked once.

    Returns:
        Bytes of all tensors written.

    Raises:
        CheckpointError: the file was cut since it was checked.
    """
    length = given.read(8)
    raw = given.read(int.from_bytes(length, "little"))
    start, header = 8 + len(raw), json.loads(raw)
    placed = sorted((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    old = {name: tuple(header[name]["data_offsets"]) for name in placed}
    widths = {name: (source.entries[name].dtype.itemsize, dtype_of(name).itemsize) for name in placed}
    if any(before != after for before, after in widths.values()):
        # widest type first, or a widened tensor could begin where its type is not aligned
        placed.sort(key=lambda name: -widths[name][1])
        end = 0
        for name in placed:
            begin, end = end, end + (old[name][1] - old[name][0]) // widths[name][0] * widths[name][1]
            header[name] |= {"dtype": DTYPE_NAMES[dtype_of(name)], "data_offsets": [begin, end]}
        raw = json.dumps(header, separators=(",", ":")).encode()
        raw += b" " * (-len(raw) % 8)
        length = len(raw).to_bytes(8, "little")
    out.write(length + raw)
    for name in placed:
        if name in changed:
            out.write(changed[name]().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            given.seek(start + old[name][0])
            _copy(given, out, old[name][1] - old[name][0])
    return max((header[name]["data_offsets"][1] for name in placed), default=0)


def _copy(given: IO[bytes], out: IO[bytes], size: int) -> None:
    while size:
        block = given.read(min(size, COPY_BYTES))
        if not block:
            raise CheckpointError(f"{given.name}: the file was cut while it was copied; download it again")
        out.write(block)
        size -= len(block)


def index_bytes(path: Path, total_bytes: int) -> bytes:
    """Return a shard index as it is, or with another sum of bytes where a type became wider."""
    raw = path.read_bytes()
    values = json.loads(raw)
    about = values.get("metadata")
    if not isinstance(about, dict) or about.get("total_size") in {None, total_bytes}:
        return raw
    values["metadata"] = about | {"total_size": total_bytes}
    return json_bytes(values, indent=2) + b"\n"
