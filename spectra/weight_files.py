"""The files of a checkpoint's folder: config.json, one file of weights or shards with their index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .errors import CheckpointError
from .tensor_files import open_bin, open_safetensors
from .tensor_source import TensorFile, open_file, parse_json_object, shown, told

MAX_JSON_BYTES = 2 * 2**20
"""Longest config.json or shard index read; the largest public index has 0.1 MB."""
_OPENERS = {"model.safetensors": open_safetensors, "pytorch_model.bin": open_bin}
"""In the order of preference; a shard index adds ``.index.json`` to the name."""


def open_weights(folder: Path) -> tuple[dict[str, TensorFile], tuple[Path, ...]]:
    """Find and open a folder's weights, reading no tensor.

    Args:
        folder: holds model.safetensors, or pytorch_model.bin, or shards with their index.

    Returns:
        The file of every tensor by the tensor's name, and the paths that were read (the index before its shards).

    Raises:
        CheckpointError: if something is missing or broken.
        UnsafeCheckpointError: if reading the weights could run code.
    """
    for name, opener in _OPENERS.items():
        path, index = folder / name, folder / f"{name}.index.json"
        if path.exists():
            file = opener(path)
            return dict.fromkeys(file.entries, file), (path,)
        if index.exists():
            sources = _open_shards(index, path.suffix)
            return sources, (index, *dict.fromkeys(file.path for file in sources.values()))
    raise CheckpointError(
        told(folder, "weights", "model.safetensors or pytorch_model.bin (or their .index.json)", "neither", "add them")
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, such as config.json or a shard index.

    Args:
        path: the file.

    Returns:
        The object.

    Raises:
        CheckpointError: it cannot be read, is far too long, or is no JSON object.
    """
    file, size_bytes = open_file(path)
    with file:
        if size_bytes > MAX_JSON_BYTES:
            raise CheckpointError(told(path, "file", f"at most {MAX_JSON_BYTES} bytes", size_bytes))
        return parse_json_object(file.read(), path, "file")


def _open_shards(index: Path, suffix: str) -> dict[str, TensorFile]:
    """Open every shard that an index names; return which file holds which tensor."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(told(index, "weight_map", "an object of file names", shown(weight_map)))
    opener = open_safetensors if suffix == ".safetensors" else open_bin
    files: dict[str, TensorFile] = {}
    for shard in sorted(set(weight_map.values())):
        # a plain name: an index must not lead out of its folder, nor from safetensors to a pickle
        if not re.fullmatch(r"[\w-][\w.-]*", shard, re.ASCII) or not shard.endswith(suffix):
            raise CheckpointError(
                told(index, "weight_map", f"plain names of {suffix} files in the same folder", shown(shard))
            )
        if not (index.parent / shard).is_file():
            raise CheckpointError(
                told(index, "shard", f"the file {shard}", "no such file", "download the missing file")
            )
        files[shard] = opener(index.parent / shard)
    for name, shard in weight_map.items():
        if name not in files[shard].entries:
            raise CheckpointError(told(index, f"tensor {shown(name)}", f"it in {shard}", "no such tensor there"))
    for shard, file in files.items():
        if strays := [name for name in file.entries if weight_map.get(name) != shard]:
            raise CheckpointError(
                told(file.path, f"tensor {shown(strays[0])}", f"an entry in {index.name}", "none, or another file")
            )
    return {name: files[shard] for name, shard in weight_map.items()}
