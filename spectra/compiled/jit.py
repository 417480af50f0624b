"""How loops are compiled here, and kept on disk between processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numba

from .first_call import listen

# a reordered sum is allowed (for the lanes), an assumption that NaN cannot occur is not
_OPTIONS: dict[str, Any] = {"nopython": True, "nogil": True, "error_model": "numpy"}
_FLAGS = {"contract", "nsz"}

listen()


@cache
def _sources() -> str:
    """Return a hash of all files whose code ends up in each other's loops; numba looks at the loop's own file alone."""
    here = Path(__file__).parent
    files = [*here.glob("*.py"), *(here.parent / "scan").glob("*.py")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def _compiled(function: Callable[..., Any], flags: set[str]) -> Any:
    options = _OPTIONS | {"fastmath": flags}
    try:
        made = numba.jit(**options, cache=True)(function)
    except RuntimeError:  # no folder that can be written: compiled anew in each process
        return numba.jit(**options)(function)
    cache = getattr(made, "_cache", None)
    for name in ("load_overload", "save_overload"):
        if hasattr(cache, name):
            setattr(cache, name, _where_it_can(getattr(cache, name), cache))
    kept = getattr(cache, "_cache_file", None)
    if kept is not None and hasattr(kept, "_source_stamp"):
        kept._source_stamp = (kept._source_stamp, _sources())
    return made


def _where_it_can(touch_disk: Callable[..., Any], cache: Any) -> Callable[..., Any]:
    """Return the same function, which answers None where the disk fails: the loop is then compiled in this process."""

    def tried(*arguments: Any) -> Any:
        with suppress(OSError):  # a full disk must not end a run
            try:
                return touch_disk(*arguments)
            except (EOFError, UnpicklingError):  # half a file
                cache.flush()
        return None

    return tried


def jit(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call; sums may be added up in any order."""
    return _compiled(function, _FLAGS | {"reassoc"})


def jit_in_order(function: Callable[..., Any]) -> Any:
    """Compile a function whose terms must be added up as they are written."""
    return _compiled(function, _FLAGS)
