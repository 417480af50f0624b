"""An append-only journal: what a run has finished, one fsynced line each, so that a kill loses at most one step.

A line is ``sha256-of-the-json SPACE json NEWLINE``. A line counts once its newline is on the disk; a last line without
it, or with the wrong sum, was being written when the process died and is cut off. A broken line before the last one
is damage and is refused. The reader decodes JSON and nothing else, so a journal cannot run code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from mambascope.spectra.errors import RefusedInputError

from .atomic import StorageError, json_bytes, sync_folder


class JournalError(RefusedInputError):
    """A journal that was damaged or written by something else."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the journal."""

    kind: str
    """What sort of thing was finished, such as ``cell``."""
    key: str
    """Which one."""
    value: Any
    """Its result: JSON."""


class Journal:
    """The journal of one run; one process writes it, which is for the run folder's lock to see to."""

    def __init__(self, path: Path, descriptor: int, lines: list[bytes], size: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size = size
        self._lines = lines
        self._last = {_id(line): index for index, line in enumerate(lines)}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open a journal, making it if it is new, and verify each line.

        Args:
            path: the file.

        Returns:
            The journal, ready to append; use it in a ``with`` or call ``close``.

        Raises:
            JournalError: a line before the last is broken; the message names its number.
            StorageError: the file could not be opened, or its torn end not be cut off.
        """
        path = Path(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as problem:
            raise StorageError(path, problem) from problem
        try:
            lines, size = _read(path)
            if os.fstat(descriptor).st_size != size:
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
            sync_folder(path.parent)
        except BaseException as problem:
            os.close(descriptor)
            if isinstance(problem, OSError):
                raise StorageError(path, problem) from problem
            raise
        return cls(path, descriptor, lines, size)

    def append(self, kind: str, key: str, value: Any) -> None:
        """Record a value for good: when this returns, it is on the disk.

        Args:
            kind: what sort of thing was finished.
            key: which one; a later value for the same kind and key takes the place of the earlier one.
            value: JSON; floats come back bit by bit.

        Raises:
            StorageError: no space; the journal is as it was before, and appending may be tried again.
        """
        line = json_bytes({"kind": kind, "key": key, "value": value})
        whole = hashlib.sha256(line).hexdigest().encode() + b" " + line + b"\n"
        try:
            os.ftruncate(self._descriptor, self._size)  # what an append that failed could not take back
            _write(self._descriptor, whole, self._size)
            os.fsync(self._descriptor)
        except BaseException as problem:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            if isinstance(problem, OSError):
                raise StorageError(self.path, problem) from problem
            raise
        self._size += len(whole)
        self._last[kind, key] = len(self._lines)
        self._lines.append(line)

    def get(self, kind: str, key: str) -> Any:
        """Return the last value recorded for this kind and key, decoded afresh, or None if there is none."""
        index = self._last.get((kind, key))
        return None if index is None else _decode(self._lines[index]).value

    def __contains__(self, kind_and_key: tuple[str, str]) -> bool:
        return kind_and_key in self._last

    def __iter__(self) -> Iterator[Entry]:
        return map(_decode, self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __repr__(self) -> str:
        return f"Journal({self.path.name}, {len(self)} entries)"

    def close(self) -> None:
        """Close the file; what was recorded can still be read from memory."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _write(descriptor: int, data: bytes, position: int) -> None:
    rest = memoryview(data)
    while rest:  # a file-size limit shows as a short write first
        written = os.pwrite(descriptor, rest, position)
        rest, position = rest[written:], position + written


def _decode(line: bytes) -> Entry:
    return msgspec.json.decode(line, type=Entry)


def _id(line: bytes) -> tuple[str, str]:
    entry = _decode(line)
    return entry.kind, entry.key


def _read(path: Path) -> tuple[list[bytes], int]:
    """Return the JSON of each whole line, and where the last whole line ends."""
    lines: list[bytes] = []
    size, broken = 0, 0
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            if broken:
                raise JournalError(
                    f"{path.name}, line {broken}: its checksum does not fit and whole lines follow, so the file was "
                    "damaged or edited; restore it, start over with --fresh, or choose another folder with -o"
                )
            digest, _, line = raw.removesuffix(b"\n").partition(b" ")
            if not raw.endswith(b"\n") or hashlib.sha256(line).hexdigest().encode() != digest:
                broken = number
                continue
            try:
                _decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
                raise JournalError(
                    f"{path.name}, line {number}: is not an entry of this version ({problem}); "
                    "start over with --fresh, or choose another folder with -o"
                ) from None
            size += len(raw)
            lines.append(line)
    return lines, size
