"""``mambascope spectrum``: the eigenvalues of every layer."""

from __future__ import annotations

import argparse
from typing import Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length
from ..console import print_json, print_table, progress


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "spectrum",
        help="static exp(-|A|), and effective exp(-dt|A|) on a text",
        description="Eigenvalues of every layer. Without --text only the A_log tensors are read, whatever the size.",
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
    from mambascope.spectra.checkpoint import open_checkpoint
    from mambascope.spectra.eigenvalues import static_spectrum

    if not args.text:
        found = static_spectrum(open_checkpoint(args.model), name=args.model)
        inputs, train_length = [], args.train_length
    else:
        from mambascope.analysis.diagnosis import training_windows
        from mambascope.analysis.evaluate.perplexity import stack_documents
        from mambascope.analysis.runs import InputFile
        from mambascope.analysis.study import token_counter
        from mambascope.spectra.eigenvalues import spectrum

        from ..sources import Source, documents

        source = Source.open(args.model, args)
        train_length = source.needs_train_length()
        texts = documents(source, args.text, args)
        windows = training_windows(stack_documents([d.ids for d in texts], min(map(len, texts))), train_length)
        with progress(windows.size, "spectrum") as tick:
            found = spectrum(source.load(args), windows, observers=[token_counter(tick)])
        inputs = source.inputs() + [InputFile.of("text", path) for path in args.text]
    if args.output:
        from mambascope.analysis.runs import RunFolder

        from ..report import write_table
        from ..spectrum import spectrum_figure
        from ..style import save

        command = {"verb": "spectrum", "model": args.model, "train_length": train_length}
        with RunFolder.open(args.output, command=command, seed=None, fresh=args.fresh, inputs=inputs) as folder:
            write_table(folder, "spectrum", found.rows())
            save(spectrum_figure(found, train_length), folder, "spectrum")
    if args.json:
        print_json({"model": args.model, "arch": found.arch, "rows": found.rows()})
    else:
        print_table(found.rows())
