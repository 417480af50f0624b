"""``mambascope cite``: BibTeX of what a run used."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from ..arguments import add_json
from ..console import print_json

if TYPE_CHECKING:
    from mambascope.analysis.cite import Cited


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "cite",
        help="BibTeX of what a run used, or of a method",
        description="Prints a BibTeX entry for the paper, the models, methods, benchmarks, bundled texts and software "
        "that a run used, each under a line that says what for, as far as the run's manifest and journal tell. Without "
        "a run: this program, the paper and both models. Texts of your own are yours to cite.",
        epilog="examples: mambascope cite   |   mambascope cite out > used.bib   |   "
        "mambascope cite longmamba mambaextend   |   mambascope cite out --json",
    )
    parser.add_argument("what", metavar="RUN|METHOD", nargs="*", help="run folders (made with -o), or methods by name")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the entries."""
    from mambascope.analysis.cite import cite_core, cite_models, cite_run, together

    if args.what:
        found = [each for word in args.what for each in (cite_run(word) if os.path.isdir(word) else _method(word))]
    else:
        from importlib import metadata

        found = [*cite_core(metadata.version("mambascope")), *cite_models()]
    entries = together(found)
    if args.json:
        print_json({"entries": [each.to_dict() for each in entries]})
    elif entries:
        print("\n".join(each.bibtex() for each in entries))
    else:
        print(f"% {', '.join(args.what)}: ours, nothing to cite beside `mambascope cite`")


def _method(word: str) -> list[Cited]:
    """Return a method's sources, or say which method or run folder was meant."""
    from mambascope.analysis.cite import cite_methods
    from mambascope.analysis.methods import METHODS, SETS
    from mambascope.analysis.methods.registry import FORMS
    from mambascope.spectra.errors import RefusedInputError
    from mambascope.spectra.hints import nearest

    if word in SETS or word.partition(":")[0] in {name.partition(":")[0] for name in (*METHODS, *FORMS)}:
        return cite_methods([word])
    hint = nearest(word, [*run_folders(os.path.dirname(word) or "."), *METHODS, *SETS])
    raise RefusedInputError(
        f"{word!r} is neither a run folder nor a method; {hint or 'give a folder that was made with -o, or a method'} "
        "(`mambascope compare --describe` lists the methods)"
    )


def run_folders(parent: str) -> list[str]:
    """Return the run folders in a folder, by the words that a user types for them."""
    from mambascope.analysis.manifest import MANIFEST

    try:
        names = sorted(os.listdir(parent))
    except OSError:
        return []
    below = names if parent == "." else [os.path.join(parent, name) for name in names]
    return [name for name in below if os.path.isfile(os.path.join(name, MANIFEST))]
