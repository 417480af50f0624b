"""Run folders: one command, one folder, resumable after any death, never two writers, never a stranger's file touched.

``manifest.json`` says what runs here and how (times, process and host are only there, so that result files can be equal
byte by byte), ``journal.jsonl`` holds each finished cell, ``.lock`` is held by the kernel for as long as the process
lives. A status of ``running`` without a holder of the lock means that the process was killed: it resumes all the same.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, Self

import msgspec

from mambascope.spectra.errors import MambascopeError
from mambascope.spectra.temporary import TEMPORARY

from .atomic import StorageError, json_bytes, sync_folder, write_json
from .interrupts import not_lost
from .journal import Journal
from .manifest import (
    JOURNAL,
    LOCK,
    MANIFEST,
    InputFile,
    Manifest,
    RunFolderError,
    Status,
    new_manifest,
    read_manifest,
    resumed_manifest,
    sha256_of,
    utc_now,
)

__all__ = ["FolderBusyError", "InputFile", "Manifest", "RunFolder", "RunFolderError", "read_manifest"]


class FolderBusyError(MambascopeError):
    """Another live process runs in the folder; ``pid`` is its number, when it could be read."""

    exit_code = 75

    def __init__(self, folder: Path, holder: str) -> None:
        pid = holder.partition(" ")[0]
        self.pid = int(pid) if pid.isdecimal() else None
        who = f"process {holder.replace(' ', ' on ', 1)}" if holder else "another process"
        super().__init__(f"{folder}: {who} is running in this folder; wait for it, or choose another folder with -o")


class RunFolder:
    """A folder that one run owns, made by ``RunFolder.open``; ``resuming`` says that an earlier session left cells."""

    def __init__(self, folder: Path, manifest: Manifest, journal: Journal, *, resuming: bool) -> None:
        self.folder, self.manifest, self.journal, self.resuming = folder, manifest, journal, resuming

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        command: Mapping[str, Any],
        seed: int | None,
        fresh: bool = False,
        inputs: Sequence[InputFile] = (),
        device: str = "cpu",
        dtype: str = "float32",
        engine: str = "",
        threads: int | None = None,
        argv: Sequence[str] | None = None,
    ) -> Generator[Self, None, None]:
        """Start a run in a folder, or resume it: the same spec resumes, a different one is refused.

        Args:
            folder: made if it is missing.
            command: the normalised spec of what is run, as JSON; nothing in it may differ between two equal runs.
            seed: the root seed.
            fresh: start over, deleting what an earlier run's manifest lists as its own, and nothing else.
            inputs: the files that are read; a changed content makes a different run.
            device: the resolved device, not ``auto``.
            dtype: the floating-point type of the computation.
            engine: what runs the scans, and why; recorded, and named among the changes where a resumed run has another.
            threads: threads used. Default: the number of cores; recorded only, results must not depend on it.
            argv: the command line. Default: that of this process.

        Yields:
            The run; when the block ends its status is recorded, and an exception goes on as it is.

        Raises:
            RunFolderError: the folder is of another run, or is somebody else's.
            FolderBusyError: another process runs in it.
            StorageError: the folder cannot be written.
        """
        folder = Path(folder)
        with ExitStack() as stack:
            lock = stack.enter_context(_locked(folder))
            stated = {"seed": seed, "device": device, "dtype": dtype, "engine": engine, "inputs": list(inputs)}
            new, begin = new_manifest(command, argv, threads, **stated), time.monotonic()
            _refuse_strangers(folder)
            old = read_manifest(folder) if os.path.lexists(folder / MANIFEST) else None
            if old and not fresh:
                _refuse_difference(folder, old, new)
                new = resumed_manifest(old, new)
            _name_holder(lock)
            _remove_temporaries(folder, old)
            if old and fresh:
                _remove_own(folder, old)
            run: Self | None = None
            try:  # from here on the manifest says that it runs, and must not go on saying so
                write_json(folder / MANIFEST, msgspec.to_builtins(new))
                run = cls(
                    folder, new, stack.enter_context(Journal.open(folder / JOURNAL)), resuming=bool(old) and not fresh
                )
                with not_lost():
                    yield run
                run._finish(lock, time.monotonic() - begin)
            except BaseException as problem:
                if lock in _held:
                    stopped = _stopped(run.manifest if run else new, problem, time.monotonic() - begin)
                    if run:
                        run.manifest = stopped
                    with suppress(MambascopeError):  # the first problem is the one to tell
                        write_json(folder / MANIFEST, msgspec.to_builtins(stopped))
                raise

    def cell(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return a cell's value, computing it only if no earlier session has.

        Args:
            key: names the cell within the run; never a worker's or a process's number.
            compute: gives the value, as JSON.

        Returns:
            The value as it reads from the journal, so that fresh and resumed runs see the same.
        """
        if ("cell", key) not in self.journal:
            self.journal.append("cell", key, compute())
        return self.journal.get("cell", key)

    def output(self, name: str) -> Path:
        """Claim a result file for this run; write it with ``atomic``, so that a reader never sees half of it.

        Args:
            name: its path below the folder, with ``/``.

        Returns:
            Where to write it; the folders above it exist.

        Raises:
            RunFolderError: the name leads out of the folder, is one of our own, or is a file that is not this run's.
            StorageError: the folders could not be made.
        """
        path = _below(self.folder, name)
        name = PurePosixPath(name).as_posix()
        if name not in self.manifest.outputs:
            if os.path.lexists(path):
                raise RunFolderError(f"{path}: is there already and not of this run; move it away, or use another -o")
            self._record(outputs=self.manifest.outputs | {name: None})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise StorageError(path.parent, problem) from problem
        return path

    def made_by(self) -> dict[str, Any]:
        """Return how the results are made, for the head of a result file: nothing that differs between equal runs."""
        names = ("mambascope", "command", "seed", "device", "dtype", "engine", "inputs", "versions", "changes")
        return {name: msgspec.to_builtins(getattr(self.manifest, name)) for name in names}

    def _record(self, **changes: Any) -> None:
        self.manifest = msgspec.structs.replace(self.manifest, **changes)
        write_json(self.folder / MANIFEST, msgspec.to_builtins(self.manifest))

    def _finish(self, lock: int, seconds: float) -> None:
        if lock not in _held:  # in a forked child
            return
        made = [name for name in self.manifest.outputs if (self.folder / name).is_file()]
        outputs = {name: sha256_of(self.folder / name) for name in made}
        self._record(status="finished", finished_utc=utc_now(), seconds=round(seconds, 3), outputs=outputs)


def _stopped(manifest: Manifest, problem: BaseException, seconds: float) -> Manifest:
    told = f"{type(problem).__name__}: {problem}".encode(errors="replace").decode()
    status: Status = "failed" if isinstance(problem, Exception) else "interrupted"
    return msgspec.structs.replace(
        manifest,
        status=status,
        finished_utc=utc_now(),
        seconds=round(seconds, 3),
        error=told if status == "failed" else None,
    )


_held: set[int] = set()
"""Descriptors of our locks. A forked child closes its copies, or an orphaned worker would keep the folder locked."""


def _forget_locks() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_forget_locks)


@contextmanager
def _locked(folder: Path) -> Generator[int, None, None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_strangers(folder, unlocked=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except FileExistsError:
        raise RunFolderError(f"{folder}: is a file; -o takes a folder") from None
    except OSError as problem:
        raise StorageError(folder, problem) from problem
    _held.add(lock)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderBusyError(folder, _holder(lock)) from None
        except OSError as problem:  # a file system without locks
            raise StorageError(folder, problem) from problem
        yield lock
    finally:
        if lock in _held:
            _held.remove(lock)
            os.close(lock)


def _name_holder(lock: int) -> None:
    with suppress(OSError):  # it only makes the other's message better
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)


def _holder(lock: int) -> str:
    for _ in range(10):  # it may have taken the lock only now
        if text := os.pread(lock, 300, 0).decode(errors="replace").strip():
            return text
        time.sleep(0.03)
    return ""


def _refuse_strangers(folder: Path, *, unlocked: bool = False) -> None:
    found = {name for name in os.listdir(folder) if name != LOCK and not TEMPORARY.match(name)}
    # The lock is made before anything else of ours: where it is, another process may just be starting.
    if found and not (folder / MANIFEST).exists() and not (unlocked and (folder / LOCK).exists()):
        raise RunFolderError(
            f"{folder}: holds files ({', '.join(sorted(found)[:3])}) but no {MANIFEST} of a run; "
            "nothing was touched: choose an empty or new folder with -o"
        )


def _refuse_difference(folder: Path, old: Manifest, new: Manifest) -> None:
    def identity(manifest: Manifest) -> dict[str, str]:
        everything = msgspec.to_builtins(manifest)
        return dict(_leaves({name: everything[name] for name in ("command", "seed", "device", "dtype", "inputs")}))

    there, now = identity(old), identity(new)
    keys = [key for key in sorted(there | now) if there.get(key) != now.get(key)]
    if keys:
        told = [f"{key} is {there.get(key, 'absent')} there, {now.get(key, 'absent')} now" for key in keys]
        raise RunFolderError(
            f"{folder}: holds a different run ({'; '.join([*told[:5], *['and more'] * (len(told) > 5)])}); "
            "choose another folder with -o, or start over with --fresh"
        )


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if value and isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, json_bytes(value).decode()  # as text, 1 and 1.0 and true differ


def _below(folder: Path, name: str) -> Path:
    """Return the path of an output; whatever a manifest says, it is never outside the folder and never our own file."""
    pure = PurePosixPath(name)
    path = folder / pure
    ours = pure.parts and (pure.parts[0] in {MANIFEST, JOURNAL, LOCK} or TEMPORARY.match(pure.name))
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or ours:
        raise RunFolderError(f"{name!r} cannot be the name of a result file in {folder}")
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise RunFolderError(f"{path}: leads out of the run folder through a link; remove the link, or use another -o")
    return path


def _remove_own(folder: Path, manifest: Manifest) -> None:
    paths = [_below(folder, name) for name in manifest.outputs]  # all are checked before the first is removed
    for path in [*paths, folder / JOURNAL]:
        try:
            if path.is_file() or path.is_symlink():
                path.unlink()
                sync_folder(path.parent)
        except OSError as problem:
            raise StorageError(path, problem) from problem


def _remove_temporaries(folder: Path, manifest: Manifest | None) -> None:
    parents = {_below(folder, name).parent for name in manifest.outputs} if manifest else set()
    for parent in {folder, *parents}:
        with suppress(OSError):
            for path in parent.iterdir():
                if TEMPORARY.match(path.name):
                    path.unlink()
