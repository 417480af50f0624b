"""States that a stopped run goes on from: safetensors files that carry their own hash, so that damage is refused.

The journal has a hash for every line, result files have theirs in the manifest when a run has finished; a state is
replaced at every step and has to vouch for itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from mambascope.spectra.errors import RefusedInputError

from .atomic import write_bytes

States = dict[str, npt.NDArray[Any]]
ABOUT = "about"
"""The only key of the file's metadata, as the library writes several in no fixed order. Earlier states lack it."""


class StateError(RefusedInputError):
    """A state that a run cannot go on from."""

    def __init__(self, path: Path, problem: object) -> None:
        super().__init__(f"{path}: not the state of this run ({problem}); start over with --fresh")


def write_state(path: Path, arrays: Mapping[str, npt.NDArray[Any]], about: Mapping[str, str] | None = None) -> None:
    """Replace a state wholly or not at all.

    Args:
        path: the file.
        arrays: all that the next step needs.
        about: words to keep beside them.
    """
    found = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    told = dict(about or {})
    sealed = json.dumps(told | {"sha256": _digest(found, told)}, sort_keys=True)
    write_bytes(path, safetensors.numpy.save(found, metadata={ABOUT: sealed}))


def read_state(path: Path) -> tuple[States, dict[str, str]]:
    """Read what ``write_state`` wrote.

    Args:
        path: the file.

    Returns:
        The arrays, and the words beside them.

    Raises:
        StateError: the file is no state, or was damaged.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
            metadata = dict(file.metadata() or {})
        told = json.loads(metadata[ABOUT]) if ABOUT in metadata else metadata
        seal = told.pop("sha256", None)
    except Exception as problem:  # the library answers hostile bytes with several kinds of error
        raise StateError(path, problem) from problem
    sealed = ABOUT in metadata or any('"sha256"' in value for value in metadata.values())  # a damaged key seals nothing
    if sealed and seal != _digest(arrays, told):
        raise StateError(path, "its hash does not fit: it was damaged or edited")
    return arrays, told


def _digest(arrays: Mapping[str, npt.NDArray[Any]], about: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(about), sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
