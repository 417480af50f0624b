"""What ``manifest.json`` says of a run: what ran, on which inputs, with which versions, and how it ended."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from mambascope.spectra.errors import RefusedInputError

from .atomic import json_bytes

FORMAT = 1
MANIFEST, JOURNAL, LOCK = "manifest.json", "journal.jsonl", ".lock"
RECORDED = (
    "numpy",
    "scipy",
    "torch",
    "numba",
    "safetensors",
    "msgspec",
    "joblib",
    "triton",
    "mamba-ssm",
    "causal-conv1d",
    "transformers",
)
"""Distributions whose versions can change a number, or the reading of a file."""

Status = Literal["running", "finished", "interrupted", "failed"]


class RunFolderError(RefusedInputError):
    """The folder holds something else than this run: another command, another format, somebody's files."""


class InputFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that a run reads."""

    role: str
    """What it is for, such as ``checkpoint`` or ``text``."""
    name: str  # without folders, which differ from machine to machine
    sha256: str
    bytes: int

    @classmethod
    def of(cls, role: str, path: str | os.PathLike[str]) -> Self:
        """Describe a file by its content, or raise ``RefusedInputError`` if it cannot be read."""
        name = os.fsencode(Path(path).name).decode(errors="backslashreplace")
        try:
            return cls(role, name, sha256_of(path), os.stat(path).st_size)
        except OSError as problem:
            raise RefusedInputError(f"{path}: cannot read this {role} file: {problem.strerror}") from problem


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``manifest.json`` holds."""

    format: int
    mambascope: str
    argv: list[str]
    """The command line of the latest session."""
    command: dict[str, Any]
    """The normalised spec; with seed, device, dtype and inputs it says whether two runs are the same."""
    seed: int | None
    device: str
    dtype: str
    engine: str = ""
    """What runs the scans, and why; empty where no model runs, and in folders of versions that did not record it."""
    inputs: list[InputFile]
    outputs: dict[str, str | None]
    """SHA-256 of each file that the run made; null until the run has finished."""
    status: Status
    error: str | None = None
    started_utc: str
    finished_utc: str | None = None
    """When the latest session ended, in whatever way."""
    seconds: float | None = None
    """Wall-clock time that the latest session took."""
    resumed: int = 0
    """Number of sessions after the first."""
    changes: list[str] = []
    """What was not the same in an earlier session: versions, Python, platform, engine."""
    versions: dict[str, str]
    platform: str
    threads: int
    pid: int
    host: str


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Return a run folder's manifest, always a whole one, or raise ``RunFolderError`` if it is not one we know."""
    path = Path(folder, MANIFEST)
    try:
        data = path.read_bytes()
        head = msgspec.json.decode(data)
        written = head.get("format") if isinstance(head, dict) and "mambascope" in head else None
        if written != FORMAT:
            raise RunFolderError(
                f"{path}: is not a run folder's manifest of format {FORMAT} (format: {written!r}); "
                "it was left as it is: choose another folder with -o"
            )
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as problem:
        raise RunFolderError(f"{path}: cannot be read ({problem}); choose another folder with -o") from None


def new_manifest(
    command: Mapping[str, Any], argv: Sequence[str] | None, threads: int | None, **stated: Any
) -> Manifest:
    """Describe a run that starts now; ``stated`` are the fields that only the caller knows."""
    words = list(sys.argv if argv is None else argv)
    words[:1] = [os.path.basename(word) for word in words[:1]]
    return Manifest(
        format=FORMAT,
        mambascope=version_of("mambascope") or "not installed",
        argv=[os.fsencode(word).decode(errors="backslashreplace") for word in words],
        command=msgspec.json.decode(json_bytes(dict(command)), type=dict[str, Any]),
        outputs={},
        status="running",
        started_utc=utc_now(),
        versions={"python": platform.python_version()}
        | {n: v for n in RECORDED if (v := version_of(n))}
        | _gpu(stated),
        platform=platform.platform(),
        threads=threads or os.cpu_count() or 1,
        pid=os.getpid(),
        host=socket.gethostname(),
        **stated,
    )


def resumed_manifest(old: Manifest, new: Manifest) -> Manifest:
    """Describe a run that goes on: what the old manifest started, and what has changed since."""
    there, now = (m.versions | {"mambascope": m.mambascope, "platform": m.platform} for m in (old, new))
    names = (name for name in sorted(there | now) if there.get(name) != now.get(name))
    changes = old.changes + [f"{name}: {there.get(name)} -> {now.get(name)}" for name in names]
    if old.engine and old.engine != new.engine:
        changes.append(f"engine: {old.engine} -> {new.engine or 'none'}")
    kept = {"started_utc": old.started_utc, "resumed": old.resumed + 1, "outputs": dict.fromkeys(old.outputs)}
    return msgspec.structs.replace(new, changes=changes, **kept)


def _gpu(stated: Mapping[str, Any]) -> dict[str, str]:
    """Name the GPU and its CUDA, where a run is on one."""
    device = str(stated.get("device", ""))
    if not device.startswith("cuda"):
        return {}
    import torch

    if not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda or ""}


@cache
def version_of(name: str) -> str | None:
    """Return the version of an installed distribution."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def utc_now() -> str:
    """Return the time as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
