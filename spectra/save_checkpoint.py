"""Write a checkpoint that transformers, mamba_ssm and mambascope load as it is.

The transformers layout is config.json + model.safetensors, the state-spaces layout config.json + pytorch_model.bin
(mamba_ssm reads nothing else). Every file appears whole or not at all, and config.json last: a folder without it
is no checkpoint.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from .config import Config
from .errors import CheckpointError
from .layouts import Layout, config_json, expected_tensors, layout_name
from .temporary import temporary_beside
from .tensor_files import DTYPE_NAMES
from .tensor_source import TensorEntry

_HEAD = "lm_head.weight"
WEIGHTS = {"transformers": "model.safetensors", "state-spaces": "pytorch_model.bin"}
"""The one file of weights of each layout."""


def save_checkpoint(
    folder: Path,
    config: Config,
    tensors: Mapping[str, torch.Tensor],
    layout: Layout,
    *,
    tokenizer_json: bytes | None = None,
    eos_id: int | None = None,
    extra_config: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint folder; equal arguments give equal bytes.

    Args:
        folder: where to; it is made if need be. The same layout is replaced, another one refused.
        config: the configuration.
        tensors: every tensor by its state-spaces name; a tied ``lm_head.weight`` may be left out.
        layout: ``transformers`` (safetensors) or ``state-spaces`` (the .bin that mamba_ssm reads).
        tokenizer_json: a tokenizer to lay beside, in the format of the tokenizers library.
        eos_id: the token that ends a text; transformers gets it as beginning and padding, too.
        extra_config: further keys for config.json; transformers layout only, as mamba_ssm accepts none.

    Raises:
        CheckpointError: if the tensors do not fit the configuration, or the layout cannot say it.
        OSError: if the disk refuses; no half file stays.
    """
    values = config_json(config, layout, bos_id=eos_id, eos_id=eos_id, pad_id=eos_id)
    for key, value in (extra_config or {}).items():
        if layout == "state-spaces" or key in values:
            raise CheckpointError(f"layout {layout}: extra_config: expected keys that are free, got {key!r}")
        values[key] = value
    _check(config, tensors)
    folder.mkdir(parents=True, exist_ok=True)
    if strays := sorted(p.name for p in folder.iterdir() if _is_other_weights(p.name, layout)):
        raise CheckpointError(
            f"{folder}: expected no weights but {WEIGHTS[layout]}, got {strays[0]}; take a new folder"
        )

    chosen = {name: tensors[name].detach().cpu().contiguous() for name in expected_tensors(config)}
    _write(folder / WEIGHTS[layout], lambda file: _write_weights(file, chosen, layout))
    if tokenizer_json is not None:
        _write(folder / "tokenizer.json", lambda file: file.write(tokenizer_json))
        described = tokenizer_config(tokenizer_json, eos_id)
        _write(folder / "tokenizer_config.json", lambda file: file.write(_json_bytes(described)))
    _write(folder / "config.json", lambda file: file.write(_json_bytes(values)))


def _is_other_weights(name: str, layout: Layout) -> bool:
    weights = name.endswith((".safetensors", ".safetensors.index.json", ".bin.index.json")) or (
        name.startswith("pytorch_model") and name.endswith(".bin")
    )
    return weights and name != WEIGHTS[layout]


def _check(config: Config, tensors: Mapping[str, torch.Tensor]) -> None:
    expected = expected_tensors(config)
    if strays := sorted(set(tensors) - set(expected) - {_HEAD}):
        raise CheckpointError(
            f"tensor {strays[0]}: expected {len(expected)} tensors of {config.arch}, got this one besides"
        )
    for name, shape in expected.items():
        got = list(tensors[name].shape) if name in tensors else "none"
        if got != list(shape):
            raise CheckpointError(f"tensor {name}: expected shape {list(shape)}, got {got}")
    if config.tie_embeddings and _HEAD in tensors:
        embedding = tensors["backbone.embedding.weight"]
        if not torch.equal(tensors[_HEAD], embedding):
            raise CheckpointError(f"tensor {_HEAD}: expected the embedding, to which it is tied, got other values")


def _write_weights(file: IO[bytes], tensors: dict[str, torch.Tensor], layout: Layout) -> None:
    if layout == "state-spaces":
        _write_bin(file, tensors)
        return
    entries = {name: TensorEntry(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    _write_safetensors(file, entries, tensors.__getitem__)


def stream_weights(
    file: IO[bytes],
    entries: Mapping[str, TensorEntry],
    read: Callable[[str], torch.Tensor],
    layout: Layout,
    scratch: Path,
) -> None:
    """Write a file of weights with one tensor in memory at a time; the bytes are those of ``save_checkpoint``.

    Args:
        file: where to.
        entries: type and shape of every tensor by its state-spaces name, a tied ``lm_head.weight`` left out.
        read: gives the tensor of a name; asked once for each.
        layout: ``transformers`` or ``state-spaces``. torch.save wants all tensors at once, so for ``state-spaces``
            they are first laid in a nameless file, which takes the room of the weights once more while it lasts.
        scratch: folder for that file.
    """
    if layout == "transformers":
        _write_safetensors(file, entries, read)
        return
    with _mapped(entries, read, scratch) as tensors:
        _write_bin(file, tensors)


def _write_bin(file: IO[bytes], tensors: dict[str, torch.Tensor]) -> None:
    torch.save({_HEAD: tensors["backbone.embedding.weight"]} | tensors, file)  # mamba_ssm wants the head, tied or not


def _write_safetensors(
    file: IO[bytes], entries: Mapping[str, TensorEntry], read: Callable[[str], torch.Tensor]
) -> None:
    # widest type first, so that every tensor begins at a multiple of its item size
    named = sorted(entries.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers asks for it
    end = 0
    for name, entry in named:
        begin, end = end, end + entry.nbytes
        header[layout_name(name, "transformers")] = {
            "dtype": DTYPE_NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [begin, end],
        }
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    file.write(len(raw).to_bytes(8, "little") + raw)
    for name, entry in named:
        file.write(_data_of(read(name), name, entry))


def _data_of(tensor: torch.Tensor, name: str, entry: TensorEntry) -> memoryview:
    if tensor.dtype != entry.dtype or tuple(tensor.shape) != entry.shape:
        raise CheckpointError(
            f"tensor {name}: expected {entry.dtype} {list(entry.shape)}, got {tensor.dtype} {list(tensor.shape)}"
        )
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


@contextmanager
def _mapped(
    entries: Mapping[str, TensorEntry], read: Callable[[str], torch.Tensor], scratch: Path
) -> Generator[dict[str, torch.Tensor], None, None]:
    """Lay tensors in a file that has no name, so that nothing stays of it, and map them from there."""
    with tempfile.TemporaryFile(dir=scratch) as file:
        starts = {}
        for name, entry in entries.items():
            starts[name] = file.seek(-(-file.tell() // 64) * 64)
            file.write(_data_of(read(name), name, entry))
        file.flush()
        yield {
            name: torch
            .from_numpy(np.memmap(file, np.uint8, "r+", starts[name], (entry.nbytes,)))
            .view(entry.dtype)
            .reshape(entry.shape)
            for name, entry in entries.items()
        }


def tokenizer_config(tokenizer_json: bytes, eos_id: int | None) -> dict[str, Any]:
    """Describe the tokenizer so that AutoTokenizer takes it as it is, whatever the model type."""
    described: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    content = json.loads(tokenizer_json)
    names = {token["id"]: token["content"] for token in content.get("added_tokens", ())}
    if eos_id in names:
        described |= dict.fromkeys(("bos_token", "eos_token", "pad_token"), names[eos_id])
    return described


def _json_bytes(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()


def _write(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a passing name, force it to the disk, then give it its name in one step."""
    passing = temporary_beside(path)
    try:
        with passing.open("xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        _name(passing, path)
    except BaseException:
        passing.unlink(missing_ok=True)
        raise


def _name(passing: Path, path: Path) -> None:
    passing.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
