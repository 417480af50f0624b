"""Results of a sweep by address: one file each, written wholly or not at all, by any number of processes at once.

``cells/KEY.json`` holds what a cell depends on, what came out and on which kind of machine; ``fits/KEY.json`` a fitted
method, its arrays beside it; ``failed/KEY.json`` why a cell could not be done, for as long as it is not. A process that
works on a cell or a fit holds a lock on a byte of ``.sweep-lock``, which the kernel gives back when the process ends,
however it ends. Where a file system has no locks, two processes may do the same work; they then write the same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
import numpy as np
import safetensors.numpy

from mambascope.spectra.temporary import TEMPORARY

from .arrays import Arrays
from .atomic import StorageError, json_bytes, sync_folder, write_bytes, write_json
from .engine_each import TRIES, Failure
from .methods import Fitted
from .runs import FolderBusyError
from .sweep_keys import key_of

Kind = Literal["cells", "fits", "failed"]
KINDS: tuple[Kind, ...] = ("cells", "fits", "failed")
LOCK = ".sweep-lock"
WORK = "work"
"""Folder of fits that are on their way; each goes when its fit is there."""
_OURS = re.compile(r"[0-9a-f]{64}\.(json|safetensors)")
_OPEN = 2**61
"""The byte that whoever has the store open holds together with others; keys have bytes below 2^60."""
_WAIT_S = 0.2


class SweepStore:
    """The results below one folder."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder, self._lock = folder, lock
        self._held: Counter[str] = Counter()
        """How often this process claims each key."""

    @classmethod
    @contextmanager
    def open(cls, folder: Path, *, fresh: bool = False) -> Generator[Self, None, None]:
        """Open a store, making what is missing.

        Args:
            folder: a run folder.
            fresh: drop all results first, if no other process has the store open.

        Yields:
            The store.

        Raises:
            StorageError: the folder cannot be written.
            FolderBusyError: results cannot be dropped, as others are at work.
        """
        try:
            for kind in KINDS:
                (folder / kind).mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as problem:
            raise StorageError(folder, problem) from problem
        try:
            store = cls(folder, lock)
            alone = _locked_whole(lock)
            if fresh:
                if alone is False:
                    raise FolderBusyError(folder, "")
                store._drop()
            if alone:
                with suppress(OSError):
                    store._clean()
                fcntl.lockf(lock, fcntl.LOCK_UN)
            with suppress(OSError):
                fcntl.lockf(lock, fcntl.LOCK_SH, 1, _OPEN)
            yield store
        finally:
            os.close(lock)

    @staticmethod
    def refuse_busy(folder: Path) -> None:
        """Refuse a folder in whose store others are at work; not for a process that has it open itself.

        Args:
            folder: a run folder, or one that is to be made.

        Raises:
            FolderBusyError: another process has it open.
        """
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return
        try:
            if _locked_whole(lock) is False:
                raise FolderBusyError(folder, "")
        finally:
            os.close(lock)

    def _clean(self) -> None:
        """Remove what killed writers have left: half files, and traces of what was done just before."""
        for kind in KINDS:
            for path in (self.folder / kind).iterdir():
                done = any((self.folder / k / path.name).exists() for k in KINDS[:2]) if kind == "failed" else False
                if done or TEMPORARY.match(path.name):
                    path.unlink()
        for folder in self.folder.glob(f"{WORK}/*"):
            if self._path("fits", folder.name).exists():
                shutil.rmtree(folder, ignore_errors=True)

    def _drop(self) -> None:
        for kind in KINDS:
            for path in (self.folder / kind).iterdir():
                if _OURS.fullmatch(path.name):
                    path.unlink(missing_ok=True)
        shutil.rmtree(self.folder / WORK, ignore_errors=True)

    # -- one key, one worker -------------------------------------------------------------------------------------------

    @contextmanager
    def claimed(self, key: str, waiting: Callable[[], None] = lambda: None) -> Generator[None, None, None]:
        """Hold a key, so that no other process works on it; wait for one that does.

        Args:
            key: which.
            waiting: called once if there is something to wait for.

        Yields:
            Nothing.
        """
        told = False
        while not self.claim(key):
            if not told:
                waiting()
            told = True
            time.sleep(_WAIT_S)
        try:
            yield
        finally:
            self.release(key)

    def claim(self, key: str) -> bool:
        """Hold a key, which may be held already, until it was released as often; False where another process does."""
        if not self._held[key]:
            try:
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
            except (BlockingIOError, PermissionError):
                return False
            except OSError:  # a file system without locks
                pass
        self._held[key] += 1
        return True

    def release(self, key: str) -> None:
        """Let go of a key once."""
        self._held[key] -= 1
        if not self._held[key]:
            with suppress(OSError):
                fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, _place(key))

    def busy(self, key: str) -> bool:
        """Return True where another process holds a key at this moment."""
        if not self.claim(key):
            return True
        self.release(key)
        return False

    def wait_for_one(self, keys: Collection[str]) -> None:
        """Wait until no other process holds one of some keys."""
        while all(self.busy(key) for key in keys):
            time.sleep(_WAIT_S)

    # -- cells ---------------------------------------------------------------------------------------------------------

    def _path(self, kind: Kind, key: str, suffix: str = ".json") -> Path:
        return self.folder / kind / f"{key}{suffix}"

    def _put(self, kind: Kind, facts: Mapping[str, Any], result: Any, made_on: Mapping[str, Any] | None = None) -> str:
        key, beside = key_of(facts), {} if made_on is None else {"made_on": dict(made_on)}
        write_json(self._path(kind, key), {"facts": facts, "result": result, "sha256": _sum(result)} | beside)
        if kind != "failed":
            with suppress(FileNotFoundError):
                self._path("failed", key).unlink()
                sync_folder(self.folder / "failed")
        return key

    def _get(self, kind: Kind, key: str) -> Any | None:
        """Return a result; None where there is none, or a file that is not whole: it is then made anew."""
        try:
            stored = msgspec.json.decode(self._path(kind, key).read_bytes())
            whole = key_of(stored["facts"]) == key and _sum(stored["result"]) == stored["sha256"]
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
            return None
        return stored["result"] if whole else None

    def put_cell(
        self, facts: Mapping[str, Any], result: Mapping[str, Any], made_on: Mapping[str, Any] | None = None
    ) -> None:
        """Keep a cell's result for good, and on what kind of machine it was found, see ``sweep_machine.machine``."""
        self._put("cells", facts, dict(result), made_on)

    def cell(self, key: str) -> dict[str, Any] | None:
        """Return a cell's result; None where there is none."""
        found: dict[str, Any] | None = self._get("cells", key)
        return found

    def made_on(self, key: str) -> dict[str, Any] | None:
        """Return on what kind of machine a cell's result was found; None where that is not known."""
        try:
            found = msgspec.json.decode(self._path("cells", key).read_bytes(), type=dict[str, Any]).get("made_on")
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    # -- failures ------------------------------------------------------------------------------------------------------

    def put_failure(self, facts: Mapping[str, Any], failure: Failure, tries: int) -> None:
        """Record why a cell or a fit could not be done, and after how many tries; ``TRIES`` where it is given up."""
        error = failure.error.encode(errors="backslashreplace").decode()  # may name a file whose name is not UTF-8
        self._put("failed", facts, failure.to_dict() | {"error": error, "tries": tries})

    def failure(self, key: str) -> Failure | None:
        """Return why a cell or a fit could not be done; None where it was not tried, or is done."""
        found = None if self.cell(key) is not None or self.fit(key) is not None else self._get("failed", key)
        return None if found is None else Failure(found["kind"], found["error"], found["exit_code"])

    def given_up(self, key: str) -> bool:
        """Return True where a cell or a fit has failed as often as it is tried."""
        found = self._get("failed", key)
        return found is not None and found["tries"] >= TRIES and self.failure(key) is not None

    # -- fits ----------------------------------------------------------------------------------------------------------

    def put_fit(self, facts: Mapping[str, Any], fitted: Fitted, made_on: Mapping[str, Any] | None = None) -> None:
        """Keep a fitted method for good: its arrays first."""
        key, digest = key_of(facts), None
        if fitted.arrays:
            arrays = {name: np.ascontiguousarray(array) for name, array in sorted(fitted.arrays.items())}
            data = safetensors.numpy.save(arrays)
            write_bytes(self._path("fits", key, ".safetensors"), data)
            digest = hashlib.sha256(data).hexdigest()
        self._put("fits", facts, {"fitted": fitted.to_dict(), "arrays_sha256": digest}, made_on)
        shutil.rmtree(self.work(key), ignore_errors=True)
        with suppress(OSError):
            (self.folder / WORK).rmdir()  # where it was the last

    def fit(self, key: str) -> Fitted | None:
        """Return a fitted method; None where there is none, or its arrays are not those that were written."""
        found = self._get("fits", key)
        if found is None:
            return None
        arrays: Arrays = {}
        if found["arrays_sha256"] is not None:
            try:
                data = self._path("fits", key, ".safetensors").read_bytes()
            except OSError:
                return None
            if hashlib.sha256(data).hexdigest() != found["arrays_sha256"]:
                return None
            arrays = dict(safetensors.numpy.load(data))
        return replace(Fitted.from_dict(found["fitted"]), arrays=arrays)

    def work(self, key: str) -> Path:
        """Return the folder of a fit that is on its way."""
        return self.folder / WORK / key


def _place(key: str) -> int:
    """Return the byte of the lock that stands for a key."""
    return int(key[:15], 16)


def _locked_whole(lock: int) -> bool | None:
    """Lock a store against everybody else; False where others have it open, None where there are no locks."""
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _sum(result: Any) -> str:
    return hashlib.sha256(json_bytes(result)).hexdigest()
