"""Files that are either the old one or the new one, whatever happens in between: a kill, a full disk, a power cut.

The bytes go to a temporary file in the same folder, fsync, ``os.replace``, fsync of the folder.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import signal
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mambascope.spectra.errors import MambascopeError, RefusedInputError
from mambascope.spectra.temporary import temporary_beside

NO_SPACE = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})


class StorageError(MambascopeError):
    """A file could not be written: no space, a file-size limit, a quota, no permission.

    Attributes:
        path: the file that was to be written; what stood there before is still there.
        errno: the system's error number, when it gave one.
    """

    exit_code = 5

    def __init__(self, path: str | os.PathLike[str], problem: BaseException) -> None:
        self.path = Path(path)
        self.errno = _system_errno(problem)
        reason = os.strerror(self.errno) if self.errno else str(problem)
        cure = "there is space" if self.errno in NO_SPACE else "the folder can be written"
        super().__init__(
            f"{path}: could not be written ({reason}); earlier results are untouched, "
            f"and the run resumes with the same command once {cure}"
        )


class NotFiniteError(MambascopeError):
    """A result holds NaN or infinity, which JSON cannot carry and no table should."""

    exit_code = 4


def ignore_file_size_signal() -> None:
    """Make a file-size limit give EFBIG instead of death by SIGXFSZ; the command line calls this once, at its start."""
    if hasattr(signal, "SIGXFSZ"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """Encode a value as JSON in one way only: sorted keys, floats by ``repr``, UTF-8.

    Args:
        value: what ``json`` can encode.
        indent: spaces a level; None gives one line without blanks.

    Returns:
        The bytes, without a newline at the end.

    Raises:
        NotFiniteError: a number is NaN or infinite; the message says which.
        RefusedInputError: a text is not valid Unicode (a file name in another encoding).
    """
    try:
        separators = (",", ":") if indent is None else None
        text = json.dumps(
            value, sort_keys=True, indent=indent, separators=separators, allow_nan=False, ensure_ascii=False
        )
        return text.encode()
    except UnicodeEncodeError as problem:
        raise RefusedInputError(
            f"the text {problem.object[:80]!a} is not valid Unicode and cannot be recorded; use a name in UTF-8"
        ) from None
    except ValueError:
        where = _not_finite(value) or " has a key that is NaN or infinite"
        raise NotFiniteError(f"the result{where}: only finite numbers are recorded") from None


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file by these bytes, wholly or not at all.

    Args:
        path: the file; a symbolic link is followed.
        data: its new content.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace a file by this text in UTF-8, wholly or not at all; newlines are kept as they are."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Replace a file by this JSON document; equal objects give equal bytes, and NaN is refused."""
    write_bytes(path, json_bytes(obj, indent=1) + b"\n")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[Path, None, None]:
    """Let any writer (``savefig``, ``save_file``) make a file that then replaces ``path`` in one step.

    Args:
        path: the file to replace; a symbolic link is followed.

    Yields:
        An empty file beside it, with the same suffix, for the writer to fill.

    Raises:
        StorageError: it could not be written; the old file is intact and the temporary one is gone.
        RefusedInputError: the path is a folder or a device, which a file must not replace.
    """
    target = Path(os.path.realpath(path))
    with suppress(OSError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise RefusedInputError(f"{path}: is not an ordinary file; give the name of a file to write")
    temporary = temporary_beside(target)
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
    except BaseException as problem:
        with suppress(OSError):
            temporary.unlink()
        if _about_storage(problem, temporary):
            raise StorageError(path, problem) from problem
        raise
    sync_folder(target.parent)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make the names in a folder durable.

    Args:
        folder: the folder in which a file was made, replaced or removed.

    Raises:
        StorageError: the system reported a failure.
    """
    try:
        _sync(folder)
    except OSError as problem:
        if problem.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise StorageError(folder, problem) from problem


def _sync(path: str | os.PathLike[str]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _about_storage(problem: BaseException, temporary: Path) -> bool:
    """Tell a failed write from an error of the writer's own, such as an input file that is missing."""
    if isinstance(problem, MambascopeError) or not isinstance(problem, Exception):
        return False
    if _system_errno(problem) in NO_SPACE:
        return True
    return isinstance(problem, OSError) and problem.filename in {None, str(temporary)}


def _system_errno(problem: BaseException | None) -> int | None:
    """Find the system's error number, also where a library wrapped it (Rust's ``os error 28``, torch's chained one)."""
    first = problem.errno if isinstance(problem, OSError) else None
    while problem is not None:
        told = re.search(r"\(os error (\d+)\)", str(problem))
        number = problem.errno if isinstance(problem, OSError) else int(told[1]) if told else None
        if number in NO_SPACE:
            return number
        problem = problem.__cause__ or problem.__context__
    return first


def _not_finite(value: Any) -> str | None:
    """Return the place and value of the first number that is not finite, as ``.rows[3].loss is nan``."""
    if isinstance(value, float) and not math.isfinite(value):
        return f" is {float(value)!r}"
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = [(f".{key}", item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(f"[{index}]", item) for index, item in enumerate(value)]
    for step, item in items:
        below = _not_finite(item)
        if below is not None:
            return step + below
    return None
