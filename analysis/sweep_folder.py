"""The run folder of a sweep, which processes of single cells share: it is finished once the tables are put together."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from .atomic import json_bytes
from .manifest import MANIFEST, RunFolderError, read_manifest
from .runs import FolderBusyError, RunFolder

_WAIT_S = 0.05


class SweepFolder(RunFolder):
    """A run folder whose results say which plan and which files they rest on; its own identity has neither."""

    plan: dict[str, Any] | None = None
    """What results say of their plan, beside the verb; a plan may grow, so the folder's identity does without."""
    read: tuple[dict[str, str], ...] = ()
    """The files that are read, by content."""

    def made_by(self) -> dict[str, Any]:
        """Return how the results are made, with the plan and every file that was read."""
        found = super().made_by()
        return found | {"command": found["command"] | (self.plan or {}), "inputs": list(self.read)}


class _Shared(SweepFolder):
    """What a process of one cell opens: when it lets go the sweep still runs."""

    def _finish(self, lock: int, seconds: float) -> None:
        pass


def share(folder: Path, identity: dict[str, Any]) -> None:
    """Make the run folder if it is not there; of several processes that begin at once one does it, the others wait.

    Args:
        folder: where.
        identity: arguments of ``RunFolder.open``.

    Raises:
        RunFolderError: it is of another run, or is somebody else's.
    """
    while not (folder / MANIFEST).exists():
        with suppress(FolderBusyError), _Shared.open(folder, **identity):
            return
        time.sleep(_WAIT_S)
    there = read_manifest(folder)
    for name in ("command", "device", "dtype"):
        if getattr(there, name) != identity[name]:
            raise RunFolderError(
                f"{folder}: holds a different run ({name} is {json_bytes(getattr(there, name)).decode()} there, "
                f"{json_bytes(identity[name]).decode()} now); choose another folder with -o"
            )


def goes_on(folder: Path, identity: dict[str, Any]) -> None:
    """Say in the manifest that the sweep runs, where it says that it has ended: a cell is about to be done.

    Args:
        folder: a sweep's run folder.
        identity: arguments of ``RunFolder.open``.
    """
    while read_manifest(folder).status != "running":
        with suppress(FolderBusyError), _Shared.open(folder, **identity):
            return
        time.sleep(_WAIT_S)


def stopped(folder: Path, identity: dict[str, Any], alone: Callable[[Path], None], stop: BaseException) -> NoReturn:
    """Say in the manifest that the sweep was stopped, unless other processes go on with it.

    Args:
        folder: a sweep's run folder.
        identity: arguments of ``RunFolder.open``.
        alone: raises ``FolderBusyError`` where others are at work in a folder.
        stop: what stopped this process.

    Raises:
        BaseException: ``stop`` itself.
    """
    with suppress(FolderBusyError):
        alone(folder)
        with _Shared.open(folder, **identity):
            raise stop
    raise stop
