"""What every reader of foreign weight files shares: described tensors, wording of refusals, careful JSON."""

from __future__ import annotations

import json
import math
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Self

import torch

from .errors import CheckpointError

_AGAIN = "download or copy the file again"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What is known of a tensor before it is read."""

    dtype: torch.dtype
    """Type of one element as stored."""
    shape: tuple[int, ...]
    """Sizes of the dimensions."""

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's elements."""
        return math.prod(self.shape) * self.dtype.itemsize


class TensorFile:
    """Tensors that are known by name, type and shape, and are read one at a time; not for several threads at once."""

    def __init__(
        self,
        path: Path,
        entries: Mapping[str, TensorEntry],
        read: Callable[[str], torch.Tensor],
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self.path = path
        self.entries = MappingProxyType(dict(entries))
        self._read = read
        self._close = weakref.finalize(self, close)

    def read(self, name: str) -> torch.Tensor:
        """Read one tensor.

        Args:
            name: a key of ``entries``.

        Returns:
            The tensor on the CPU, in its stored type.

        Raises:
            CheckpointError: if the file holds no such tensor, was closed, or was cut since it was opened.
        """
        if name not in self.entries:
            raise CheckpointError(
                told(self.path, f"tensor {shown(name)}", f"one of {len(self.entries)} names", "no such tensor")
            )
        if not self._close.alive:
            raise CheckpointError(
                told(self.path, f"tensor {shown(name)}", "an open file", "a closed one", "open it again")
            )
        return self._read(name)

    def close(self) -> None:
        """Give the file back; harmless when repeated."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def shown(value: object) -> str:
    """Return a foreign value for an error message: escaped, and cut where it is long."""
    text = ascii(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def told(path: Path, what: str, expected: object, got: object, todo: str = _AGAIN) -> str:
    """Return the message about a checkpoint file that contradicts itself: where, expected, got, what to do."""
    return f"{path}: {what}: expected {expected}, got {got}; {todo}"


def parse_json_object(raw: bytes, path: Path, what: str) -> dict[str, Any]:
    """Parse a JSON object from a file that nobody vouches for.

    Args:
        raw: the bytes.
        path: where they come from, for the message.
        what: what they are, for the message.

    Returns:
        The object.

    Raises:
        CheckpointError: if the bytes are no JSON object, or a key occurs twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise CheckpointError(told(path, what, "names that differ", f"{shown(twice)} twice"))
        return result

    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(told(path, what, "a JSON object", f"something else ({shown(str(error))})")) from None
    if not isinstance(value, dict):
        raise CheckpointError(told(path, what, "a JSON object", type(value).__name__))
    return value


def open_file(path: Path) -> tuple[IO[bytes], int]:
    """Open a checkpoint file for reading.

    Args:
        path: the file.

    Returns:
        The open file and its size in bytes.

    Raises:
        CheckpointError: if it cannot be opened.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise CheckpointError(
            told(path, "file", "a readable file", error.strerror, "check the path and its permissions")
        ) from None
    return file, os.fstat(file.fileno()).st_size
