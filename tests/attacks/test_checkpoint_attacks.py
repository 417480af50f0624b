"""Attack ``mambascope.spectra.checkpoint``: every hostile or broken file costs one typed error, no code, no memory."""

import copyreg
import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch

from mambascope.spectra.checkpoint import Checkpoint, save_checkpoint
from mambascope.spectra.config import Config
from mambascope.spectra.errors import CheckpointError, UnsafeCheckpointError
from mambascope.spectra.layouts import expected_tensors
from mambascope.spectra.tensor_files import open_bin, open_safetensors

CONFIG = Config(arch="mamba2", d_model=8, n_layer=1, vocab_size=8, d_inner=16, d_state=2, headdim=8)
FLIPS = 500


def tensors():
    g = torch.Generator().manual_seed(0)
    return {name: torch.randn(*shape, generator=g) for name, shape in expected_tensors(CONFIG).items()}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    save_checkpoint(folder / "transformers", CONFIG, tensors(), "transformers")
    save_checkpoint(folder / "state-spaces", CONFIG, tensors(), "state-spaces")
    return folder


@pytest.fixture(params=["transformers", "state-spaces"])
def folder(request, original, tmp_path):
    return shutil.copytree(original / request.param, tmp_path / "model")


def weights_of(folder):
    return next(path for path in folder.iterdir() if path.suffix != ".json")


def identical_or_refused(folder):
    """Whether it opens with the very tensors that were written; only a CheckpointError counts as refused."""
    try:
        with Checkpoint.open(folder) as checkpoint:
            got = checkpoint.state_dict()
    except CheckpointError as error:
        message = str(error)
    else:
        message = None
    if message:
        assert str(folder) in message
        return False
    want = tensors()
    assert set(got) == set(want)
    assert all(torch.equal(got[name], want[name]) for name in want)
    return True


def test_cut_anywhere(folder):
    path = weights_of(folder)
    whole = path.read_bytes()
    assert identical_or_refused(folder)
    for k in range(64):
        path.write_bytes(whole[: len(whole) * k // 64])
        assert not identical_or_refused(folder), f"accepted {k}/64 of the file"
    path.write_bytes(whole + b"\0")
    assert not identical_or_refused(folder)


def test_cut_at_every_byte_of_the_header(original, tmp_path):
    folder = shutil.copytree(original / "transformers", tmp_path / "model")
    path = weights_of(folder)
    whole = path.read_bytes()
    for end in range(8 + int.from_bytes(whole[:8], "little")):
        path.write_bytes(whole[:end])
        assert not identical_or_refused(folder)


def test_flipped_bytes_in_the_safetensors_header(original, tmp_path):
    folder = shutil.copytree(original / "transformers", tmp_path / "model")
    path = weights_of(folder)
    whole = path.read_bytes()
    header_bytes = 8 + int.from_bytes(whole[:8], "little")
    rng = random.Random(1)
    outcomes = []
    for _ in range(FLIPS):
        raw = bytearray(whole)
        raw[rng.randrange(header_bytes)] = rng.randrange(256)
        path.write_bytes(raw)
        outcomes.append(identical_or_refused(folder))
    assert outcomes.count(False) > 0.9 * FLIPS


def test_flipped_bytes_in_the_bin_frame(original, tmp_path):
    folder = shutil.copytree(original / "state-spaces", tmp_path / "model")
    path = weights_of(folder)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        heads = [info.header_offset for info in archive.infolist()]
        first = min(info.header_offset for info in archive.infolist() if "/data/" in info.filename)
        directory = archive.start_dir
    # everything but the numbers: the pickle, the entries' own headers, the directory
    frame = [*range(first), *(head + i for head in heads for i in range(44)), *range(directory, len(whole))]
    rng = random.Random(2)
    for _ in range(2 * FLIPS):
        raw = bytearray(whole)
        raw[rng.choice(frame)] = rng.randrange(256)
        path.write_bytes(raw)
        identical_or_refused(folder)


def test_flipped_bytes_in_config_json(folder):
    path = folder / "config.json"
    whole = path.read_bytes()
    rng = random.Random(3)
    for _ in range(FLIPS):
        raw = bytearray(whole)
        raw[rng.randrange(len(raw))] = rng.randrange(256)
        path.write_bytes(raw)
        identical_or_refused(folder)


class Runs:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def repacked(path, pickle_bytes, compression=zipfile.ZIP_STORED):
    """Write the archive again with another pickle."""
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in content.items():
            archive.writestr(name, pickle_bytes if name.endswith("data.pkl") else value)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("how", ["torch.save", "zip", "legacy", "bare"])
def test_pickled_code_never_runs(original, tmp_path, how, protocol):
    folder = shutil.copytree(original / "state-spaces", tmp_path / "model")
    canary, path = tmp_path / "canary", weights_of(folder)
    hostile = {"a": torch.ones(1), "b": Runs(canary)}
    if how == "torch.save":
        torch.save(hostile, path, pickle_protocol=max(protocol, 2))
    elif how == "zip":
        repacked(path, pickle.dumps(Runs(canary), protocol))
    elif how == "legacy":
        torch.save(hostile, path, pickle_protocol=max(protocol, 2), _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(Runs(canary), protocol))
    with pytest.raises(UnsafeCheckpointError, match=r"safetensors\.torch\.save_file"):
        Checkpoint.open(folder)
    assert not canary.exists()


def test_code_hidden_behind_extension_codes_and_set_state_never_runs(tmp_path):
    class State:
        def __setstate__(self, state):
            raise AssertionError("ran")

    path = tmp_path / "m.bin"
    torch.save({"a": torch.ones(1)}, path)
    copyreg.add_extension("os", "system", 240)
    try:
        repacked(path, b"\x80\x02\x82\xf0(X\x04\x00\x00\x00truetR.")
        with pytest.raises(UnsafeCheckpointError, match="EXT1"):
            open_bin(path)
    finally:
        copyreg.remove_extension("os", "system", 240)
    stream = io.BytesIO()
    torch.save({"a": torch.ones(1)}, stream)
    torch.serialization.add_safe_globals([State])  # what a host program allows for itself does not count here
    try:
        repacked(path, b"\x80\x02c" + State.__module__.encode() + b"\nState\n)\x81}b.")
        with pytest.raises(UnsafeCheckpointError):
            open_bin(path)
    finally:
        torch.serialization.clear_safe_globals()


def test_zip_bombs_are_refused_unread(tmp_path):
    path = tmp_path / "m.bin"
    torch.save({"a": torch.zeros(2**18)}, path)
    small = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path) as archive:
        pickle_bytes = next(archive.read(i) for i in archive.infolist() if i.filename.endswith("data.pkl"))
    repacked(path, pickle_bytes, small)
    assert path.stat().st_size < 20_000
    with pytest.raises(UnsafeCheckpointError, match="zip bomb"):
        open_bin(path)
    # an entry that says it holds more than the file has
    torch.save({"a": torch.zeros(4)}, path)
    raw = path.read_bytes()
    sizes = (16).to_bytes(4, "little") * 2
    assert sizes in raw
    path.write_bytes(raw.replace(sizes, (2**31 - 1).to_bytes(4, "little") * 2))
    with pytest.raises(CheckpointError):
        open_bin(path)


def test_two_entries_that_share_their_bytes_are_refused(tmp_path):
    path = tmp_path / "m.bin"
    torch.save({"a": torch.ones(4), "b": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        first, second = (archive.getinfo(f"m/data/{i}").header_offset for i in range(2))
        directory = archive.start_dir
    raw = bytearray(path.read_bytes())
    at = raw.index(second.to_bytes(4, "little"), directory)
    raw[at : at + 4] = first.to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(CheckpointError):
        open_bin(path)


def test_a_view_larger_than_its_bytes_is_refused(tmp_path):
    torch.save({"a": torch.ones(1).expand(2**40)}, tmp_path / "m.bin")
    with pytest.raises(CheckpointError, match="'a'"):
        open_bin(tmp_path / "m.bin")


@pytest.mark.parametrize(
    "shard",
    [
        "../secret.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..",
        ".",
        "",
        "pytorch_model.bin",
        "x\0.safetensors",
        5,
        None,
    ],
)
def test_a_shard_index_leads_nowhere_else(original, tmp_path, shard):
    folder = shutil.copytree(original / "transformers", tmp_path / "model")
    weights_of(folder).rename(tmp_path / "secret.safetensors")
    names = open_safetensors(tmp_path / "secret.safetensors").entries
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, shard)}))
    with pytest.raises(CheckpointError, match="weight_map"):
        Checkpoint.open(folder)


def test_a_missing_shard_and_a_lying_index_are_named(original, tmp_path):
    folder = shutil.copytree(original / "transformers", tmp_path / "model")
    path = weights_of(folder).rename(folder / "model-00001-of-00002.safetensors")
    names = list(open_safetensors(path).entries)
    index = folder / "model.safetensors.index.json"

    def refused(weight_map):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(CheckpointError) as caught:
            Checkpoint.open(folder)
        return str(caught.value)

    good = dict.fromkeys(names, path.name)
    index.write_text(json.dumps({"weight_map": good}))
    assert identical_or_refused(folder)
    assert "model-00002-of-00002.safetensors" in refused(good | {names[0]: "model-00002-of-00002.safetensors"})
    assert "'ghost'" in refused(good | {"ghost": path.name})
    assert names[0] in refused(dict.fromkeys(names[1:], path.name))
    index.write_text('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}')
    with pytest.raises(CheckpointError, match="'a' twice"):
        Checkpoint.open(folder)


def entry(dtype="F32", shape=(2,), begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


LIES = {
    "overlap": ({"a": entry(), "b": entry(begin=4, end=12)}, 12),
    "gap": ({"a": entry(), "b": entry(begin=12, end=20)}, 20),
    "not covered": ({"a": entry()}, 9),
    "beyond the file": ({"a": entry()}, 7),
    "negative": ({"a": entry(begin=-8, end=0)}, 8),
    "backwards": ({"a": entry(begin=8, end=0)}, 8),
    "dtype lie": ({"a": entry(dtype="F64")}, 8),
    "unknown dtype": ({"a": entry(dtype="F4")}, 8),
    "dtype list": ({"a": entry(dtype=["F32"])}, 8),
    "shape lie": ({"a": entry(shape=(3,))}, 8),
    "negative shape": ({"a": entry(shape=(-1, -2))}, 8),
    "float shape": ({"a": entry(shape=(2.0,))}, 8),
    "bool shape": ({"a": entry(shape=(True, 2))}, 8),
    "overflowing shape": ({"a": entry(shape=(2**62, 2**62, 0), end=0)}, 0),
    "astronomic shape": ({"a": entry(shape=(0, 10**300), end=0)}, 0),
    "wrapping shape": ({"a": entry(shape=(2**63, 2))}, 8),
    "many dimensions": ({"a": entry(shape=(1,) * 5000, end=4)}, 4),
    "one offset": ({"a": entry() | {"data_offsets": [8]}}, 8),
    "further key": ({"a": entry() | {"code": "x"}}, 8),
    "no object": ({"a": 5}, 8),
    "metadata": ({"a": entry(), "__metadata__": {"x": 1}}, 8),
    "list": ([1, 2], 0),
}


def with_header(path, header, data_bytes, length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + bytes(data_bytes))
    return path


@pytest.mark.parametrize("lie", list(LIES))
def test_a_header_that_lies_is_refused(tmp_path, lie):
    with pytest.raises(CheckpointError, match=r"m\.safetensors: .*expected .*, got "):
        open_safetensors(with_header(tmp_path / "m.safetensors", *LIES[lie]))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": {"dtype": "F32", "dtype": "F16", "shape": [1], "data_offsets": [0, 4]}}',
        b"{" + b'"a":{' * 100_000,
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
        b'{"\xff": 1}',
        b'{"\\ud800": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        b" {}",
        b"\xef\xbb\xbf{}",
        b"",
    ],
)
def test_a_header_that_is_no_proper_json_is_refused(tmp_path, raw):
    with pytest.raises(CheckpointError) as caught:
        open_safetensors(with_header(tmp_path / "m.safetensors", raw, 0))
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 600


def test_config_json_that_is_no_proper_json_is_refused(folder):
    for raw in (b"", b"[]", b"{", b"[" * 100_000, b"\xff", b'{"d_model": 1, "d_model": 2}', b"null"):
        (folder / "config.json").write_bytes(raw)
        assert not identical_or_refused(folder)


PEAK = """
import sys
from pathlib import Path
from mambascope.spectra.checkpoint import Checkpoint
from mambascope.spectra.errors import CheckpointError
def peak_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
Path("/proc/self/clear_refs").write_text("5")  # a new peak begins; ru_maxrss would begin at the parent's peak
before = peak_kb()
try:
    Checkpoint.open(Path(sys.argv[1]))
except CheckpointError as error:
    print(peak_kb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.parametrize(
    "attack", ["length", "long header", "dense header", "huge tensor", "huge pickle", "dense pickle", "huge directory"]
)
def test_refusal_costs_less_than_64_mb(original, tmp_path, attack):
    layout = "state-spaces" if attack.endswith(("pickle", "directory")) else "transformers"
    folder = shutil.copytree(original / layout, tmp_path / "model")
    path = weights_of(folder)
    if attack == "length":
        with_header(path, b"{}", 0, length=2**63)
    elif attack == "long header":
        with_header(path, b"{}", 0, length=2**30)
        os.truncate(path, 2**31)
    elif attack == "dense header":
        with_header(path, b'{"a":[' + b"{}," * (2**21 // 3 - 10) + b"0]}", 0)
    elif attack == "huge tensor":
        header = {"a": entry(shape=(2**33,), end=2**35)}
        with_header(path, header, 0)
        os.truncate(path, path.stat().st_size + 2**35)
    elif attack == "huge pickle":
        repacked(path, pickle.dumps({str(i): i for i in range(300_000)}, 2))
    elif attack == "dense pickle":
        repacked(path, b"\x80\x02(" + b"}" * (2**19 - 10) + b"l.")
    else:
        with zipfile.ZipFile(path, "a") as archive:
            for i in range(40_000):
                archive.writestr(f"archive/{i}", b"")
    try:
        done = subprocess.run([sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True, check=True)
    finally:
        path.unlink()
    assert int(done.stdout) < 64 * 1024  # KB
