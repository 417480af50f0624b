"""Texts to token ids: bytes for byte-level models, ``tokenizer.json`` for the others, or ready-made ids.

A file may be any text (UTF-8), one JSON string (``.json``, as the text of the paper's Table 1 is published), or ids as
``.npy`` (one dimension, integers) or ``.jsonl`` (one list of ids a line, each a document). No id is added: no
beginning-of-text token, unless the ids hold one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from .errors import TextError

Ids = npt.NDArray[np.unsignedinteger]
Encode = Callable[[bytes, str], Ids]


@dataclass(frozen=True)
class Document:
    """One text as token ids."""

    name: str
    """Where it came from."""
    ids: Ids
    """Token ids, (length,), in the smallest unsigned type that holds them."""

    @cached_property
    def sha256(self) -> str:
        """Content hash of the ids, by which two documents are told apart."""
        return hashlib.sha256(np.ascontiguousarray(self.ids, dtype="<u4").tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.ids)


def _compact(ids: npt.NDArray[np.integer]) -> Ids:
    top = int(ids.max()) if ids.size else 0
    return ids.astype(np.uint8 if top < 2**8 else np.uint16 if top < 2**16 else np.uint32)


def encode_bytes(data: bytes, name: str) -> Ids:
    """Return a text's bytes as ids; ``name`` is not needed."""
    del name
    return np.frombuffer(data, dtype=np.uint8)


def tokenizer_encoder(tokenizer_json: bytes, where: str) -> Encode:
    """Make an encoder from the bytes of a ``tokenizer.json``.

    A byte-level tokenizer without merges, such as the bundled models carry, needs no tokenizer library.

    Args:
        tokenizer_json: the file's content.
        where: its name, for messages.

    Returns:
        A function from (bytes, name) to ids; special tokens are not added.

    Raises:
        TextError: the file is broken, or the ``tokenizers`` package is missing.
    """
    if _is_byte_level(tokenizer_json):
        return encode_bytes
    try:
        import tokenizers
    except ImportError as error:
        raise TextError(
            f'{where}: reading a tokenizer needs one more package: pip install "mambascope[hub]"'
        ) from error
    try:
        tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json.decode("utf-8"))
    except Exception as error:  # the library raises bare Exception
        raise TextError(f"{where}: not a tokenizer.json: {error}") from error

    def encode(data: bytes, name: str) -> Ids:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise TextError(f"{name}: not UTF-8 text (byte {error.start}); convert it first") from error
        encoding = tokenizer.encode(text, add_special_tokens=False)
        return _compact(np.array(encoding.ids, dtype=np.int64))

    return encode


def read_document(path: str | Path, encode: Encode, tokens_in_vocab: int) -> list[Document]:
    """Read the documents of one file.

    Args:
        path: a text, ``.npy`` or ``.jsonl`` file.
        encode: turns a text's bytes into ids.
        tokens_in_vocab: ids must be below this.

    Returns:
        One document, or several for ``.jsonl``.

    Raises:
        TextError: missing, empty or binary file, or ids outside the vocabulary.
    """
    path = Path(path)
    try:
        documents = _documents(path, encode)
    except OSError as error:
        raise TextError(f"{path}: cannot read the text: {error.strerror or error}") from error
    for document in documents:
        if not len(document):
            raise TextError(f"{path}: empty; give a text with at least a few tokens")
        if (top := int(document.ids.max())) >= tokens_in_vocab:
            raise TextError(
                f"{path}: token id {top}, but the model knows {tokens_in_vocab} ids (0 to {tokens_in_vocab - 1}); "
                "the ids come from another tokenizer"
            )
    return documents


def _documents(path: Path, encode: Encode) -> list[Document]:
    if path.suffix == ".npy":
        return [Document(path.name, _npy(path))]
    if path.suffix == ".jsonl":
        return _jsonl(path)
    data = path.read_bytes()
    if b"\0" in data:
        raise TextError(f"{path}: holds zero bytes, so it is not a text; give UTF-8 text, .npy or .jsonl ids")
    if path.suffix == ".json":
        data = _json_string(data)
    return [Document(path.name, encode(data, str(path)))]


def _json_string(data: bytes) -> bytes:
    """Return the text that a file of one JSON string holds; any other JSON is a text as it stands."""
    try:
        return msgspec.json.decode(data, type=str).encode()
    except (msgspec.DecodeError, UnicodeError):
        return data


def _npy(path: Path) -> Ids:
    try:
        ids = np.load(path, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy reads a header with Python's tokenizer, and allots memory for any shape it names
        raise TextError(f"{path}: not a plain .npy array of integers ({type(error).__name__})") from error
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "iu" or (ids.size and ids.min() < 0):
        raise TextError(f"{path}: expected one dimension of non-negative integers")
    if ids.size and (top := int(ids.max())) >= 2**32:
        raise TextError(f"{path}: token id {top}, but ids have at most 32 bits")
    return _compact(ids)


def _jsonl(path: Path) -> list[Document]:
    documents = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            ids = msgspec.json.decode(line, type=list[int])
            documents.append(Document(f"{path.name}:{number}", _compact(np.array(ids, dtype=np.uint32))))
        except (msgspec.DecodeError, OverflowError) as error:
            raise TextError(f"{path}: line {number}: expected a list of non-negative token ids: {error}") from error
    if not documents:
        raise TextError(f"{path}: empty; give one list of token ids a line")
    return documents


def byte_characters() -> list[str]:
    """Return the printable character that stands for each of the 256 bytes in a byte-level tokenizer.

    Printable Latin-1 characters stand for themselves, the rest for the code points from 256 on.
    Source: the byte-level alphabet of GPT-2's tokenizer, which the ``tokenizers`` library implements.
    """
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(spare)) for b in range(256)]


def byte_level_tokenizer(end_of_text: str = "<|endoftext|>") -> bytes:
    """Return a ``tokenizer.json`` whose ids are the text's bytes, with one end-of-text token as id 256."""
    document: dict[str, object] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": 256,
                "content": end_of_text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {character: byte for byte, character in enumerate(byte_characters())},
            "merges": [],
        },
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


class _TokenizerModel(msgspec.Struct):
    vocab: dict[str, int] | list[object] = {}  # msgspec copies such defaults
    merges: list[object] = []


class _Tokenizer(msgspec.Struct):
    model: _TokenizerModel


def _is_byte_level(tokenizer_json: bytes) -> bool:
    try:
        model = msgspec.json.decode(tokenizer_json, type=_Tokenizer).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return not model.merges and model.vocab == {character: byte for byte, character in enumerate(byte_characters())}
