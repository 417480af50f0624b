"""``mambascope forecast``: the harm to expect beyond the training length, before any longer text is read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import add_json, add_model, add_output, add_text, add_train_length, length
from ..console import print_json, print_table, print_wrapped, progress, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from mambascope.analysis.forecast import Forecast
    from mambascope.analysis.forecast_check import Checked
    from mambascope.analysis.resources import Work
    from mambascope.analysis.runs import RunFolder
    from mambascope.spectra.model import Model

    from ..sources import Source


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "forecast",
        help="the harm to expect beyond the training length, before any longer text is read",
        description="Foretells the harm in bits per token at 2 T, 4 T ... L from windows of T tokens of the "
        "calibration text: theory makes the states of longer texts, and the windows are scored from these. With -o "
        "the forecast is written before --check reads anything longer.",
        epilog="examples: mambascope forecast mamba2-tiny --target-length 16k   |   "
        "mambascope forecast mamba2-tiny mamba-tiny --check -o out   # then measure, and compare",
    )
    add_model(parser, many=True)
    add_text(parser, "text", "calibration texts. Default: the bundled calibration texts")
    parser.add_argument("--target-length", type=length, metavar="L", help="length to look to. Default: 64 T")
    parser.add_argument(
        "--windows", type=int, metavar="N", help="windows of T tokens. Default: 128, or what fits in memory"
    )
    parser.add_argument("--check", action="store_true", help="then score test texts of L tokens, and compare")
    add_text(parser, "test", "texts for --check. Default: the bundled test texts")
    parser.add_argument("--open-loop", action="store_true", help="with --check: also forecast with inputs in range")
    parser.add_argument(
        "--study", type=Path, nargs="+", metavar="FILE",
        help="train the study's small models on these texts first, and take them along; needs -o",
    )  # fmt: skip
    add_train_length(parser)
    add_output(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Forecast, store, and check where asked for."""
    from mambascope.analysis.atomic import write_json
    from mambascope.analysis.forecast import WINDOWS
    from mambascope.spectra.checkpoint import bundled_models
    from mambascope.spectra.errors import RefusedInputError

    from ..resources import plan_resources
    from ..sources import Source, run_folder, text_paths
    from ..style import slugs

    windows = WINDOWS if args.windows is None else args.windows
    if windows < 2:
        raise RefusedInputError(f"--windows {windows}: expected at least 2")
    models = list(args.model)
    if args.study:
        models += _train(args)
        args.output = args.output / "forecast"
    if not models:
        raise RefusedInputError(f"no model given; bundled are {', '.join(bundled_models())}")
    sources = [Source.open(name, args) for name in models]
    lengths = [[s.needs_train_length(), args.target_length or 64 * s.needs_train_length()] for s in sources]
    for name, (T, L) in zip(models, lengths, strict=True):
        if T < 4 or L < 2 * T:
            raise RefusedInputError(
                f"{name}: target length {L}, training length {T}: expected a training length of at least 4 tokens and "
                "a target of at least twice that; give --target-length"
            )
    read = {"calibration": text_paths(args, "text", "calibration")}
    if args.check:
        read["test"] = text_paths(args, "test", "test")
    command = {"models": models, "lengths": lengths, "windows": windows, "open_loop": args.open_loop}
    jobs = list(zip(sources, slugs(_names(sources)), [L for _, L in lengths], strict=True))
    resources = plan_resources(args, [(s, _work(s, L, windows, read, args)) for s, _, L in jobs])
    with run_folder(args, sources, command, read) as folder:
        found = [_forecast(*job, windows, read["calibration"], args, folder, resources.load) for job in jobs]
        if folder:
            write_json(folder.output("forecast.json"), {"models": [one.to_dict() for one in found]})
        if args.check:
            checked = [_check(one, *job, windows, read, args, folder) for one, job in zip(found, jobs, strict=True)]
        if folder:
            from ..forecast import write_forecasts

            write_forecasts(folder, found, checked if args.check else [])
    if args.check:
        _show_checked(checked, args)
    else:
        _show(found, args)


def _names(sources: list[Source]) -> list[str]:
    from mambascope.spectra.loading import read_card

    cards = [read_card(source.checkpoint.folder) for source in sources]
    return [card.name if card else source.argument for card, source in zip(cards, sources, strict=True)]


def _train(args: argparse.Namespace) -> list[str]:
    """Train the models of the study, or find them trained."""
    from mambascope.analysis.forecast_study import planned_training_tokens, train_models
    from mambascope.analysis.forecast_variants import VARIANTS
    from mambascope.spectra.errors import RefusedInputError

    if args.output is None:
        raise RefusedInputError("--study trains models and needs a folder for them: give -o DIR")
    with progress(planned_training_tokens(VARIANTS), "train") as tick:
        return [str(folder) for folder in train_models(VARIANTS, sorted(args.study), args.output / "models", tick)]


def _windows(source: Source, windows: int, paths: list[Path], args: argparse.Namespace) -> Any:
    """Cut the windows that a forecast reads."""
    from mambascope.analysis.forecast import forecast_windows
    from mambascope.analysis.study_forecast import windows_within

    from ..resources import shape_of
    from ..sources import documents

    texts = [text.ids for text in documents(source, paths, args)]
    most = windows if args.windows else min(windows, windows_within(shape_of(source, args)))
    return forecast_windows(texts, source.needs_train_length(), most)


def _work(source: Source, L: int, windows: int, read: dict[str, list[Path]], args: argparse.Namespace) -> Work:
    """Return what is run through one model."""
    from mambascope.analysis.forecast import planned_forecast_tokens
    from mambascope.analysis.forecast_check import check_passages
    from mambascope.analysis.planned_work import forecast_work, methods_work

    from ..sources import documents

    cut = _windows(source, windows, read["calibration"], args)
    work = forecast_work(planned_forecast_tokens(cut, L) * (2 if args.check and args.open_loop else 1), len(cut))
    if not args.check:
        return work
    passages = check_passages(documents(source, read["test"], args), L)
    scored = methods_work(["fresh-window"], 3 * passages.tokens.size, min(8, len(passages)), [L], cut.shape[1], L)
    return work.and_then(scored)


def _forecast(
    source: Source, key: str, L: int, windows: int, paths: list[Path], args: argparse.Namespace,
    folder: RunFolder | None, load: Callable[[Source, argparse.Namespace], Model], loop: Any = "closed",
) -> Forecast:  # fmt: skip
    from mambascope.analysis.arrays import Arrays, kept_arrays
    from mambascope.analysis.forecast import Forecast, forecast, planned_forecast_tokens
    from mambascope.analysis.texts import token_counter

    cut, model = _windows(source, windows, paths, args), load(source, args)

    def compute() -> Arrays:
        with progress(planned_forecast_tokens(cut, L), f"forecast {model.name}") as tick:
            return dict(forecast(model, cut, L, loop=loop, observers=[token_counter(tick)]).arrays())

    cell = f"{key}/forecast" if loop == "closed" else f"{key}/forecast-{loop}"
    return Forecast.of_arrays(model.name, kept_arrays(folder, cell, compute) if folder else compute(), loop)


def _check(
    forecast: Forecast, source: Source, key: str, L: int, windows: int, read: dict[str, list[Path]],
    args: argparse.Namespace, folder: RunFolder | None,
) -> Checked:  # fmt: skip
    import msgspec

    from mambascope.analysis.evaluate.rows import PerplexityRow
    from mambascope.analysis.forecast_check import Checked, check_passages, measured_harm
    from mambascope.analysis.texts import Texts, token_counter

    from ..sources import documents

    test = documents(source, read["test"], args)
    Texts(calibration=documents(source, read["calibration"], args), validation=(), test=test).check()
    passages, model = check_passages(test, L), source.load(args)

    def compute() -> list[dict[str, Any]]:
        with progress(3 * passages.tokens.size, f"check {model.name}") as tick:  # the control reads every token twice
            rows = measured_harm(model, passages, forecast.lengths, observers=[token_counter(tick)])
        return [row.to_dict() for row in rows]

    rows = folder.cell(f"{key}/measured", compute) if folder else compute()
    measured = tuple(msgspec.convert(row, PerplexityRow) for row in rows)
    trained = None
    if args.open_loop:
        trained = _forecast(
            source, key, L, windows, read["calibration"], args, folder, lambda again, args: again.load(args), "open"
        )
    return Checked(forecast, measured, trained)


def _show(found: list[Forecast], args: argparse.Namespace) -> None:
    if args.json:
        print_json({"models": [one.to_dict() for one in found]})
        return
    for one in found:
        print_wrapped(one.sentence())
        print_table(one.rows())
        print()
    say("harm_predicted: bits per token above the fresh-window control, second half of the length")


def _show_checked(checked: list[Checked], args: argparse.Namespace) -> None:
    from mambascope.analysis.forecast_agreement import agreement

    found = agreement(checked)
    if args.json:
        rows = [row for one in checked for row in one.rows()]
        about = {"rows": rows, "onsets": [one.onsets() for one in checked]}
        print_json(about | {"agreement": found.to_dict() if found else None})
        return
    for one in checked:
        print_wrapped(one.forecast.sentence())
    print()
    print_table([_narrow(row) for one in checked for row in one.rows()])
    print()
    print_table([one.onsets() for one in checked])
    for sentence in found.sentences() if found else []:
        print_wrapped(sentence)
    say("harm: bits per token above the fresh-window control, second half of the length; lengths of onset in T")


def _narrow(row: dict[str, Any]) -> dict[str, Any]:
    low, high = row["ci_low"], row["ci_high"]
    return {
        "model": row["model"],
        "length": row["length"],
        "/ T": row["times_T"],
        "predicted": f"{row['harm_predicted']:+.3f}",
        "s.e.": f"{row['standard_error']:.3f}",
        "measured": f"{row['harm_measured']:+.3f}",
        "95 % interval": "-" if low is None else f"[{low:+.3f}, {high:+.3f}]",
    }
