"""Single tensors out of safetensors files that nobody vouches for (``.bin``: ``torch_bin``).

A file's whole description (names, dtypes, shapes, byte ranges) is checked against its true size before anything
large is allocated; afterwards one tensor is read at a time and the others are never touched.

Source: the safetensors format: 8-byte little-endian header length, JSON header, tensor bytes without gaps.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any

import torch

from .errors import CheckpointError
from .tensor_source import TensorEntry, TensorFile, open_file, parse_json_object, shown, told
from .torch_bin import open_bin

__all__ = ["TensorEntry", "TensorFile", "open_bin", "open_safetensors"]

MAX_HEADER_BYTES = 2 * 2**20
"""Longest header read; mamba-2.8b has 70 KB. The format allows 100 MB, but parsed JSON takes 20 times its bytes."""

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
"""What the format calls a torch type."""


def open_safetensors(path: Path) -> TensorFile:
    """Check a safetensors file and open it for reading tensor by tensor.

    Args:
        path: the file.

    Returns:
        The open file.

    Raises:
        CheckpointError: if anything in the header contradicts the format or the file's size.
    """
    file, size_bytes = open_file(path)
    try:
        entries, starts = _checked_header(file, size_bytes, path)
    except BaseException:
        file.close()
        raise

    def read(name: str) -> torch.Tensor:
        entry = entries[name]
        tensor = torch.empty(entry.shape, dtype=entry.dtype)
        if entry.nbytes:
            file.seek(starts[name])
            got_bytes = file.readinto(tensor.reshape(-1).view(torch.uint8).numpy().data)  # type: ignore[attr-defined]
            if got_bytes != entry.nbytes:
                raise CheckpointError(
                    told(path, f"tensor {shown(name)}", f"{entry.nbytes} bytes", f"{got_bytes}: the file was cut")
                )
        return tensor

    return TensorFile(path, entries, read, file.close)


def _checked_header(file: IO[bytes], size_bytes: int, path: Path) -> tuple[dict[str, TensorEntry], dict[str, int]]:
    """Read and check the header; return the tensors and where in the file each begins."""
    if size_bytes < 8:
        raise CheckpointError(told(path, "file", "at least 8 bytes", f"{size_bytes}"))
    header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise CheckpointError(told(path, "header length", f"at most {MAX_HEADER_BYTES} bytes", f"{header_bytes}"))
    if header_bytes > size_bytes - 8:
        raise CheckpointError(
            told(path, "header length", f"at most the {size_bytes - 8} bytes that follow", f"{header_bytes}")
        )
    raw = file.read(header_bytes)
    if not raw.startswith(b"{"):
        raise CheckpointError(told(path, "header", "a JSON object that begins with {", shown(raw[:8])))
    header = parse_json_object(raw, path, "header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(told(path, "header, __metadata__", "an object of strings", shown(metadata)))

    entries, starts = {}, {}
    ranges = []
    for name, description in header.items():
        entry, begin, end = _checked_entry(name, description, path)
        entries[name], starts[name] = entry, 8 + header_bytes + begin
        ranges.append((begin, end, name))
    position = 0
    for begin, end, name in sorted(ranges):
        if begin != position:
            raise CheckpointError(
                told(path, f"tensor {shown(name)}, data_offsets", f"to begin at {position} (no gap, no overlap)", begin)
            )
        position = end
    if position != size_bytes - 8 - header_bytes:
        raise CheckpointError(told(path, "file", f"{8 + header_bytes + position} bytes by its header", f"{size_bytes}"))
    return entries, starts


def _checked_entry(name: str, description: Any, path: Path) -> tuple[TensorEntry, int, int]:
    """Check one tensor's description by itself; return it with its byte range in the data."""
    where = f"tensor {shown(name)}"
    if not isinstance(description, dict) or set(description) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(told(path, where, "an object of dtype, shape and data_offsets", shown(description)))
    kind, shape, offsets = description["dtype"], description["shape"], description["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise CheckpointError(
            told(path, f"{where}, dtype", f"one of {', '.join(_DTYPES)}", shown(kind), "convert it to float32")
        )
    # a Python int is as long as the digits in the file: torch's limit holds for the strides too
    if not _naturals(shape) or len(shape) > 32 or math.prod(max(n, 1) for n in shape) >= 2**60:
        raise CheckpointError(told(path, f"{where}, shape", "a list of non-negative integers", shown(shape)))
    if not _naturals(offsets) or len(offsets) != 2 or offsets[1] < offsets[0]:
        raise CheckpointError(told(path, f"{where}, data_offsets", "two integers, 0 <= begin <= end", shown(offsets)))
    entry = TensorEntry(_DTYPES[kind], tuple(shape))
    if entry.nbytes != offsets[1] - offsets[0]:
        raise CheckpointError(
            told(path, where, f"{entry.nbytes} bytes for {kind} {list(shape)}", f"{offsets[1] - offsets[0]}")
        )
    return entry, offsets[0], offsets[1]


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and n >= 0 for n in values)
