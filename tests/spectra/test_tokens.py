"""Test ``mambascope.spectra.tokens``: bytes, tokenizer files, ready-made ids, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from mambascope.spectra.errors import TextError
from mambascope.spectra.tokens import byte_level_tokenizer, encode_bytes, read_document, tokenizer_encoder

SHARED = Path(__file__).parents[3] / "shared"
NASTY = "Tab\tand\r\nlines, naïve – «quotes», 漢字, 🐍, <|endoftext|> literal? \x7f ¤ \u00ad end "


def test_byte_ids_are_the_bytes():
    data = NASTY.encode()
    assert encode_bytes(data, "x").tobytes() == data
    assert tokenizer_encoder(byte_level_tokenizer(), "t")(data, "x").tobytes() == data


def test_the_byte_level_tokenizer_agrees_with_the_library():
    tokenizers = pytest.importorskip("tokenizers", reason="needs the tokenizers package")
    library = tokenizers.Tokenizer.from_str(byte_level_tokenizer().decode())
    text = NASTY.replace("<|endoftext|>", "")
    assert library.encode(text).ids == list(text.encode())
    assert library.decode(list(text.encode())) == text
    assert library.token_to_id("<|endoftext|>") == 256
    for byte in range(256):
        assert library.id_to_token(byte) is not None


def test_a_tokenizer_with_merges_is_not_taken_for_bytes():
    pytest.importorskip("tokenizers", reason="needs the tokenizers package")
    document = json.loads(byte_level_tokenizer())
    document["model"]["vocab"]["ab"] = 300
    document["model"]["merges"] = [["a", "b"]]
    encode = tokenizer_encoder(json.dumps(document).encode(), "t")
    assert encode(b"cab", "x").tolist() == [ord("c"), 300]


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared tokenizer of the real checkpoints")
def test_the_text_of_table_1_gives_the_known_ids():
    """Hashes of the first L ids: the README beside the text."""
    import hashlib

    tokenizer = SHARED / "tokenizers/gpt-neox-20b/tokenizer.json"
    encode = tokenizer_encoder(tokenizer.read_bytes(), str(tokenizer))
    text = json.loads((SHARED / "data/table1/canterbury_tales.json").read_text())
    ids = encode(text.encode(), "table1")
    assert len(ids) == 459_859
    known = {
        1024: "958aa98b80a0b114",
        2048: "0dd307bc47fed2a0",
        4096: "79b8c3a445023f32",
        8192: "ab081d35d2eea12f",
        16384: "850d1199f771123d",
        32768: "c4030773d67ff5db",
        65536: "2fb9be7993d431b2",
    }
    for length, start in known.items():
        assert hashlib.sha256(ids[:length].astype("<u4").tobytes()).hexdigest().startswith(start)


def test_ready_made_ids(tmp_path):
    np.save(tmp_path / "a.npy", np.array([1, 2, 70000]))
    (document,) = read_document(tmp_path / "a.npy", encode_bytes, 70001)
    assert document.ids.tolist() == [1, 2, 70000]
    assert document.ids.dtype == np.uint32
    (tmp_path / "b.jsonl").write_text("[1, 2]\n[3]\n")
    first, second = read_document(tmp_path / "b.jsonl", encode_bytes, 10)
    assert (first.ids.tolist(), second.ids.tolist()) == ([1, 2], [3])
    assert first.name == "b.jsonl:1"


def test_equal_content_has_an_equal_hash_whatever_the_type(tmp_path):
    np.save(tmp_path / "a.npy", np.array([104, 105], dtype=np.int64))
    (tmp_path / "b.txt").write_bytes(b"hi")
    hashes = {read_document(tmp_path / n, encode_bytes, 256)[0].sha256 for n in ("a.npy", "b.txt")}
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "empty"),
        ("binary.txt", b"\x7fELF\x00\x00", "zero bytes"),
        ("high.txt", b"caf\xc3\xa9", "token id 195, but the model knows 100 ids"),
        ("empty.jsonl", b"", "empty"),
        ("text.jsonl", b"hello\n", "line 1: expected a list"),
        ("negative.jsonl", b"[1]\n[-1]\n", "line 2"),
        ("none.jsonl", b"[]\n", "empty"),
        ("text.npy", b"hello", "not a plain .npy"),
    ],
)
def test_bad_texts_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError, match=message):
        read_document(tmp_path / name, encode_bytes, 100)


@pytest.mark.parametrize("array", [np.zeros((2, 2), int), np.array([0.5]), np.array([-1])])
def test_arrays_that_are_no_ids_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(TextError, match="one dimension of non-negative integers"):
        read_document(tmp_path / "a.npy", encode_bytes, 100)


def test_a_pickle_in_an_array_file_is_never_run(tmp_path):
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    np.save(tmp_path / "a.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(TextError, match=r"not a plain \.npy"):
        read_document(tmp_path / "a.npy", encode_bytes, 100)
    assert not canary.exists()


def test_a_missing_file_and_a_broken_tokenizer_are_refused(tmp_path):
    with pytest.raises(TextError, match="cannot read the text"):
        read_document(tmp_path / "none.txt", encode_bytes, 100)
    pytest.importorskip("tokenizers", reason="needs the tokenizers package")
    with pytest.raises(TextError, match=r"not a tokenizer\.json"):
        tokenizer_encoder(b"{}", "t")


def test_a_file_of_one_json_string_is_that_string(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps('Whan "that"\nAprille é'))
    (document,) = read_document(tmp_path / "a.json", encode_bytes, 256)
    assert document.ids.tobytes().decode() == 'Whan "that"\nAprille é'
    (tmp_path / "b.json").write_text('{"no": "string"}')
    (document,) = read_document(tmp_path / "b.json", encode_bytes, 256)
    assert document.ids.tobytes() == b'{"no": "string"}'
