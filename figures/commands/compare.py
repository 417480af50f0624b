"""``mambascope compare``: every method on every corpus at every length."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import add_json, add_model, add_output, add_train_length, length, lengths
from ..console import print_json, print_wrapped, progress, say

if TYPE_CHECKING:
    from mambascope.analysis.runs import RunFolder
    from mambascope.analysis.study import Texts
    from mambascope.spectra.zoo import Split

    from ..sources import Source


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "compare",
        help="all methods on all corpora at all lengths, with intervals and costs",
        description="Fits each method once, on calibration and validation text of one corpus, and scores it on the "
        "test text of every corpus. Methods: none, fresh-window, spectrum, constant:KIND:S or constant:KIND:best "
        "(KIND a, a_power or dt), mambaextend, mamba-modulation, mamba-modulation:a, heads, spectrum+calibrated, "
        "rule:NAME, scales:FILE; or the sets all, constants, calibrated.",
        epilog="example: mambascope compare mamba2-tiny --methods spectrum,constant:a:best --lengths 1k,16k -o out",
    )
    add_model(parser, many=True)
    parser.add_argument("--methods", default="all", help="with commas, names or sets. Default: all")
    parser.add_argument("--lengths", type=lengths, help="such as 512..128k. Default: T, 4 T, 16 T, 64 T")
    parser.add_argument(
        "--corpora", default="books,gov",
        help="with commas; gov:32k reads that corpus up to 32k tokens. Default: the bundled books,gov",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="texts of your own, DIR/CORPUS/{calibration,...}/*.txt"
    )
    parser.add_argument("--fit-on", metavar="CORPUS", help="corpus that methods are fitted on. Default: the first")
    parser.add_argument(
        "--calibrate-at", type=length, metavar="L", help="tokens of a calibration window. Default: 16 T"
    )
    parser.add_argument("--starts", type=int, default=1, metavar="N", help="passages of a document at most. Default: 1")
    parser.add_argument("--documents", type=int, metavar="N", help="test documents of a corpus at most. Default: all")
    parser.add_argument("--reference", default="spectrum", metavar="METHOD", help="what differences are taken to")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of every calibration. Default: each method's own")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random draws. Default: 0")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="passages side by side. Default: 8")
    parser.add_argument("--describe", action="store_true", help="say what the methods are and whom to cite, and end")
    add_train_length(parser)
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def _corpora(words: str) -> dict[str, int | None]:
    """Read ``books,gov:32k``: names, each with the longest length to read of it."""
    import re

    from mambascope.spectra.errors import RefusedInputError

    found: dict[str, int | None] = {}
    for word in filter(None, (part.strip() for part in words.split(","))):
        name, colon, limit = word.partition(":")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise RefusedInputError(
                f"--corpora {word!r}: expected a name of letters and digits, as in books or gov:32k"
            )
        try:
            found[name] = length(limit) if colon else None
        except argparse.ArgumentTypeError as error:
            raise RefusedInputError(f"--corpora {word!r}: {error}") from error
    if not found:
        raise RefusedInputError("--corpora is empty; expected some of books, gov, or folders of --data")
    return found


def _describe(methods: Any) -> None:
    """Print what the methods are, and their sources as BibTeX."""
    for method in methods:
        print_wrapped(f"{method.name}: {method.describe()}")
    print()
    for citation in {c.key: c for method in methods for c in method.cite()}.values():
        print(citation.bibtex())


def run(args: argparse.Namespace) -> None:
    """Compare, print the tables and store everything."""
    from mambascope.analysis.compare import with_needed
    from mambascope.analysis.methods import chosen_methods
    from mambascope.spectra.checkpoint import bundled_models
    from mambascope.spectra.errors import RefusedInputError

    from ..compare import table_lines, write_comparisons  # now, not after hours of work
    from ..corpora import corpus_files
    from ..sources import Source, run_folder
    from ..style import slugs

    names = [name.strip() for name in args.methods.split(",") if name.strip()]
    methods = with_needed(chosen_methods(names), args.reference)
    if args.describe:
        _describe(methods)
        return
    for option in ("starts", "documents", "steps", "batch"):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            raise RefusedInputError(f"--{option} {getattr(args, option)}: expected at least 1")
    limits = _corpora(args.corpora)
    fit_on = args.fit_on or next(iter(limits))
    if fit_on not in limits:
        raise RefusedInputError(f"--fit-on {fit_on}: expected one of the corpora, {', '.join(limits)}")
    if not args.model:
        raise RefusedInputError(f"no model given; bundled are {', '.join(bundled_models())}")
    sources = [Source.open(name, args) for name in args.model]
    splits: dict[str, tuple[Split, ...]] = {
        name: ("calibration", "validation", "test") if name == fit_on else ("test",) for name in limits
    }
    files = {f"{name}/{split}": corpus_files(name, split, args.data) for name in limits for split in splits[name]}
    command = {
        "models": args.model,
        "lengths": args.lengths,
        "corpora": limits,
        "fit_on": fit_on,
        "calibrate_at": args.calibrate_at,
        "train_length": args.train_length,
        "starts": args.starts,
        "documents": args.documents,
        "steps": args.steps,
        "seed": args.seed,
        "batch": args.batch,
    }  # no methods: a folder takes more of them later, and what it has is not computed again
    files |= {method.name: [Path(method.name.partition(":")[2])] for method in methods if "scales:" in method.name}
    with run_folder(args, sources, command, files) as folder:
        found = [
            _compare(source, args, methods, limits, fit_on, files, folder, key)
            for source, key in zip(sources, slugs(args.model), strict=True)
        ]
        if folder:
            write_comparisons(folder, found)
    if args.json:
        print_json({"comparisons": [each.to_dict() for each in found]})
        return
    for each in found:
        print("\n".join(table_lines(each)))
        print()
        for told in each.verdicts():
            print_wrapped(told)
    say("harm: tail bits (second half of a length) above the fresh-window control; inside: bits lost inside T tokens")


def _texts(source: Source, args: argparse.Namespace, files: dict[str, list[Path]], corpus: str) -> Texts:
    from mambascope.analysis.study import Texts

    from ..sources import documents

    of = {split: documents(source, files.get(f"{corpus}/{split}", []), args) for split in Texts.__slots__}
    return Texts(**of)


def _compare(
    source: Source,
    args: argparse.Namespace,
    methods: Any,
    limits: dict[str, int | None],
    fit_on: str,
    files: dict[str, list[Path]],
    folder: RunFolder | None,
    key: str,
) -> Any:
    from mambascope.analysis.calibration.plan import TIMES
    from mambascope.analysis.compare import planned_tokens, run_compare

    T = source.needs_train_length()
    chosen = args.lengths or [T, 4 * T, 16 * T, 64 * T]
    corpora = {name: _texts(source, args, files, name) for name in limits}
    model = source.load(args)
    settings: dict[str, Any] = {
        "train_length": T,
        "fit_length": args.calibrate_at or TIMES * T,
        "fit_on": fit_on,
        "starts": args.starts,
        "documents": args.documents,
        "longest": {name: limit for name, limit in limits.items() if limit is not None},
    }
    total = planned_tokens(corpora, methods, chosen, steps=args.steps, **settings)
    with progress(total, f"compare {source.argument}") as tick:
        return run_compare(
            model, corpora, methods, chosen, reference=args.reference, steps=args.steps, seed=args.seed,
            batch=args.batch, run=folder, key=key, tick=tick, **settings,
        )  # fmt: skip
