"""Test ``mambascope.analysis.journal``: what was appended comes back exactly, torn ends go, damage is refused."""

import hashlib
import math
import os
import pickle
import random
import resource
import signal
import struct

import pytest

from mambascope.analysis.atomic import NotFiniteError, StorageError
from mambascope.analysis.journal import Journal, JournalError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def fill(path, count=3):
    with Journal.open(path) as journal:
        for index in range(count):
            journal.append("cell", str(index), {"loss": index / 3})
    return path.read_bytes()


def line(text):
    return hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"


def test_round_trip(path):
    fill(path)
    with Journal.open(path) as journal:
        journal.append("cell", "1", "later")
        journal.append("step", "1", None)
        assert journal.get("cell", "2") == {"loss": 2 / 3}
        assert journal.get("cell", "1") == "later"
        assert journal.get("cell", "9") is journal.get("step", "1") is None
        assert ("step", "1") in journal
        assert ("cell", "9") not in journal
        assert repr(journal) == "Journal(journal.jsonl, 5 entries)"
    with Journal.open(path) as journal:
        assert [(e.kind, e.key) for e in journal][-2:] == [("cell", "1"), ("step", "1")]
        assert journal.get("cell", "1") == "later"


def test_line_form(path):
    with Journal.open(path) as journal:
        journal.append("k", "é", {"b": 0.1, "a": [1, True, None]})
    assert path.read_bytes() == line('{"key":"é","kind":"k","value":{"a":[1,true,null],"b":0.1}}'.encode())


def test_floats_survive_bit_by_bit(path):
    rng = random.Random(0)
    drawn = [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(20_000)]
    floats = [x for x in drawn if math.isfinite(x)] + [-0.0, 5e-324, 1.7976931348623157e308]
    with Journal.open(path) as journal:
        journal.append("floats", "", floats)
    with Journal.open(path) as journal:
        back = journal.get("floats", "")
    assert struct.pack(f"<{len(floats)}d", *back) == struct.pack(f"<{len(floats)}d", *floats)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite_is_refused(path, bad):
    before = fill(path)
    with Journal.open(path) as journal, pytest.raises(NotFiniteError, match=r"result\.value\.x\[0\] is (nan|inf)"):
        journal.append("cell", "9", {"x": [bad]})
    assert path.read_bytes() == before


def test_values_are_not_shared(path):
    with Journal.open(path) as journal:
        value = [1]
        journal.append("cell", "0", value)
        value.append(2)
        journal.get("cell", "0").append(3)
        assert journal.get("cell", "0") == [1]


def test_torn_at_every_byte(path):
    whole = fill(path, 2)
    ends = [0] + [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in [0, 1, 50, *range(ends[1] - 1, len(whole) + 1)]:
        path.write_bytes(whole[:cut])
        with Journal.open(path) as journal:
            kept = max(end for end in ends if end <= cut)
            assert path.read_bytes() == whole[:kept]
            assert len(journal) == ends.index(kept)
            journal.append("cell", "new", 1)
        with Journal.open(path) as journal:
            assert journal.get("cell", "new") == 1


@pytest.mark.parametrize("tail", [b"\0" * 100, b"\0" * 100 + b"\n", b"\n", b"\xff\xfe\n", b"f" * 64 + b" {}\n"])
def test_last_line_with_a_wrong_sum_is_dropped(path, tail):
    whole = fill(path)
    path.write_bytes(whole + tail)
    with Journal.open(path) as journal:
        assert len(journal) == 3
    assert path.read_bytes() == whole


def test_every_flipped_byte_is_noticed(path):
    whole = fill(path)
    second = whole.index(b"\n") + 1
    for index in range(second):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        with pytest.raises(JournalError, match=r"journal\.jsonl, line 1: "):
            Journal.open(path)
    path.write_bytes(whole[:second] + b"x" + whole[second:])
    with pytest.raises(JournalError, match=r"line 2: its checksum does not fit.*--fresh"):
        Journal.open(path)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"null",
        b'{"key":"a","kind":"b","value":1,"more":1}',
        b'{"key":1,"kind":"b","value":1}',
        b'{"key":"a","kind":"b","value":NaN}',
        b'{"key":"\xff","kind":"b","value":1}',
        b"[" * 100_000,
        b'{"key":"a","kind":"b","value":' + b"[" * 100_000,
    ],
)
def test_entries_of_another_form_are_refused(path, text):
    path.write_bytes(fill(path) + line(text))
    with pytest.raises(JournalError, match="line 4: is not an entry"):
        Journal.open(path)


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_in_the_journal_runs_nothing(path, tmp_path):
    attack = pickle.dumps(Canary(tmp_path / "canary"), protocol=0)
    path.write_bytes(fill(path) + line(attack.replace(b"\n", b" ")) + attack)
    with pytest.raises(JournalError):
        Journal.open(path)
    assert not (tmp_path / "canary").exists()


@pytest.fixture
def limit():
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


def test_appending_goes_on_after_a_full_disk(path, limit):
    before = fill(path)
    with Journal.open(path) as journal:
        limit(len(before) + 50)
        for _ in range(2):
            with pytest.raises(
                StorageError, match=r"journal\.jsonl: could not be written \(File too large\)"
            ) as caught:
                journal.append("cell", "3", "x" * 100)
            assert caught.value.exit_code == 5
            assert path.read_bytes() == before
            assert ("cell", "3") not in journal
        limit(10**6)
        journal.append("cell", "3", "x" * 100)
    with Journal.open(path) as journal:
        assert journal.get("cell", "3") == "x" * 100


def test_an_interrupted_append_is_taken_back(path, monkeypatch):
    before = fill(path)

    def interrupt(_):
        raise KeyboardInterrupt

    with Journal.open(path) as journal:
        with monkeypatch.context() as patch:
            patch.setattr("mambascope.analysis.journal.os.fsync", interrupt)
            with pytest.raises(KeyboardInterrupt):
                journal.append("cell", "3", 1)
        assert path.read_bytes() == before
        journal.append("cell", "3", 2)
    with Journal.open(path) as journal:
        assert journal.get("cell", "3") == 2
        assert len(journal) == 4


def test_missing_folder(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        Journal.open(tmp_path / "no" / "journal.jsonl")
