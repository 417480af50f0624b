"""Options that several commands share, and how lengths are written: ``2048``, ``2k``, ``2k..64k``, ``1k,4k``."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mambascope.spectra.errors import RefusedInputError

MOST_THREADS = 4096
"""More than any machine has cores for one process; torch fails to start many more. Ours."""


class _Models(argparse.Action):
    """Several models, each once: results of two that are the same word could not be told apart."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        if twice := [word for k, word in enumerate(values) if word in values[:k]]:
            raise argparse.ArgumentError(self, f"{twice[0]} is there twice; give it once")
        setattr(namespace, self.dest, values)


def model(text: str) -> str:
    """Read the name of a model; a file is refused here, before anything heavy is loaded.

    Args:
        text: what the user wrote.

    Returns:
        The name, a folder or a hub id.

    Raises:
        argparse.ArgumentTypeError: nothing was written.
        RefusedInputError: it is a file.
    """
    if not text:
        raise argparse.ArgumentTypeError("is empty; write mamba2-tiny, a folder or a hub id")
    if os.path.isfile(text):
        raise RefusedInputError(
            f"model {text}: is a file; give a bundled name (see `mambascope models`), the folder that holds "
            "config.json and the weights, or a hub id owner/name"
        )
    return text


def threads(text: str) -> int:
    """Read a number of threads; one below 1 is refused later, with the other numbers of a command.

    Args:
        text: what the user wrote.

    Returns:
        The number.

    Raises:
        argparse.ArgumentTypeError: it is none, or beyond any machine.
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text.strip()) or int(text) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads from 1 to {MOST_THREADS}; write 2")
    return int(text)


def at_least(args: argparse.Namespace, least: int, names: Sequence[str]) -> None:
    """Refuse options that are given and too small.

    Args:
        args: the command's options.
        least: the least value.
        names: of whole-number options, as in Python; None is not given.

    Raises:
        RefusedInputError: the first that is smaller.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and value < least:
            raise RefusedInputError(f"--{name.replace('_', '-')} {value}: expected at least {least}")


def length(text: str) -> int:
    """Read one length: digits, with ``k`` for 1024 or ``m`` for 1024^2 tokens.

    Args:
        text: what the user wrote.

    Returns:
        Tokens.

    Raises:
        argparse.ArgumentTypeError: it is not a length.

    >>> length("64k")
    65536
    """
    match = re.fullmatch(r"([0-9]{1,12})([kKmM]?)", text.strip())
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a length; write 2048, 2k, 1m")
    return int(match[1]) * {"": 1, "k": 2**10, "m": 2**20}[match[2].lower()]


def memory(text: str) -> int:
    """Read an amount of memory: a number with ``K``, ``M``, ``G`` or ``T`` for powers of 1000, ``Ki`` ... for 1024.

    Args:
        text: what the user wrote.

    Returns:
        Bytes.

    Raises:
        argparse.ArgumentTypeError: it is not an amount.

    >>> memory("1.5G"), memory("512Mi"), memory("2GB")
    (1500000000, 536870912, 2000000000)
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?(?:([kmgt])(i?)b?)", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of memory; write 4G or 512M")
    power = 1 + "kmgt".index(match[2].lower())
    return int(float(match[1]) * (1024**power if match[3] else 1000**power))


def power_of_two(text: str) -> int:
    """Read a power of two.

    Args:
        text: what the user wrote.

    Returns:
        The number.

    Raises:
        argparse.ArgumentTypeError: it is not one.
    """
    if not text.isdecimal() or int(text).bit_count() != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a power of 2; write 1024")
    return int(text)


def lengths(text: str) -> list[int]:
    """Read several lengths: a list with commas, ``A..B`` for A, 2A, 4A up to B.

    Args:
        text: what the user wrote.

    Returns:
        Lengths in tokens, ascending.

    Raises:
        argparse.ArgumentTypeError: a part is not a length, or a range runs backwards.

    >>> lengths("1k..4k,6k")
    [1024, 2048, 4096, 6144]
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dots, last = part.partition("..")
        low, high = length(first), length(last) if dots else length(first)
        if high < low:
            raise argparse.ArgumentTypeError(f"{part!r} runs backwards; write {last}..{first}")
        while low <= high:
            found.add(low)
            low *= 2
    return sorted(found)


def add_model(parser: argparse.ArgumentParser, *, many: bool = False) -> None:
    """Add the model, its device, dtype and tokenizer."""
    what = "bundled name (see `mambascope models`), folder with config.json and weights, or hub id owner/name"
    several: dict[str, Any] = {"nargs": "*", "action": _Models} if many else {}
    parser.add_argument("model", metavar="MODEL", type=model, help=what, **several)
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "float64", "bfloat16", "float16"),
        help="of the weights; states are never below float32. Default: float32",
    )
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="tokenizer.json, if the model's folder has none")
    parser.add_argument("--threads", type=threads, metavar="N", help="CPU threads. Default: torch's own choice")
    add_limits(parser)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add what is asked and checked before a model runs."""
    limit = "refuse to start what needs more, such as 4G. Default: what is free"
    parser.add_argument("--max-memory", type=memory, metavar="SIZE", help=limit)
    parser.add_argument("--dry-run", action="store_true", help="say how much time and memory it takes, and end")


def add_train_length(parser: argparse.ArgumentParser) -> None:
    """Add the training length."""
    parser.add_argument(
        "--train-length",
        type=length,
        metavar="T",
        help="tokens the model was trained on at once; bundled and baked models know it (state-spaces/*: 2k)",
    )


def add_text(parser: argparse.ArgumentParser, role: str, help_text: str) -> None:
    """Add an option that takes text files of one role."""
    parser.add_argument(f"--{role}", type=Path, nargs="+", metavar="FILE", help=help_text)


def add_output(parser: argparse.ArgumentParser, *, required: bool = False, default: str | None = None) -> None:
    """Add the run folder and what to do if it is in use."""
    note = f" Default: {default}" if default else ""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        required=required,
        default=default and Path(default),
        help=f"run folder: manifest, tables, figures; the same command on it resumes.{note}",
    )
    parser.add_argument("--fresh", action="store_true", help="start over in the run folder")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the switch for machine-readable output."""
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout, nothing else")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add where independent work runs; results do not depend on it."""
    parser.add_argument(
        "--engine",
        default="loky",
        help="sequential, loky (default), dask, dask://HOST:PORT or ray: where the work runs; the same bytes from all",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="worker processes. Default: one a core")
