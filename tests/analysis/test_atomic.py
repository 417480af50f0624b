"""Test ``mambascope.analysis.atomic``: a file is the old one or the new one, and a failed write says what to do."""

import errno
import json
import math
import os
import signal
import stat
import subprocess
import sys

import pytest

from mambascope.analysis.atomic import (
    NotFiniteError,
    StorageError,
    ignore_file_size_signal,
    json_bytes,
    replacing,
    write_bytes,
    write_json,
    write_text,
)
from mambascope.spectra.errors import MambascopeError, RefusedInputError
from mambascope.spectra.temporary import TEMPORARY

LIMITED = """
import resource, signal, sys
from mambascope.analysis.atomic import ignore_file_size_signal, write_json
from mambascope.spectra.errors import MambascopeError
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
if sys.argv[2] == "ignore":
    ignore_file_size_signal()
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    write_json(sys.argv[1], {"rows": list(range(100_000))})
except MambascopeError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def names(folder):
    return sorted(os.listdir(folder))


def test_writes_replace_and_leave_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    for obj in ({"b": 1, "a": [0.1, 1e-320, -0.0]}, {"é": None}):
        write_json(path, obj)
        assert json.loads(path.read_text()) == obj
    write_text(tmp_path / "a.txt", "one\r\ntwo\n")
    assert (tmp_path / "a.txt").read_bytes() == b"one\r\ntwo\n"
    assert names(tmp_path) == ["a.json", "a.txt"]


def test_json_has_one_form(tmp_path):
    write_json(tmp_path / "a", {"b": 0.1, "a": (1, 2)})
    assert (tmp_path / "a").read_bytes() == b'{\n "a": [\n  1,\n  2\n ],\n "b": 0.1\n}\n'
    assert json_bytes({"b": 1, "a": 2}) == json_bytes({"a": 2, "b": 1}) == b'{"a":2,"b":1}'


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_is_refused_with_its_place(tmp_path, bad):
    write_json(tmp_path / "a", 1)
    with pytest.raises(NotFiniteError, match=r"result\.rows\[1\]\.loss is -?(nan|inf)") as caught:
        write_json(tmp_path / "a", {"rows": [{"loss": 1.0}, {"loss": bad}]})
    assert caught.value.exit_code == 4
    assert (tmp_path / "a").read_text() == "1\n"
    assert names(tmp_path) == ["a"]


def test_text_that_is_not_unicode_is_refused(tmp_path):
    with pytest.raises(RefusedInputError, match="not valid Unicode"):
        write_json(tmp_path / "a", os.fsdecode(b"caf\xe9"))


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_links_are_followed_and_devices_are_refused(tmp_path):
    write_text(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    for path in ("/dev/full", tmp_path):
        with pytest.raises(RefusedInputError, match="not an ordinary file"):
            write_text(path, "x")


def test_replacing_keeps_the_suffix_and_long_names(tmp_path):
    for name in ("figure.png", "n" * 251 + ".png"):
        with replacing(tmp_path / name) as temporary:
            assert temporary.suffix == ".png"
            assert TEMPORARY.match(temporary.name)
            temporary.write_bytes(b"png")
            assert not (tmp_path / name).exists()
        assert (tmp_path / name).read_bytes() == b"png"
    assert not any(map(TEMPORARY.match, names(tmp_path)))


def torch_like():
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    finally:
        raise RuntimeError("unexpected pos 64 vs 0")


def rust_like():
    raise ValueError("Error while serializing: I/O error: No space left on device (os error 28)")


def system():
    raise OSError(errno.EDQUOT, "Quota")


@pytest.mark.parametrize("fail", [torch_like, rust_like, system])
def test_no_space_is_seen_through_libraries(tmp_path, fail):
    write_text(tmp_path / "a", "old")

    def write():
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            fail()

    with pytest.raises(StorageError, match=r"a: could not be written .*same command once there is space") as caught:
        write()
    assert (caught.value.exit_code, caught.value.path) == (5, tmp_path / "a")
    assert caught.value.errno in {errno.ENOSPC, errno.EDQUOT}
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, MambascopeError])
def test_other_errors_pass_unchanged(tmp_path, error):
    write_text(tmp_path / "a", "old")
    with pytest.raises(error), replacing(tmp_path / "a"):
        raise error
    with pytest.raises(FileNotFoundError, match="no-such-input"), replacing(tmp_path / "a"):
        (tmp_path / "no-such-input").read_bytes()
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_missing_folder(tmp_path):
    with pytest.raises(StorageError, match=r"No such file or directory.*once the folder can be written"):
        write_bytes(tmp_path / "no" / "a", b"")


def test_file_size_limit(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, "old")
    limited = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run([*limited, "ignore"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 5, done.stderr
    assert "File too large" in done.stderr
    assert str(path) in done.stderr
    assert path.read_text() == '"old"\n'
    assert names(tmp_path) == ["result.json"]
    # Negative control: without the call the process dies of the signal.
    died = subprocess.run([*limited, "die"], capture_output=True, check=False, timeout=60)
    assert died.returncode == -signal.SIGXFSZ
    assert path.read_text() == '"old"\n'


def test_ignoring_the_signal_here():
    before = signal.getsignal(signal.SIGXFSZ)
    try:
        ignore_file_size_signal()
        assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGXFSZ, before)
