"""Test ``mambascope.analysis.states``: what was written comes back exactly, and damage is always noticed."""

import random

import numpy as np
import pytest
import safetensors.numpy

from mambascope.analysis.states import StateError, read_state, write_state

ARRAYS = {
    "u": np.linspace(0, 1, 7),
    "memory/step": np.array(3.0, dtype=np.float32),
    "turned": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
    "steps": np.array([4]),
    "none": np.empty((0, 2)),
}
ABOUT = {"steps": '[{"step": 1}]', "other": "é"}


def same(found):
    return found.keys() == ARRAYS.keys() and all(
        found[name].dtype == array.dtype and found[name].shape == array.shape and np.array_equal(found[name], array)
        for name, array in ARRAYS.items()
    )


def test_it_comes_back_and_equal_states_are_equal_files(tmp_path):
    for name in "ab":
        write_state(tmp_path / name, ARRAYS, dict(reversed(ABOUT.items())) if name == "b" else ABOUT)
    arrays, about = read_state(tmp_path / "a")
    assert same(arrays)
    assert about == ABOUT
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    arrays["u"][0] = 1.0  # it belongs to the reader
    write_state(tmp_path / "a", ARRAYS)
    assert read_state(tmp_path / "a")[1] == {}


def test_a_state_of_an_earlier_version_is_read(tmp_path):
    """It had no hash: its words stood in the file's metadata as they were."""
    arrays = {name: np.ascontiguousarray(array) for name, array in ARRAYS.items() if array.ndim}
    (tmp_path / "a").write_bytes(safetensors.numpy.save(arrays, metadata=ABOUT))
    found, about = read_state(tmp_path / "a")
    assert found.keys() == arrays.keys()
    assert about == ABOUT
    (tmp_path / "b").write_bytes(safetensors.numpy.save(arrays))
    assert read_state(tmp_path / "b")[1] == {}


def test_no_flipped_byte_is_taken_for_the_state(tmp_path):
    path, rng = tmp_path / "state.safetensors", random.Random(0)
    write_state(path, ARRAYS, ABOUT)
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ (1 << rng.randrange(8))]) + whole[position + 1 :])
        try:
            arrays, _ = read_state(path)
        except StateError as error:
            told = str(error)
        else:
            assert same(arrays), position
            continue
        assert "state.safetensors: not the state of this run" in told
        assert "start over with --fresh" in told
        refused += 1
    assert refused > 0.9 * len(whole)
    both = bytearray(whole)
    both[whole.index(b'"about"') + 1] ^= 1  # the key of the seal, and a number
    both[-1] ^= 1
    path.write_bytes(both)
    with pytest.raises(StateError, match="its hash does not fit"):
        read_state(path)


@pytest.mark.parametrize("data", [b"", b"{}", b"\x80\x02]q\x00.", b"\0" * 64])
def test_what_is_no_state_is_refused(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(StateError, match="not the state of this run"):
        read_state(tmp_path / "a")
    with pytest.raises(StateError):
        read_state(tmp_path / "none")
