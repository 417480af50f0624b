"""Single tensors out of ``.bin`` files (``torch.save``) that nobody vouches for.

The format is a zip of one pickle and one stored entry per storage. The zip is checked to be just that, and the
pickle is searched for foreign names, before torch maps the file; a tensor is read when it is asked for.

Source: the archives that torch 2.13 writes. CVE-2025-32434 and CVE-2026-24747 are why torch >= 2.10 is asked for
and why ``weights_only=True`` alone is not trusted.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path
from typing import IO

import torch

from .errors import CheckpointError, UnsafeCheckpointError
from .tensor_source import TensorEntry, TensorFile, open_file, shown, told

MAX_PICKLE_BYTES = 2**19
"""Longest pickle inside a ``.bin`` file read; mamba-2.8b has 0.1 MB. One byte can make an object of 64."""
MAX_DIRECTORY_BYTES = 2**20
"""Longest zip directory read; mamba-2.8b has 0.05 MB."""
_PLAIN_NAMES = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch (Float|Half|BFloat16|Double)Storage"
)
_FOREIGN_OPCODES = frozenset({"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"})
_CONVERT = (
    "if you trust its origin, convert it on a machine you can lose: load it with torch.load(..., weights_only=True), "
    "write it with safetensors.torch.save_file(..., 'model.safetensors'), and use that file"
)


def open_bin(path: Path) -> TensorFile:
    """Check a ``torch.save`` file of plain tensors and open it, memory-mapped, for reading tensor by tensor.

    Args:
        path: the file.

    Returns:
        The open file.

    Raises:
        CheckpointError: if the file is broken.
        UnsafeCheckpointError: if reading it could run code or exhaust the machine.
    """
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < (2, 10):
        raise UnsafeCheckpointError(
            f"{path}: reading a .bin file: expected torch >= 2.10 (CVE-2026-24747), got {torch.__version__}; "
            f"upgrade torch, or {_CONVERT}"
        )
    file, size_bytes = open_file(path)
    with file:
        records = _checked_archive(file, size_bytes, path)
    tensors = _load_plain(path)
    entries = _checked_tensors(tensors, records, path)

    def read(name: str) -> torch.Tensor:
        return tensors[name].clone(memory_format=torch.contiguous_format)

    return TensorFile(path, entries, read, tensors.clear)


def _checked_tensors(
    tensors: dict[str, torch.Tensor], records: list[tuple[int, int]], path: Path
) -> dict[str, TensorEntry]:
    """Describe mapped tensors, once their storages are seen to lie in memory as ``records`` lie in the file."""
    entries = {}
    storages = set()
    for name, tensor in tensors.items():
        entry = TensorEntry(tensor.dtype, tuple(tensor.shape))
        storage = tensor.untyped_storage()
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or entry.nbytes > storage.nbytes():
            where = f"tensor {shown(name)}"
            raise CheckpointError(told(path, where, f"{entry.nbytes} bytes of plain numbers", "a view or less"))
        entries[name] = entry
        if storage.nbytes():
            storages.add((storage.data_ptr(), storage.nbytes()))
    if _from_first(sorted(storages)) != _from_first(records):
        got = f"{len(storages)} other places or sizes by the pickle"
        raise CheckpointError(told(path, "zip entries below data/", f"{len(records)} storages", got))
    return entries


def _from_first(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(start - ranges[0][0], size) for start, size in ranges]


def _checked_archive(file: IO[bytes], size_bytes: int, path: Path) -> list[tuple[int, int]]:
    """Refuse everything but a plain zip of stored entries with a harmless pickle; return where its storages lie."""
    start = file.read(4)
    if start != b"PK\x03\x04":
        what = "another kind of file (an old-style pickle?)" if start else "an empty file"
        raise UnsafeCheckpointError(f"{path}: expected a zip archive as torch >= 1.6 writes it, got {what}; {_CONVERT}")
    try:
        _check_end(file, size_bytes, path)
        with zipfile.ZipFile(file) as archive:
            return _checked_records(archive, size_bytes, path)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile answers hostile bytes with a dozen kinds of error
        got = f"{type(error).__name__} ({shown(str(error))})"
        raise CheckpointError(told(path, "zip", "an undamaged archive", got)) from None


def _check_end(file: IO[bytes], size_bytes: int, path: Path) -> None:
    """Refuse bytes after the archive, and a directory whose listing would fill the memory."""
    file.seek(max(size_bytes - 42, 0))
    locator, end = file.read(20), file.read(22)
    if end[:4] != b"PK\x05\x06":
        raise CheckpointError(told(path, "zip", "its end record in the last 22 bytes", "other bytes: the file is cut"))
    directory_bytes = int.from_bytes(end[12:16], "little")
    if locator[:4] == b"PK\x06\x07":  # of an archive above 4 GB
        file.seek(int.from_bytes(locator[8:16], "little") + 40)
        directory_bytes = int.from_bytes(file.read(8), "little")
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise CheckpointError(told(path, "zip directory", f"at most {MAX_DIRECTORY_BYTES} bytes", directory_bytes))


def _checked_records(archive: zipfile.ZipFile, size_bytes: int, path: Path) -> list[tuple[int, int]]:
    records = sorted(archive.infolist(), key=lambda info: info.header_offset)
    starts = _checked_starts(archive, records, size_bytes, path)
    pickles = [info for info in records if re.fullmatch(r"[^/]+/data\.pkl", info.filename)]
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
        raise CheckpointError(told(path, "zip", f"one data.pkl of at most {MAX_PICKLE_BYTES} bytes", len(pickles)))
    root = pickles[0].filename.removesuffix("data.pkl")
    for info in records:
        order = info.filename == f"{root}byteorder"
        if order and (info.file_size != len(b"little") or archive.read(info) != b"little"):
            raise CheckpointError(told(path, "byteorder", "little", "another", _CONVERT))
    _check_pickle(archive.read(pickles[0]), path)
    return [
        (start, info.file_size)
        for start, info in zip(starts, records, strict=True)
        if info.file_size and info.filename.startswith(f"{root}data/")
    ]


def _checked_starts(archive: zipfile.ZipFile, records: list[zipfile.ZipInfo], size_bytes: int, path: Path) -> list[int]:
    """Refuse entries that are packed, doubled or misplaced, and bytes outside of the archive; return their starts."""
    # torch believes an entry's offset and its local header's lengths unseen: one wrong byte there gives shifted
    # numbers, so both are compared with what surrounds them
    names = [info.filename for info in records]
    file = archive.fp
    if file is None or not records:
        raise CheckpointError(told(path, "zip", "entries", "none"))
    if len(set(names)) < len(names) or records[0].header_offset or archive.comment:
        raise CheckpointError(told(path, "zip", "entries of different names and nothing around them", "something else"))
    starts = []
    ends = [info.header_offset for info in records[1:]] + [archive.start_dir]
    for info, end in zip(records, ends, strict=True):
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
            raise UnsafeCheckpointError(
                f"{path}: zip entry {shown(info.filename)}: expected {info.compress_size} bytes as they are, got "
                f"{info.file_size} bytes packed (a zip bomb grows while it is read); {_CONVERT}"
            )
        starts.append(start := _start_of(info, file))
        file.seek(max(start, 0) + info.file_size)
        followed = not info.flag_bits & 8 or file.read(4) == b"PK\x07\x08"
        if start < 0 or start + info.file_size > end or not followed:
            where = f"zip entry {shown(info.filename)}"
            raise CheckpointError(told(path, where, "its bytes between two entries", "a wrong offset or length"))
    return starts


def _start_of(info: zipfile.ZipInfo, file: IO[bytes]) -> int:
    """Return where an entry's bytes begin by its local header; -1 where there is no such header."""
    file.seek(info.header_offset)
    header = file.read(30)
    name = file.read(int.from_bytes(header[26:28], "little"))
    if header[:4] != b"PK\x03\x04" or name != info.orig_filename.encode():
        return -1
    return info.header_offset + 30 + len(name) + int.from_bytes(header[28:30], "little")


def _check_pickle(pickle: bytes, path: Path) -> None:
    """Refuse a pickle that names anything but plain tensors, without running it."""
    for opcode, argument, _ in pickletools.genops(pickle):
        foreign = opcode.name in _FOREIGN_OPCODES
        if foreign or (opcode.name == "GLOBAL" and not _PLAIN_NAMES.fullmatch(str(argument))):
            raise _not_plain(path, shown(opcode.name if foreign else argument))


def _not_plain(path: Path, got: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{path}: expected a pickle of plain float tensors, got something other than plain tensors ({got}), "
        f"which could run code; nothing of it was run; {_CONVERT}"
    )


def _load_plain(path: Path) -> dict[str, torch.Tensor]:
    """Map the file and return its tensors, which read nothing until they are touched."""
    try:
        loaded = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except Exception as error:  # the unpickler answers hostile bytes with a dozen kinds of error
        raise _not_plain(path, f"{type(error).__name__}: {shown(str(error))}") from None
    if not isinstance(loaded, dict):
        raise _not_plain(path, type(loaded).__name__)
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise _not_plain(path, f"{shown(name)}: {type(value).__name__}")
    return {name: value.detach() for name, value in loaded.items()}
