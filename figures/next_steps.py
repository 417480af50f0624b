"""What to type next: the commands that do by hand what the report did, with the model's own lengths."""

from __future__ import annotations

import shlex

from mambascope.analysis.study import Study
from mambascope.analysis.study_calibration import refining_plan

from .lengths import tokens_text
from .markup import commands, paragraph


def next_steps(study: Study, slug: str) -> str:
    """Return the part of one model.

    Args:
        study: a finished study.
        slug: the model's name as part of a file name.

    Returns:
        HTML.
    """
    told = "These read the bundled texts. Give your own with --text, --calibration and --validation, as for a report."
    if study.proposal.acts:
        told += f" To bake the calibrated scales, give bake the file calibrated-{slug}/scales.json."
    return "<h3>What to do next</h3>" + commands(command_lines(study, slug)) + paragraph(told)


def command_lines(study: Study, slug: str) -> list[str]:
    """Return the commands: propose, calibrate, evaluate, bake, or those that look closer at a model left alone.

    Args:
        study: a finished study.
        slug: the model's name as part of a file name.

    Returns:
        A command a line.
    """
    lengths = ",".join(tokens_text(n) for n in sorted({row.length for row in study.rows}))
    first, fine = f"scales-{slug}", f"calibrated-{slug}"
    lines = [_line(study, "propose", f"--target-length {tokens_text(study.target_length)} -o {first}")]
    if not study.proposal.acts:
        lines.append(_line(study, "evaluate", f"--lengths {lengths}"))
        return [*lines, _line(study, "norms", f"--lengths {lengths}")]
    plan = refining_plan(study.train_length, study.target_length)
    window, methods = tokens_text(plan.target_length), "none,spectrum,scales,fresh-window"
    tune = f"--method {plan.method} --start {first}/scales.json --target-length {window} -o {fine}"
    return [
        *lines,
        _line(study, "calibrate", tune),
        _line(study, "evaluate", f"--scales {fine}/scales.json --methods {methods} --lengths {lengths}"),
        _line(study, "bake", f"--scales {first}/scales.json -o baked-{slug}"),
        _line(study, "norms", f"--lengths {lengths}"),
    ]


def _line(study: Study, verb: str, words: str) -> str:
    options, model = shlex.join(study.options), shlex.quote(study.argument)
    if study.argument.startswith("-"):  # what comes after -- is no option
        model = f"-- {model}"
        return " ".join(word for word in ("mambascope", verb, options, words, model) if word)
    return " ".join(word for word in ("mambascope", verb, model, options, words) if word)
