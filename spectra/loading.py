"""From a checkpoint to a model that runs: device, dtype, tokenizer, and what is known of its training."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import torch

from .checkpoint import Checkpoint, open_checkpoint
from .errors import CheckpointError, RefusedInputError, TextError
from .hub_tokenizer import cached_tokenizer, fetch_line, fetched_tokenizer, lacks_tokenizer
from .model import Model
from .scan import prepare
from .tokens import Document, Encode, read_document, tokenizer_encoder

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
CARD = "mambascope.json"
"""Small file beside the weights that says what config.json has no words for."""


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of a model beyond its shape."""

    name: str
    """How reports call it."""
    train_length: int
    """Tokens it was trained on at once."""
    format: int = 1
    """Version of this file's format."""


def read_card(folder: Path | None) -> Card | None:
    """Read ``mambascope.json``; bundled and baked models have one.

    Args:
        folder: a checkpoint's folder, none for a model in memory.

    Returns:
        The card, or None where there is none.

    Raises:
        CheckpointError: it is there but broken.
    """
    if folder is None or not (folder / CARD).exists():
        return None
    try:
        card = msgspec.json.decode((folder / CARD).read_bytes(), type=Card)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise CheckpointError(f"{folder / CARD}: {error}; mend or remove this file") from error
    if card.format != 1 or card.train_length < 2:
        raise CheckpointError(f"{folder / CARD}: expected format 1 and train_length of at least 2, got {card}")
    return card


def pick_device(device: str) -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` names.

    Args:
        device: its name.

    Returns:
        The device; ``auto`` is a GPU where torch sees one.

    Raises:
        RefusedInputError: torch sees no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise RefusedInputError(f"device {device!r}: expected auto, cpu, cuda or cuda:N") from error
    if chosen.type not in {"cpu", "cuda"}:
        raise RefusedInputError(f"device {device!r}: expected auto, cpu, cuda or cuda:N")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise RefusedInputError(f"device {device!r}: torch {torch.__version__} sees no NVIDIA GPU; use --device cpu")
    return chosen


def load(source: str | Path | Checkpoint | Any, *, device: str = "auto", dtype: str = "float32") -> Model:
    """Load a model.

    Args:
        source: a bundled name, a folder, a hub id (with the ``hub`` extra), an open checkpoint, or a transformers or
            mamba_ssm model object.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: of the weights: ``float32``, ``float64``, ``bfloat16`` or ``float16``. States are float32 or float64.

    Returns:
        The model, without gradients.

    Raises:
        RefusedInputError: unknown device or dtype.
        CheckpointError: the checkpoint is missing, broken or unsafe.
    """
    if dtype not in DTYPES:
        raise RefusedInputError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    target = pick_device(device)
    if isinstance(source, Checkpoint):
        checkpoint = source
    else:
        checkpoint = open_checkpoint(source) if isinstance(source, str | Path) else Checkpoint.from_object(source)
    card = read_card(checkpoint.folder)
    name = card.name if card else checkpoint.folder.name if checkpoint.folder else type(source).__name__
    with torch.device("meta"):
        model = Model(checkpoint.config, name=name, train_length=card.train_length if card else None)
    tensors = checkpoint.state_dict(DTYPES[dtype])
    for key in tensors:
        if key.endswith("A_log"):
            checkpoint.A_log(int(key.split(".")[2]))  # names layer and head of a rate that is none
            # rates keep their digits whatever the weights are stored in
            tensors[key] = checkpoint.read(key).to(torch.float64 if dtype == "float64" else torch.float32)
    if checkpoint.config.tie_embeddings:
        tensors["lm_head.weight"] = tensors["backbone.embedding.weight"]
    model.load_state_dict(tensors, assign=True)
    if checkpoint.config.tie_embeddings:
        model.lm_head.weight = model.backbone.embedding.weight
    prepare(checkpoint.config.arch, target, model.state_dtype)
    return model.requires_grad_(False).to(target).eval()


def tokenizer_file(checkpoint: Checkpoint, given: str | Path | None = None) -> Path | None:
    """Return the tokenizer.json that texts are encoded with: the one given, or the one beside the weights, or None.

    For a state-spaces model in the hub's cache it is the one that these were trained with, once it is there, too.
    """
    if given:
        return Path(given)
    beside = checkpoint.folder / "tokenizer.json" if checkpoint.folder else None
    if beside and beside.exists():
        return beside
    return cached_tokenizer() if lacks_tokenizer(checkpoint.folder) else None


def encoder_of(checkpoint: Checkpoint, tokenizer: str | Path | None = None) -> Encode:
    """Return the function that turns a text into a model's ids.

    Args:
        checkpoint: the model's checkpoint.
        tokenizer: a ``tokenizer.json`` to use instead of the one in the checkpoint's folder.

    Returns:
        The encoder. Without any tokenizer, one that refuses texts, so that ready-made ids still work.

    Raises:
        TextError: the given tokenizer file cannot be read.
    """
    path = tokenizer_file(checkpoint, tokenizer)
    if path is not None:
        return _encoder(path)
    if lacks_tokenizer(checkpoint.folder):

        @cache
        def fetched() -> Encode:
            return _encoder(fetched_tokenizer())

        def fetch_first(data: bytes, name: str) -> Any:  # not before a text asks: ready-made ids need no network
            return fetched()(data, name)

        return fetch_first

    def refuse(data: bytes, name: str) -> Any:
        del data
        there = checkpoint.folder if checkpoint.layout == "state-spaces" else None
        raise TextError(
            f"{name}: the model has no tokenizer.json in its folder; lay one there"
            + (f" (for state-spaces/mamba*: {fetch_line(there)})" if there else "")
            + ", give --tokenizer FILE, or give ready-made ids (.npy, .jsonl)"
        )

    return refuse


def _encoder(path: Path) -> Encode:
    try:
        return tokenizer_encoder(path.read_bytes(), str(path))
    except OSError as error:
        raise TextError(f"{path}: cannot read the tokenizer: {error.strerror}") from error


def read_texts(checkpoint: Checkpoint, paths: list[Path], tokenizer: str | Path | None = None) -> list[Document]:
    """Read texts for a model.

    Args:
        checkpoint: the model's checkpoint.
        paths: text, ``.npy`` or ``.jsonl`` files.
        tokenizer: a ``tokenizer.json`` to use instead of the checkpoint's.

    Returns:
        The documents of all files, in order.
    """
    encode = encoder_of(checkpoint, tokenizer)
    known = checkpoint.config.tokens_in_vocab or checkpoint.config.vocab_size
    return [document for path in paths for document in read_document(path, encode, known)]
