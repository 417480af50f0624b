"""``mambascope figures``: the figures and tables of a run folder, by the paper's names or by ours."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import add_json
from ..console import print_json, print_table, say

if TYPE_CHECKING:
    from mambascope.analysis.manifest import Manifest

    from ..paper_names import Named

KINDS = ("png", "pdf", "svg", "csv", "json", "html")


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "figures",
        help="the figures and tables of a run folder, by the paper's names",
        description="Lists what a run folder holds: figures as PNG, PDF and SVG with their numbers as CSV, tables as "
        "CSV and JSON. With -o they are copied, under the names that the paper gives them where it has one like it.",
        epilog="example: mambascope figures mambascope-report --only fig1,table1 --format pdf,csv -o for-the-paper",
    )
    parser.add_argument("folder", metavar="RUN", type=Path, help="the folder that a command wrote with -o")
    parser.add_argument(
        "--only", metavar="NAMES", help="names from the list, comma-separated, such as fig1,table3,tail"
    )
    parser.add_argument("--format", metavar="KINDS", help=f"of {', '.join(KINDS)}, comma-separated. Default: all")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="copy them there")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """List or copy what was asked for."""
    from mambascope.analysis.manifest import read_manifest

    from ..paper_names import named_files

    manifest = read_manifest(args.folder)
    only = _words("--only", args.only)
    chosen = _chosen(named_files(list(manifest.outputs)), only, _kinds(args.format), args.folder)
    for each in chosen:
        _check(args.folder, each, manifest)
    copies = _copy(args.folder, chosen, args.output) if args.output else {}
    rows = [
        {
            "name": each.paper.key if each.paper else each.stem,
            "model": each.model,
            "file": str(copies.get(each) or args.folder / each.file),
            "about": each.paper.about if each.paper else "",
        }
        for each in chosen
    ]
    if args.json:
        print_json({"files": rows})
    else:
        print_table(rows)
        if args.output:
            say(f"{len(copies)} files copied to {args.output}")


def _words(option: str, text: str | None) -> list[str]:
    """Return the words of an option; none where it is left out."""
    from mambascope.spectra.errors import RefusedInputError

    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    if text is not None and not words:
        raise RefusedInputError(f"{option} {text!r}: names nothing; leave it out to have all")
    return words


def _kinds(text: str | None) -> list[str]:
    from mambascope.spectra.errors import RefusedInputError

    kinds = _words("--format", text) or list(KINDS)
    for kind in kinds:
        if kind not in KINDS:
            raise RefusedInputError(f"--format {kind}: no such format; there are {', '.join(KINDS)}")
    return kinds


def _chosen(files: list[Named], only: list[str], kinds: list[str], folder: Path) -> list[Named]:
    """Return the files of the given names and formats, or refuse a name that the folder has not."""
    from mambascope.spectra.errors import RefusedInputError
    from mambascope.spectra.hints import nearest

    from ..paper_names import ALIASES, PAPER_NAMES

    of_kind = [each for each in files if each.file.suffix[1:] in kinds]
    if not only:
        return of_kind

    def answers_to(each: Named, word: str) -> bool:
        return word in {each.stem, each.paper and each.paper.key} or each.stem.endswith(f"-{word}")

    found: list[Named] = []
    for word in only:
        these = [each for each in of_kind if answers_to(each, ALIASES.get(word, word))]
        if not these:
            there = _short_names(of_kind)
            made = {paper.key: paper.command for paper in PAPER_NAMES}.get(ALIASES.get(word, word))
            hint = f"mambascope {made} makes it" if made else nearest(word, there)
            raise RefusedInputError(
                f"{folder}: holds no {word!r}{' in these formats' if len(kinds) < len(KINDS) else ''}"
                f"{'; ' + hint if hint else ''}; it holds {', '.join(there) or 'no figures and no tables'}"
            )
        found += [each for each in these if each not in found]
    return found


def _short_names(files: list[Named]) -> list[str]:
    """Return what may be asked for: the paper's names, and ours without the names of models."""
    models = sorted({each.model for each in files if each.model}, key=len, reverse=True)

    def short(stem: str) -> str:
        return next((stem[len(m) + 1 :] for m in models if stem.startswith(f"{m}-")), stem)

    return sorted({each.paper.key if each.paper else short(each.stem) for each in files})


def _check(folder: Path, each: Named, manifest: Manifest) -> None:
    """Refuse a file that is not, or no longer, what the run made."""
    from mambascope.analysis.manifest import RunFolderError, sha256_of

    path, expected = folder / each.file, manifest.outputs[str(each.file)]
    again = "run its command on the folder again to have it made anew"
    if expected is None:
        raise RunFolderError(f"{folder}: the run is not finished ({manifest.status}); {again}")
    if not path.is_file():
        raise RunFolderError(f"{path}: is gone; {again}")
    if sha256_of(path) != expected:
        raise RunFolderError(f"{path}: was changed after the run; {again}")


def _copy(folder: Path, chosen: list[Named], target: Path) -> dict[Named, Path]:
    from mambascope.analysis.atomic import StorageError, replacing
    from mambascope.spectra.errors import RefusedInputError

    if target.resolve() == folder.resolve() or folder.resolve() in target.resolve().parents:
        raise RefusedInputError(f"-o {target}: lies in the run folder, which stays as it is; choose another folder")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StorageError(target, problem) from problem
    made: dict[Named, Path] = {}
    for each in chosen:
        path = target / each.copy_name
        taken = path in made.values()  # a figure's numbers and a table may have one name
        made[each] = path.with_name(f"{each.file.parent.name}-{path.name}") if taken else path
        with replacing(made[each]) as temporary:
            shutil.copyfile(folder / each.file, temporary)
    return made
