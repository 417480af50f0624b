"""The files of a baked checkpoint: weights streamed tensor by tensor, what is laid beside them, and their order.

config.json comes last, after the self-check: without it the folder is no checkpoint, so nothing loads weights that
were not finished or do not compute what they should.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from mambascope.spectra.checkpoint import Checkpoint
from mambascope.spectra.errors import CheckpointError, RefusedInputError, TextError
from mambascope.spectra.layouts import Layout, config_json, expected_tensors
from mambascope.spectra.loading import CARD, Card, read_texts
from mambascope.spectra.save_checkpoint import WEIGHTS, stream_weights, tokenizer_config
from mambascope.spectra.scales import Scales
from mambascope.spectra.tensor_files import open_bin, open_safetensors
from mambascope.spectra.tensor_source import TensorEntry
from mambascope.spectra.tokens import Ids
from mambascope.spectra.zoo import text_files

from .atomic import json_bytes, replacing, write_bytes, write_json
from .bake_card import card_text, read_table
from .bake_check import check_baked
from .folds import LayerFold
from .manifest import sha256_of
from .runs import RunFolder

RECORD = "bake.json"
"""What was baked and how exactly; a folder whose files fit it is finished."""
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_OF_TOKENIZERS = (*_TOKENIZER, "vocab.json", "merges.txt", "tokenizer.model")
_EMBEDDING, _HEAD = "backbone.embedding.weight", "lm_head.weight"


@dataclass(frozen=True)
class Job:
    """A bake that is ready to be written."""

    source: Checkpoint
    """Where the weights come from."""
    scales: Scales
    """What is folded in."""
    plan: tuple[LayerFold, ...]
    """How, layer by layer."""
    layout: Layout
    """Dialect to write."""
    side: Mapping[str, bytes]
    """Files beside weights, config and card, by name."""
    curves: tuple[Mapping[str, str], ...]
    """Measurements for the card."""

    def fold_of(self, name: str) -> tuple[int, str, LayerFold] | None:
        """Return layer, name within the mixer and fold of a tensor, or None if it does not change."""
        before, _, within = name.partition(".mixer.")
        if not within:
            return None
        layer = int(before.rpartition(".")[2])
        return (layer, within, self.plan[layer]) if within in self.plan[layer].tensors() else None

    @cached_property
    def stored_dtypes(self) -> dict[str, torch.dtype]:
        """Type of every tensor in the source."""
        found = {}
        for name in expected_tensors(self.source.config):
            file, stored_name = self.source.stored[name]  # the types are needed before any tensor is read
            found[name] = file.entries[stored_name].dtype
        return found

    @property
    def entries(self) -> dict[str, TensorEntry]:
        """Type and shape of every tensor to write; rates that change are of float32 at least."""
        shapes = expected_tensors(self.source.config)
        widened = {n: d for n, d in self.stored_dtypes.items() if n.endswith("A_log") and d.itemsize < 4}
        types = self.stored_dtypes | {n: torch.float32 for n in widened if self.fold_of(n)}
        return {name: TensorEntry(dtype, shapes[name]) for name, dtype in types.items()}

    @property
    def narrow(self) -> bool:
        """True if a tensor that changes is kept in a 16-bit type."""
        return any(entry.dtype.itemsize < 4 and self.fold_of(name) is not None for name, entry in self.entries.items())

    def config(self) -> bytes:
        """Return config.json: the source's own where the dialect is the same, else a translation."""
        folder = self.source.folder if self.source.layout == self.layout else None
        raw = (folder / "config.json").read_bytes() if folder else b""
        values = json.loads(raw) if raw else self._translated()
        acts = self.layout == "transformers" and any(fold.tensors() for fold in self.plan)
        return config_bytes(raw, values, [entry.dtype for entry in self.entries.values()] if acts else [])

    def _translated(self) -> dict[str, Any]:
        values = config_json(self.source.config, self.layout)
        if self.layout == "transformers" and "tokenizer.json" in self.side:
            end = _end_of_text(self.side["tokenizer.json"], self.side.get("tokenizer_config.json", b"{}"))
            values |= dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end)
        return values


def config_bytes(raw: bytes, values: dict[str, Any], dtypes: Iterable[torch.dtype]) -> bytes:
    """Return config.json, changed where transformers would load everything, rates too, in a 16-bit type.

    Args:
        raw: the file to keep byte for byte where nothing needs to change; empty for none.
        values: what it says.
        dtypes: the types of the tensors beside it; none if no factor acts.
    """
    widths = {dtype.itemsize for dtype in dtypes}
    if 2 in widths and len(widths) > 1:
        values = {key: value for key, value in values.items() if key != "torch_dtype"} | {"dtype": "float32"}
    elif raw:
        return raw
    return (json.dumps(values, indent=2) + "\n").encode()


def relative_change(new: torch.Tensor, old: torch.Tensor) -> float:
    """Return how far a tensor moves, relative to its largest value; absolutely where all were 0."""
    largest = float(old.double().abs().max())
    moved = float((new.double() - old.double()).abs().max())
    return moved / largest if largest else moved


def _end_of_text(tokenizer: bytes, described: bytes) -> int | None:
    with suppress(ValueError, AttributeError, KeyError, TypeError):
        end = json.loads(described).get("eos_token")
        word = end["content"] if isinstance(end, dict) else end
        return next((t["id"] for t in json.loads(tokenizer)["added_tokens"] if t["content"] == word), None)
    return None


def side_files(
    source: Checkpoint, scales: Scales, layout: Layout, card: Card | None, paths: Mapping[str, Path]
) -> tuple[dict[str, bytes], tuple[Mapping[str, str], ...]]:
    """Read what is laid beside the weights.

    Args:
        source: its tokenizer goes along.
        scales: the factors, written anew if no file of them is given.
        layout: dialect to write.
        card: what mambascope is to know of the result.
        paths: files given, by role: ``scales``, ``curves``, ``tokenizer``.

    Returns:
        The files by name, and the rows of the curves.

    Raises:
        RefusedInputError: one cannot be read.
    """
    wanted = {name: source.folder / name for name in _OF_TOKENIZERS} if source.folder else {}
    if source.folder and layout == source.layout == "transformers":
        wanted["generation_config.json"] = source.folder / "generation_config.json"
    if "tokenizer" in paths:
        wanted = {"tokenizer.json": paths["tokenizer"]}
    wanted = {name: path for name, path in wanted.items() if path.is_file() or "tokenizer" in paths}
    wanted |= {f"{role}.{kind}": paths[role] for role, kind in (("scales", "json"), ("curves", "csv")) if role in paths}
    try:
        files = {name: path.read_bytes() for name, path in wanted.items()}
    except OSError as problem:
        raise RefusedInputError(f"{problem.filename}: cannot be read: {problem.strerror}") from problem
    if "tokenizer.json" in files and "tokenizer_config.json" not in files:
        try:
            files["tokenizer_config.json"] = json_bytes(tokenizer_config(files["tokenizer.json"], None), indent=2)
        except (ValueError, AttributeError, TypeError, KeyError) as problem:
            raise RefusedInputError(f"{wanted['tokenizer.json']}: is no tokenizer.json: {problem}") from problem
    files.setdefault("scales.json", json_bytes(scales.to_dict(), indent=1) + b"\n")
    if card is not None:
        files[CARD] = json_bytes(msgspec.to_builtins(card), indent=1) + b"\n"
    return files, tuple(read_table(paths["curves"])) if "curves" in paths else ()


def check_ids(source: Checkpoint, tokenizer: Path | None, tokens: int) -> tuple[str, Ids]:
    """Return a short text for the self-check: bundled prose, or random ids where no tokenizer can read it."""
    try:
        text = text_files("calibration")[0]
        (document,) = read_texts(source, [text], tokenizer)
        return f"bundled {text.name}", document.ids[:tokens]
    except TextError:
        if tokenizer is not None:
            raise
    known = source.config.tokens_in_vocab or source.config.vocab_size
    return "random ids", np.random.Generator(np.random.Philox(0)).integers(0, known, tokens, dtype=np.uint32)


def write_files(run: RunFolder, job: Job, stated: Mapping[str, Any], check_tokens: int, tokenizer: Path | None) -> Any:
    """Write a baked checkpoint, or find it whole.

    Args:
        run: the open folder.
        job: what to write.
        stated: what is known before.
        check_tokens: tokens of the self-check; 0 for none.
        tokenizer: to read them with, if not the source's.

    Returns:
        The record: ``stated``, and what was changed, measured and written.
    """
    weights = run.output(WEIGHTS[job.layout])
    config, record = run.output("config.json"), run.output(RECORD)
    if (found := finished(run, record)) is not None:
        return found
    config.unlink(missing_ok=True)
    _refuse_other_head(job.source)
    changes: dict[str, float] = {}
    with replacing(weights) as temporary, temporary.open("wb") as file:
        stream_weights(file, job.entries, lambda name: _folded(job, name, changes), job.layout, run.folder)
    check = None
    if check_tokens:
        opener = open_safetensors if job.layout == "transformers" else open_bin
        text, ids = check_ids(job.source, tokenizer, check_tokens)
        with opener(weights) as opened:
            baked = Checkpoint(job.source.config, job.layout, dict.fromkeys(opened.entries, opened))
            check = check_baked(job.source, baked, job.scales, job.plan, ids, text=text, narrow=job.narrow).to_dict()
    rows = [{"tensor": name, "change": change} for name, change in changes.items()]
    document = dict(stated) | {"tensors": rows, "check": check, "made_by": run.made_by()}
    sides = dict(job.side) | {"README.md": card_text(document, job.layout, job.curves).encode()}
    for name, data in sides.items():
        write_bytes(run.output(name), data)
    # config.json is described before it is there, as it comes last
    files = [described(run.folder / name) for name in (WEIGHTS[job.layout], *sorted(sides))]
    with replacing(config) as temporary:
        temporary.write_bytes(job.config())
        files.append(described(temporary) | {"file": "config.json"})
        write_json(record, document | {"files": files})
    return msgspec.json.decode(record.read_bytes())


def described(path: Path) -> dict[str, Any]:
    """Return a file's name, size and content hash for the record."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def finished(run: RunFolder, record: Path) -> Any:
    """Return the record if every file fits it, else None."""
    with suppress(OSError, msgspec.DecodeError, KeyError, TypeError):
        found = msgspec.json.decode(record.read_bytes())
        if all(described(run.folder / Path(each["file"]).name) == each for each in found["files"]):
            return found
    return None


def _folded(job: Job, name: str, changes: dict[str, float]) -> torch.Tensor:
    tensor = job.source.read(name)
    if (place := job.fold_of(name)) is None:
        return tensor
    layer, within, fold = place
    new = fold.apply(job.source.config, layer, within, tensor)
    changes[name] = relative_change(new, tensor)
    return new


def _refuse_other_head(source: Checkpoint) -> None:
    """Refuse a stored head that is not the embedding to which config.json ties it; it would be lost."""
    if not source.config.tie_embeddings or _HEAD not in source.stored:
        return
    file, stored_name = source.stored[_HEAD]
    if not torch.equal(file.read(stored_name), source.read(_EMBEDDING)):
        raise CheckpointError(
            f"{file.path}: {_HEAD}: expected the embedding, to which config.json ties it, got other values; if both "
            "are meant, set tie_embeddings (tie_word_embeddings in transformers) to false"
        )
