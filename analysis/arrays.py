"""Arrays of a run, kept as safetensors files beside the journal, so that a resumed run reads what it had computed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from .atomic import write_bytes
from .runs import RunFolder

Arrays = dict[str, npt.NDArray[Any]]


def kept_arrays(run: RunFolder, key: str, compute: Callable[[], Mapping[str, npt.NDArray[Any]]]) -> Arrays:
    """Return a cell's arrays, computing them only if no earlier session has.

    Args:
        run: the run that keeps them, in ``data/<key>.safetensors``; the journal holds the file's hash.
        key: names the cell within the run.
        compute: gives the arrays by name.

    Returns:
        The arrays, as the file holds them.
    """
    path = run.output(f"data/{key}.safetensors")
    if ("arrays", key) in run.journal and path.is_file():
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == run.journal.get("arrays", key):
            return dict(safetensors.numpy.load(data))
    data = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in compute().items()})
    write_bytes(path, data)
    run.journal.append("arrays", key, hashlib.sha256(data).hexdigest())
    return dict(safetensors.numpy.load(data))
