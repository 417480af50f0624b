"""``mambascope spectrum``: the eigenvalues of every layer."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length
from ..console import print_json, print_table, progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from mambascope.spectra.eigenvalues import Spectrum

    from ..sources import Source


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "spectrum",
        help="static exp(-|A|), and effective exp(-dt|A|) on a text",
        description="Eigenvalues of every layer. Without --text only the A_log tensors are read, whatever the size "
        "(for FalconMamba, Jamba, Zamba2, Bamba, Nemotron-H and Granite hybrids also the step sizes' biases).",
        epilog="examples: mambascope spectrum mamba2-tiny --text book.txt   |   mambascope spectrum DIR --json",
    )
    add_model(parser)
    add_text(parser, "text", "measure step sizes on windows of these texts as well")
    add_train_length(parser)
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print or store the spectrum."""
    from mambascope.spectra.foreign.checkpoint import open_any

    from ..foreign import about, name_layers
    from ..sources import Source, run_folder

    source = Source.open(args.model, args, open_any)
    told = about(source, watched=bool(args.text))
    command = {"model": args.model, "train_length": source.train_length} | told
    measure = _measuring(source, args)
    with run_folder(args, [source], command, {"text": args.text or []}, runs_model=bool(args.text)) as folder:
        found = measure() if measure else _static(source)
        if folder:
            from ..report import write_table
            from ..spectrum import spectrum_figure
            from ..style import save

            write_table(folder, "spectrum", found.rows())
            save(name_layers(spectrum_figure(found, source.train_length), source), folder, "spectrum")
    if args.json:
        print_json({"model": args.model, "arch": found.arch} | told | {"rows": found.rows()})
    else:
        print_table(found.rows())


def _static(source: Source) -> Spectrum:
    from mambascope.spectra.eigenvalues import static_spectrum
    from mambascope.spectra.foreign.checkpoint import ForeignCheckpoint
    from mambascope.spectra.foreign.measures import foreign_spectrum

    checkpoint = source.checkpoint
    if isinstance(checkpoint, ForeignCheckpoint):
        return foreign_spectrum(checkpoint, name=source.argument)
    return static_spectrum(checkpoint, name=source.argument)


def _measuring(source: Source, args: argparse.Namespace) -> Callable[[], Spectrum] | None:
    """Return what measures the effective spectrum, where a text is given."""
    import numpy as np

    from mambascope.analysis.diagnosis import WINDOWS, training_windows
    from mambascope.analysis.planned_work import spectrum_work
    from mambascope.analysis.study import token_counter
    from mambascope.spectra.eigenvalues import ROWS_AT_ONCE, spectrum
    from mambascope.spectra.foreign.checkpoint import ForeignCheckpoint
    from mambascope.spectra.foreign.measures import foreign_spectrum

    from ..foreign import plan_watched
    from ..resources import plan_resources, tell_no_model
    from ..sources import documents, tell_how_many_reach

    if not args.text:
        if args.dry_run:
            tell_no_model(source, args)
        return None
    train_length = source.needs_train_length()
    texts = documents(source, args.text, args)
    tell_how_many_reach(texts, train_length, "text")
    usable = [d.ids for d in texts if len(d) >= train_length] or [d.ids for d in texts]
    each = max(1, WINDOWS // len(usable))
    windows = np.concatenate([training_windows(ids[None], train_length, each) for ids in usable])
    if isinstance(source.checkpoint, ForeignCheckpoint):
        load = plan_watched(source, args, min(len(windows), ROWS_AT_ONCE), windows.shape[1], len(windows))

        def watch() -> Spectrum:
            watched = load()
            with progress(windows.size, "spectrum") as tick:
                return foreign_spectrum(watched, windows, name=args.model, observers=[token_counter(tick)])

        return watch
    plan = plan_resources(args, [(source, spectrum_work(source.checkpoint.config, *windows.shape))])

    def measure() -> Spectrum:
        model = plan.load(source, args)
        with progress(windows.size, "spectrum") as tick:
            return spectrum(model, windows, observers=[token_counter(tick)])

    return measure
