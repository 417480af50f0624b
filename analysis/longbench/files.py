"""Where LongBench's files are: a folder, the official ``data.zip``, or that file from the hub.

Source: the data set THUDM/LongBench on the Hugging Face hub, whose ``data.zip`` holds ``data/<task>.jsonl`` and, for
LongBench-E, ``data/<task>_e.jsonl``.
"""

from __future__ import annotations

import importlib.util
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mambascope.spectra.errors import RefusedInputError, TextError
from mambascope.spectra.tensor_source import shown

from .tasks import TASKS, LongBenchTask, find_tasks

HUB = "hub"
"""What to give in place of a folder."""
REPOSITORY = "THUDM/LongBench"
_ZIP = "data.zip"
LARGEST_BYTES = 2**30
"""Of one task's file. Ours, far above any of them: a zip file may unpack to anything."""


@dataclass(frozen=True, slots=True)
class DataFiles:
    """A folder or zip file with one JSON Lines file a task."""

    place: Path
    """The folder or zip file."""
    extended: bool = False
    """Read LongBench-E, whose lengths are spread evenly, instead of LongBench."""

    @classmethod
    def find(cls, data: str | Path, *, extended: bool = False) -> DataFiles:
        """Find the data.

        Args:
            data: a folder, a zip file, or ``hub``.
            extended: read LongBench-E.

        Returns:
            The files; none is read yet.

        Raises:
            RefusedInputError: there is no such folder or file.
        """
        place = fetched() if str(data) == HUB and not Path(data).exists() else Path(data)
        if not place.exists():
            raise RefusedInputError(
                f"{place}: there is no such folder or zip file; give the folder with LongBench's files such as "
                f"qasper.jsonl, its data.zip, or `{HUB}` to fetch that"
            )
        if not place.is_dir() and not zipfile.is_zipfile(place):
            raise RefusedInputError(f"{place}: neither a folder nor a zip file")
        return cls(place, extended)

    def name_of(self, task: LongBenchTask) -> str:
        """Return the name of a task's file."""
        return f"{task.name}{'_e' if self.extended else ''}.jsonl"

    def chosen(self, names: Sequence[str] = ()) -> tuple[LongBenchTask, ...]:
        """Return the tasks to run.

        Args:
            names: those asked for; none for all whose files are there.

        Returns:
            The tasks, in the order of the paper's table.

        Raises:
            RefusedInputError: one that is asked for is not there, or none is.
        """
        wanted = find_tasks(names or list(TASKS))
        there = tuple(task for task in wanted if self._member(task) is not None)
        missing = [self.name_of(task) for task in wanted if task not in there]
        if missing and (names or not there):
            raise RefusedInputError(f"{self.place}: holds no {', '.join(missing)}; give the folder that does")
        return there

    def read(self, task: LongBenchTask) -> bytes:
        """Return the content of a task's file.

        Args:
            task: one of ``chosen``.

        Returns:
            Its bytes.

        Raises:
            TextError: it cannot be read, or is larger than any real one.
        """
        member = self._member(task)
        where = f"{self.place}/{self.name_of(task)}"
        if member is None:
            raise TextError(f"{where}: there is no such file")
        try:
            data = _read(member) if isinstance(member, Path) else _unpacked(self.place, member)
        except OSError as error:
            raise TextError(f"{where}: cannot be read: {error.strerror or error}") from error
        except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:  # damaged, encrypted, or packed in another way
            raise TextError(f"{where}: cannot be unpacked: {error}") from error
        if len(data) > LARGEST_BYTES:
            raise TextError(f"{where}: more than {LARGEST_BYTES:,} bytes; no file of LongBench is so large")
        return data

    def paths(self, tasks: Sequence[LongBenchTask]) -> list[Path]:
        """Return the files that hold some tasks: theirs, or the zip file."""
        members = [self._member(task) for task in tasks]
        return list(dict.fromkeys(each if isinstance(each, Path) else self.place for each in members if each))

    def _member(self, task: LongBenchTask) -> Path | str | None:
        name = self.name_of(task)
        if self.place.is_dir():
            places = (self.place / name, self.place / "data" / name)
            return next((path for path in places if path.is_file()), None)
        try:
            with zipfile.ZipFile(self.place) as archive:
                held = set(archive.namelist())
        except (OSError, zipfile.BadZipFile) as error:
            raise TextError(f"{self.place}: cannot be read as a zip file: {error}") from error
        return next((each for each in (name, f"data/{name}") if each in held), None)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST_BYTES + 1)


def _unpacked(archive: Path, member: str) -> bytes:
    with zipfile.ZipFile(archive) as held, held.open(member) as packed:
        return packed.read(LARGEST_BYTES + 1)


def fetched() -> Path:
    """Fetch ``data.zip``, or find it in the hub's cache (HF_HUB_OFFLINE is honoured).

    Returns:
        Its file.

    Raises:
        TextError: the ``hub`` extra is missing, or the hub cannot be reached.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise TextError(
            f'fetching the data set {REPOSITORY} needs one more package: pip install "mambascope[hub]"; or give a '
            "folder with its files"
        )
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(REPOSITORY, _ZIP, repo_type="dataset"))
    except (OSError, ValueError) as error:
        raise TextError(
            f"the data set {REPOSITORY}: the hub gave {type(error).__name__}: {shown(str(error))}; check the network, "
            "or give a folder with its files"
        ) from error
