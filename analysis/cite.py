"""What to cite for a run: the paper, the model's, the methods', benchmarks, texts and software, from its manifest.

Nothing is guessed: what a manifest and a journal do not say was used is not cited, and where they leave open which of
two it was, both are named, with that reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.foreign.families import FAMILY_ARCHITECTURES
from mambascope.spectra.zoo import FOLDER

from .manifest import JOURNAL, MANIFEST, Manifest, read_manifest
from .methods.citations import (
    ADAM,
    DECIMATION,
    EXTEND,
    LONGBENCH,
    MAMBA,
    MAMBA2,
    MODULATION,
    PYTORCH,
    SPSA,
    WINSORIZATION,
    Citation,
)

_DESCENTS = {"spsa": SPSA, "spsa-paper": SPSA, "spsa-released": SPSA, "backprop": ADAM}
_KINDS = {"a_power": MODULATION, "dt": EXTEND}
_RULE_SOURCES = ((MODULATION, "2509.19633"), (WINSORIZATION, "winsorization"), (EXTEND, "MambaExtend"))
"""A source, and what the line of a rule that rests on it says."""
_TASKS = {"longbench": LONGBENCH, "passkey": DECIMATION}
_FIT = re.compile(rb'^[0-9a-f]{64} \{"key":"(?:[^"\\]*/)?fit/([^"\\]+)"')
"""A line of the journal that says that a method was fitted."""
_METHOD = re.compile(r'"method": ?"([^"\\]+)"')


@dataclass(frozen=True, slots=True)
class Cited:
    """A source, and what it was used for."""

    citation: Citation
    """The entry."""
    used_for: tuple[str, ...]
    """In words, each once."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        entry = self.citation
        return {"key": entry.key, "type": entry.kind, "fields": dict(entry.fields), "used_for": list(self.used_for)}

    def bibtex(self) -> str:
        """Return the entry under a line that says what it was used for; BibTeX reads over that line."""
        return f"% {'; '.join(self.used_for).replace('@', '(at)')}\n{self.citation.bibtex()}"


def together(found: Sequence[Cited]) -> list[Cited]:
    """Return every source once, with all it was used for, in the order in which they are first named."""
    merged: dict[str, Cited] = {}
    for each in found:
        before = merged[each.citation.key].used_for if each.citation.key in merged else ()
        merged[each.citation.key] = Cited(each.citation, tuple(dict.fromkeys(before + each.used_for)))
    return list(merged.values())


def cite_core(version: str) -> list[Cited]:
    """Return what any work with mambascope rests on, besides a model.

    Args:
        version: of mambascope.

    Returns:
        This program and the paper whose idea it follows.
    """
    ours = Citation(
        "mambascope",
        "misc",
        (
            ("author", "{The mambascope developers}"),
            ("title", "mambascope"),
            ("note", f"software, version {version}, MIT licence"),
            ("year", "2026"),
        ),
    )
    return [Cited(ours, ("this program",)), Cited(MODULATION, ("spectrum, norms and scaling of A",))]


def cite_models() -> list[Cited]:
    """Return the papers of both kinds of model."""
    return [Cited(MAMBA, ("Mamba-1 models",)), Cited(MAMBA2, ("Mamba-2 models",))]


def cite_methods(names: Sequence[str]) -> list[Cited]:
    """Return the sources of methods.

    Args:
        names: of the registry, or of its sets.

    Returns:
        One entry a source; none for what is ours.
    """
    from .methods import chosen_methods

    if not names:
        return []
    return [Cited(c, (f"method {method.name}",)) for method in chosen_methods(names) for c in method.cite()]


def cite_run(folder: str | Path) -> list[Cited]:
    """Return what a run used.

    Args:
        folder: a run folder, of a run that has finished or not.

    Returns:
        One entry a source, with what it was used for.

    Raises:
        RefusedInputError: the folder holds no manifest that can be read.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise RefusedInputError(
            f"{folder}: holds no {MANIFEST}, so it is no run folder; give one that was made with -o"
        )
    manifest = read_manifest(folder)
    command = manifest.command
    found = cite_core(manifest.mambascope)
    found += _of_models(command)
    used = _methods_used(folder, command)
    found += cite_methods(used)
    found += _of_command(command)
    found += _of_texts(manifest, used)
    found += _of_software(manifest)
    return together(found)


def _methods_used(folder: Path, command: Mapping[str, Any]) -> list[str]:
    """Return the methods that a run names, has fitted, or has results of."""
    from .methods import find_method

    named = [str(name) for name in command.get("methods") or [] if command.get("verb") != "starts"]
    if (folder / JOURNAL).is_file():
        with open(folder / JOURNAL, "rb") as lines:
            named += [hit[1].decode(errors="replace") for line in lines if (hit := _FIT.match(line))]
    for path in sorted((folder / "cells").glob("*.json")):  # of a sweep
        named += _METHOD.findall(path.read_text("utf-8", "replace"))
    known = []
    for name in dict.fromkeys(named):
        try:
            known.append(find_method(name).name)
        except RefusedInputError:  # scales from a file that has moved; the file's own name says nothing either
            continue
    return known


def fitted_on(method: str) -> set[str]:
    """Return what texts the fit of a method reads.

    Args:
        method: its name.

    Returns:
        ``calibration``, ``validation``, both or neither.
    """
    from .methods import find_method
    from .methods.decimamba import DeciMamba

    found = find_method(method)
    return set() if isinstance(found, DeciMamba) and found.layers else set(found.reads)  # layers given: no search


def _of_models(command: Mapping[str, Any]) -> list[Cited]:
    recipe = command.get("recipe") or {}
    if isinstance(recipe, dict) and recipe.get("arch"):
        return _of_arch(recipe["arch"], f"the architecture of {recipe.get('name', 'the model')}")
    law = str(command.get("law") or "")
    words = [command.get("model"), *(command.get("models") or [])]
    words += [law[6:].rpartition("/")[0] or law[6:]] if law.startswith("model:") else []
    found = []
    for word in [str(word) for word in words if word]:
        found += _of_arch(arch_of(word), f"the architecture of {word}")
    return found


def _of_arch(arch: str | None, why: str) -> list[Cited]:
    if arch is None:
        return [Cited(c, (f"{why}, unless it is the other of the two",)) for c in (MAMBA, MAMBA2)]
    return [Cited(MAMBA2 if arch == "mamba2" else MAMBA, (why,))]


def arch_of(model: str) -> str | None:
    """Return the architecture of a model by its name or its config.json, without reading a weight.

    Args:
        model: the word on a command line: a bundled name, a folder, a hub id.

    Returns:
        ``mamba`` or ``mamba2``; None where that cannot be told, as for a folder that is gone.
    """
    for path in (FOLDER / model / "config.json", Path(model, "config.json")):
        try:
            config = json.loads(path.read_text("utf-8"))
            layer = str((config.get("ssm_cfg") or {}).get("layer", "Mamba1" if "ssm_cfg" in config else ""))
            kind = str(config.get("model_type") or layer).lower()
        except (OSError, ValueError, AttributeError):
            continue
        known = {"mamba": "mamba", "mamba1": "mamba", "mamba2": "mamba2"} | FAMILY_ARCHITECTURES
        if kind in known:
            return known[kind]
    if match := re.fullmatch(r"state-spaces/mamba(2?)-.*", model):
        return f"mamba{match[1]}"
    return None


def _of_command(command: Mapping[str, Any]) -> list[Cited]:
    """Return the sources of tasks, rules and calibrations that a command has."""
    found = []
    if source := _TASKS.get(str(command.get("task"))):
        found.append(Cited(source, (f"task {command['task']}",)))
    for plan in _plans(command):
        descents = [str(plan.get("method") or ""), *plan.get("methods", ()), *plan.get("layer_methods", ())]
        kinds = [str(plan.get("kind") or ""), *plan.get("layer_kinds", ())]
        found += [Cited(_DESCENTS[name], (f"calibration by {name}",)) for name in descents if name in _DESCENTS]
        found += [Cited(_KINDS[kind], (f"factors of kind {kind}",)) for kind in kinds if kind in _KINDS]
    rules = command.get("rules")
    named = [command["rule"]] if command.get("rule") else []
    if rules is True or named:
        from .rules import RULES, find_rule

        for rule in RULES.values() if rules is True else map(find_rule, named):
            found += [Cited(c, (f"rule {rule.name}",)) for c, words in _RULE_SOURCES if words in rule.source]
    if command.get("verb") == "verify" or command.get("theory"):
        found.append(Cited(MODULATION, ("the claims that were judged",)))
    return found


def _plans(command: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for value in (command.get("plan"), *(command.get("calibration") or ())):
        if isinstance(value, dict):
            yield value


@cache
def _bundled_texts() -> dict[str, dict[str, Any]]:
    """Return what is known of the bundled texts, by the hash of their bytes."""
    return {text["sha256"]: text for text in json.loads((FOLDER / "MANIFEST.json").read_text("utf-8"))["texts"]}


def _of_texts(manifest: Manifest, methods: Sequence[str]) -> list[Cited]:
    """Return the bundled texts that were read; what a user's own files are, only the user knows.

    An evaluation names its calibration and validation texts for methods that may be added to its folder later.
    """
    unread: set[str] = set()
    if manifest.command.get("verb") == "evaluate":
        unread = {"calibration", "validation"} - set().union(*map(fitted_on, methods))
    found = []
    for each in manifest.inputs:
        if each.role not in unread and (text := _bundled_texts().get(each.sha256)):
            found.append(Cited(_text_entry(text), (f"{each.role} text, the excerpt that mambascope bundles",)))
    return found


def _text_entry(text: Mapping[str, Any]) -> Citation:
    """Make an entry of what the package's own list of texts says: ``TITLE by AUTHOR (YEAR)``, or less."""
    title, source, name = str(text["title"]), str(text["source"]), Path(text["file"]).stem
    fields: dict[str, str] = {}
    if match := re.search(r" \((?:\d\d/\d\d/)?(\d{4})\)$", title):
        title, fields["year"] = title[: match.start()], match[1]
    if source.startswith("Project Gutenberg") and " by " in title:
        title, _, fields["author"] = title.rpartition(" by ")
    fields |= {"title": title, "howpublished": source}
    order = ("author", "title", "year", "howpublished")
    found = re.match(r"pg\d+", name)
    return Citation(found[0] if found else name, "misc", tuple((n, _escaped(fields[n])) for n in order if n in fields))


def _escaped(text: str) -> str:
    """Return a text with the letters that mean something to TeX made plain."""
    return re.sub(r"([&%#_$])", r"\\\1", text)


def _of_software(manifest: Manifest) -> list[Cited]:
    """Return the software that did the computing."""
    command, versions = manifest.command, manifest.versions
    found = []
    if command.get("verb") not in {"verify", "simulate"} and "torch" in versions:
        found.append(Cited(PYTORCH, (f"torch {versions['torch']}",)))
    if manifest.device.startswith("cuda") and "mamba-ssm" in versions:
        why = f"the kernels of mamba-ssm {versions['mamba-ssm']}, which run on a GPU where they can"
        kinds = {c.citation.key: c.citation for c in _of_models(command)}
        found += [Cited(citation, (why,)) for citation in kinds.values()]
    return found
