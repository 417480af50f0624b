"""The file that says what a sweep is: TOML, read strictly, so that a typing error costs a message and not a night.

    models  = ["mamba-tiny", "mamba2-tiny"]
    corpora = ["books", "gov:32k"]
    lengths = ["T", "4T..64T"]
    methods = ["none", "fresh-window", "spectrum", "heads"]
    seeds   = [0, 1, 2]

Whatever a result depends on is here and not on the command line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.hints import nearest

from .methods import SETS, Method, find_method
from .methods.on_passkey import ON_PASSKEY
from .passkey.task import DEPTHS

TaskName = Literal["perplexity", "passkey"]
Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Length = int | str
"""Tokens, or words: ``2k``, ``16T``, ``T..64T``."""


class FitPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What methods are fitted on."""

    corpus: str | None = None
    """Corpus whose calibration and validation texts are read. Default: the first."""
    length: Length = "16T"
    """Tokens of a window of a calibration."""
    target: Length | None = None
    """Length that a proposal is made for. Default: each cell's own."""
    steps: Count | None = None
    """Steps of every calibration. Default: each method's own."""


class PerplexityPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How texts are scored."""

    documents: Count | None = None
    """Documents of a cell at most, the first of those that reach its length. Default: all of these."""
    starts: Count = 1
    """Passages of a document at most."""
    batch: Count = 8
    """Passages that run side by side."""


class PasskeyPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How keys are asked for."""

    examples: Count = 10
    """Keys at each depth."""
    depths: tuple[Share, ...] = DEPTHS
    """Shares of the text before the key."""


class SweepPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan as it is written."""

    models: tuple[str, ...]
    """Bundled names, folders or hub ids."""
    lengths: tuple[Length, ...]
    """Tokens, or multiples of each model's own T."""
    methods: tuple[str, ...]
    """Names or sets of the registry."""
    corpora: tuple[str, ...] = ("books",)
    """Names, each with the longest length to read of it where one is given: ``gov:32k``."""
    seeds: tuple[Annotated[int, msgspec.Meta(ge=0, lt=2**32)], ...] = (0,)
    """Of random draws; a cell that draws nothing is run once."""
    tasks: tuple[TaskName, ...] = ("perplexity",)
    """What is measured."""
    data: str | None = None
    """Folder that holds ``CORPUS/{calibration,validation,test}/*.txt``, from the plan's own folder."""
    tokenizer: str | None = None
    """A ``tokenizer.json`` for models that have none."""
    train_length: dict[str, Length] = {}  # msgspec copies such defaults
    """T by model, for those that do not tell it."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    """Of the weights."""
    threads: Count = 1
    """CPU threads of a worker; sums can differ in their last digits with it."""
    fit: FitPart = FitPart()
    perplexity: PerplexityPart = PerplexityPart()
    passkey: PasskeyPart = PasskeyPart()

    def chosen(self, folder: Path) -> dict[str, Method]:
        """Return the methods by the name that tables give them, sets written out.

        Args:
            folder: the plan's own, from which files of scales are named.

        Returns:
            The methods, in the order in which they are first named.
        """
        found: dict[str, Method] = {}
        for name in (each for word in self.methods for each in SETS.get(word, (word,))):
            word, colon, rest = name.partition(":")
            if colon and word == "scales":
                found[name] = find_method(f"scales:{(folder / rest).resolve()}")
            else:
                method = find_method(name)
                found[method.name] = method
        return found


def read_plan(path: Path) -> SweepPlan:
    """Read a plan.

    Args:
        path: a TOML file.

    Returns:
        The plan.

    Raises:
        RefusedInputError: it cannot be read, or something in it is unknown, of the wrong type or named twice; the
            message says in which line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedInputError(f"{path}: cannot read the plan: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise RefusedInputError(f"{path}: is not TOML: {error}") from error
    except RecursionError:
        raise RefusedInputError(f"{path}: brackets within brackets without end; a plan needs one pair") from None
    _refuse_unknown(path, text, found)
    try:
        plan = msgspec.convert(found, SweepPlan)
    except msgspec.ValidationError as error:
        told, _, at = str(error).partition(" - at `$.")
        where = re.findall(r"\w+", at)[:2]
        line = _line(text, *(["", where[0]] if len(where) < 2 or where[1].isdecimal() else where)) if where else None
        told = told[:1].lower() + told[1:]
        raise RefusedInputError(f"{path}{_at(line)}: {at.rstrip('`') or 'the plan'}: {told}") from error
    return _checked(path, text, plan)


def _refuse_unknown(path: Path, text: str, found: Mapping[str, Any]) -> None:
    """Name the nearest key that there is; msgspec would only say which one there is not."""
    parts: dict[str, type[msgspec.Struct]] = {"fit": FitPart, "perplexity": PerplexityPart, "passkey": PasskeyPart}
    tables: list[tuple[str, type[msgspec.Struct], Any]] = [
        ("", SweepPlan, found),
        *((name, parts[name], of) for name, of in found.items() if name in parts),
    ]
    for table, struct, of in tables:
        known = [field.name for field in msgspec.structs.fields(struct)]
        for key in of if isinstance(of, Mapping) else ():
            if key not in known:
                near = nearest(key, known)
                hint = f"{near} " if near else ""
                where = f" in [{table}]" if table else ""
                raise RefusedInputError(
                    f"{path}{_at(_line(text, table, key))}: unknown key {key!r}{where}: {hint}"
                    f"Expected some of {', '.join(known)}"
                )


def _checked(path: Path, text: str, plan: SweepPlan) -> SweepPlan:
    def refuse(key: str, told: str, table: str = "") -> RefusedInputError:
        whole = f"{table}.{key}" if table else key
        return RefusedInputError(f"{path}{_at(_line(text, table, key))}: {whole}: {told}")

    for key in ("models", "lengths", "methods", "corpora", "seeds", "tasks"):
        values = getattr(plan, key)
        if not values:
            raise refuse(key, "expected at least one")
        for value in values:
            if value == "":
                raise refuse(key, "one is empty; give its name, or leave it out")
            if values.count(value) > 1:
                raise refuse(key, f"{value!r} is named twice")
    if strangers := [name for name in plan.train_length if name not in plan.models]:
        raise refuse("train_length", f"{strangers[0]!r} is none of the models, {', '.join(plan.models)}")
    depths = plan.passkey.depths
    if not depths:
        raise refuse("depths", "expected at least one", "passkey")
    for depth in depths:
        if depths.count(depth) > 1:  # the same keys would count as so many independent ones
            raise refuse("depths", f"{depth:g} is named twice", "passkey")
    try:
        methods = plan.chosen(path.parent)
    except RefusedInputError as error:
        raise refuse("methods", str(error)) from error
    for method in methods.values():
        if method in ON_PASSKEY:
            raise refuse("methods", f"{method.name!r} is trained on prompts: see evaluate --task passkey")
    return plan


def _at(line: int | None) -> str:
    return "" if line is None else f", line {line}"


def _line(text: str, table: str, key: str) -> int | None:
    """Return the line that sets a key, or opens a table of that name; None where it is written some other way."""
    here = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*[\"']?([\w.-]+)[\"']?\s*\]\s*(#|$)", line):
            here = header[1]
            if not table and here == key:
                return number
        elif here == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]", line):
            return number
    return None
