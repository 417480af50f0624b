"""Tasks on bundled text, in bytes and with a tokenizer of whole words."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from mambascope.analysis.passkey.task import PasskeyTask
from mambascope.spectra.tokens import byte_characters, byte_level_tokenizer, encode_bytes, tokenizer_encoder
from mambascope.spectra.zoo import text_files

TEXT = text_files("validation")[0].read_bytes()[:40_000]


def word_tokenizer():
    """A tokenizer.json with one token for each word, number and sign of the text, as far from bytes as can be."""
    words = {"[UNK]": 0, " ": 1, "\n": 2}
    for digit in "0123456789":
        words[digit] = len(words)
    for word in sorted(set(TEXT.decode("utf-8", "replace").replace(".", " .").split())):
        words.setdefault(word, len(words))
    model = {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}
    split = {"type": "Split", "pattern": {"Regex": r"\s|\d|[^\s\d\w]|\w+"}, "behavior": "Isolated", "invert": False}
    head = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
    return json.dumps(head | {"pre_tokenizer": split, "post_processor": None, "decoder": None, "model": model}).encode()


@pytest.fixture
def byte_task():
    return PasskeyTask.of_texts([TEXT], encode_bytes)


@pytest.fixture
def word_task():
    pytest.importorskip("tokenizers")
    return PasskeyTask.of_texts([TEXT], tokenizer_encoder(word_tokenizer(), "made up"))


def joining_tokenizer():
    """A byte-level tokenizer that joins a space to the digit after it, and some pairs of digits, as large ones do."""
    made = json.loads(byte_level_tokenizer())
    space = byte_characters()[32]
    merges = [[space, digit] for digit in "0123456789"] + [[a, b] for a in "13579" for b in "02468"]
    for number, (a, b) in enumerate(merges):
        made["model"]["vocab"][a + b] = 256 + number
    made["model"]["merges"], made["added_tokens"] = merges, []
    made["pre_tokenizer"]["use_regex"] = True
    return json.dumps(made).encode()


@dataclass
class JoiningTask:
    task: PasskeyTask

    def __getattr__(self, name):
        return getattr(self.task, name)

    def decode(self, ids):
        import tokenizers

        return tokenizers.Tokenizer.from_str(joining_tokenizer().decode()).decode(ids.tolist())


@pytest.fixture
def joining_task():
    pytest.importorskip("tokenizers")
    return JoiningTask(PasskeyTask.of_texts([TEXT], tokenizer_encoder(joining_tokenizer(), "made up")))


@pytest.fixture
def rng():
    return np.random.default_rng(0)
