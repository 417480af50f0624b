"""What a report does with one model: texts, lengths, corpora for the rules, plan of the refinement, and work."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mambascope.analysis import heads, rule_table, study
from mambascope.analysis.calibration.plan import Plan
from mambascope.analysis.rule_table import times_within
from mambascope.analysis.study_calibration import refining_plan, refining_tokens
from mambascope.analysis.texts import Texts
from mambascope.spectra.tokens import Document

from .console import say
from .corpora import reaching
from .sources import Source, all_texts, check_target, default_target, documents


@dataclass(frozen=True)
class ReportJob:
    """What is done with one model."""

    source: Source
    texts: Texts
    train_length: int
    target_length: int
    corpora: dict[str, Sequence[Document]]
    """Validation documents by corpus that rules are judged on; none without that section."""
    left_out: dict[str, str]
    """Corpora that are too short, and why."""
    plan: Plan | None
    """How the proposal is refined; None without that section."""
    times: tuple[int, ...]
    """Lengths that rules are judged at, in training lengths."""

    def planned(self, theory: bool) -> int:
        """Estimate the work in tokens."""
        tokens = study.planned_tokens(self.texts, self.train_length, self.target_length) + self.planned_rest()
        return tokens + (heads.planned_tokens(self.texts.calibration, self.target_length) if theory else 0)

    def planned_rest(self) -> int:
        """Estimate the work that is left out where no scales are proposed."""
        tokens = rule_table.planned_tokens(self.corpora, self.train_length, self.times) if self.corpora else 0
        if self.plan:
            reached = sum(len(d) >= self.target_length for d in self.texts.test)
            tokens += refining_tokens(self.plan, reached * self.target_length)
        return tokens


def report_job(source: Source, corpora: Mapping[str, Sequence[Path]], args: argparse.Namespace) -> ReportJob:
    """Read a model's texts and settle its lengths.

    Args:
        source: the model.
        corpora: files by corpus that rules are judged on.
        args: the command's options.

    Returns:
        The job.

    Raises:
        RefusedInputError: a document stands in two sets, or the texts are too short for the lengths.
    """
    texts, train_length = all_texts(source, args), source.needs_train_length()
    target = check_target(texts, train_length, args.target_length or default_target(texts, train_length))
    times = times_within(train_length, target)
    read = {name: documents(source, files, args) for name, files in corpora.items()}
    for of in read.values():
        Texts(texts.calibration, of, texts.test).check()
    kept, left = reaching(read, max(times) * train_length)
    for name, why in left.items():
        say(f"rules: {name} is left out: {why}")
    plan = None if args.no_calibration else refining_plan(train_length, target, args.calibration_steps)
    return ReportJob(source, texts, train_length, target, kept, left, plan, times)
