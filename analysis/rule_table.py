"""The table that decides which rule is the default: every rule on validation text, and what each gives up.

A row of ``texts`` is a rule on one corpus at one length: tail bits, harm (tail bits less the fresh-window control's, by
document) and what it costs inside the training length (bits of fresh windows of T tokens, less those without scales).
A row of ``memory`` is a rule at one length: share of energy older than T, and bits that a repeated passage saves with
the scales for the longest length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales
from mambascope.spectra.tokens import Document

from .diagnosis import Diagnosis
from .evaluate.perplexity import fresh_window_bits, rows_by_length, stack_documents, token_bits
from .evidence import Evidence
from .memory import memory_change
from .repeated_passages import bits_saved, repeated_passages
from .rules import RULES, find_rule
from .runs import RunFolder
from .training_windows import WINDOWS, training_windows

Floats = npt.NDArray[np.float64]
Rows = list[dict[str, Any]]

TIMES = (4, 16, 64)
"""Target lengths in training lengths."""
TABLE_RULES = (*RULES, "hard-clip:2", "hard-clip:4", "hard-clip:16")
"""All rules, and hard clips from T to far out."""
GAPS = (0.5, 0.8125, 2.0)
"""Distances of repeated passages in training lengths."""
PAIRS = 64
"""Pairs of repeated passages. Ours: the standard error is then a fifth of what the bundled Mamba-1 model saves."""


@dataclass(frozen=True, slots=True)
class RuleTable:
    """Rules on one model."""

    model: str
    """Its name."""
    texts: Rows
    """One row a rule, corpus and length."""
    memory: Rows
    """One row a rule and length."""

    def summary(self, length: int) -> Rows:
        """Return one row a rule at a length: harm averaged over corpora and the worst, cost inside T, memory."""
        rows = []
        for kept in (m for m in self.memory if m["length"] == length):
            of = [row for row in self.texts if row["rule"] == kept["rule"] and row["length"] == length]
            rows.append({
                "rule": kept["rule"],
                "bakes": kept["bakes"],
                "harm_mean": float(np.mean([row["harm"] for row in of])),
                "harm_worst": max(row["harm"] for row in of),
                "inside_mean": float(np.mean([row["inside"] for row in of])),
                "energy_older": kept["energy_older_after"],
            })
        return sorted(rows, key=lambda row: row["harm_mean"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"model": self.model, "texts": self.texts, "memory": self.memory}


def _same(scales: Scales) -> str:
    return json.dumps(scales.to_dict())


def rule_table(
    model: Model,
    found: Diagnosis,
    corpora: Mapping[str, Sequence[Document]],
    passages_from: Sequence[Document],
    *,
    rules: Sequence[str] = TABLE_RULES,
    times: Sequence[int] = TIMES,
    run: RunFolder | None = None,
) -> RuleTable:
    """Score rules on texts that no scale was made from.

    Args:
        model: a loaded model.
        found: its diagnosis on calibration text, with writes.
        corpora: validation documents by corpus; those that reach the longest length are read.
        passages_from: documents that repeated passages are cut from; none where they are not wanted.
        rules: names, as ``find_rule`` takes them.
        times: target lengths in training lengths.
        run: keeps what has been scored, so that a stopped table goes on.

    Returns:
        The table.
    """
    T = found.train_length
    lengths = [n * T for n in sorted(times)]
    scales = {rule: {n: find_rule(rule)(Evidence.of(found, n)) for n in lengths} for rule in rules}
    for of_rule in scales.values():
        for each in of_rule.values():
            each.check(model.config)

    texts: Rows = []
    for corpus, documents in corpora.items():
        scorer = _Scorer(model, stack_documents([d.ids for d in documents], lengths[-1]), T)
        for rule in rules:

            def score(rule: str = rule, scorer: _Scorer = scorer) -> Rows:
                return scorer.rows(scales[rule])

            kept = run.cell(f"rules/{model.name}/{corpus}/{rule}", score) if run else score()
            texts += [{"model": model.name, "rule": rule, "corpus": corpus} | row for row in kept]
    gaps = [round(gap * T) for gap in GAPS] if passages_from else []
    pairs = [repeated_passages(passages_from, gap, PAIRS, seed=gap) for gap in gaps]
    memory: Rows = []
    for rule in rules:

        def recall(rule: str = rule) -> dict[str, float]:
            saved: dict[str, float] = {}
            for pair in pairs:
                name = f"saved_at_{pair.gap_tokens}"
                saved[name], saved[f"{name}_se"] = bits_saved(model, pair, scales[rule][lengths[-1]])
            return saved

        saved = run.cell(f"rules/{model.name}/passages/{rule}", recall) if run else recall()
        bakes = "no" if find_rule(rule).why_not_baked(model.config) else "yes"
        for n, each in scales[rule].items():
            row = {"model": model.name, "rule": rule, "length": n, "bakes": bakes}
            memory.append(row | _means(memory_change(found, each, length=n).rows()) | saved)
    return RuleTable(model.name, texts, memory)


def _means(rows: Rows) -> dict[str, float]:
    shares = {name: float(np.mean([r[name] for r in rows])) for name in ("energy_older_before", "energy_older_after")}
    longest = max(r["forgets_longest_after_tokens"] for r in rows)
    return shares | {"forgets_longest_after_tokens": longest}


class _Scorer:
    """Scores scales on the documents of one corpus; equal scales at several lengths are run once."""

    def __init__(self, model: Model, ids: npt.NDArray[np.integer], train_length: int) -> None:
        self.model, self.ids, self.train_length = model, ids, train_length
        self.windows = training_windows(ids, train_length, WINDOWS)
        self._control: Floats | None = None
        self._inside = 0.0

    def _mean_inside(self, scales: Scales | None) -> float:
        return float(token_bits(self.model, self.windows, scales).mean())

    def rows(self, scales: Mapping[int, Scales]) -> Rows:
        if self._control is None:
            self._control = fresh_window_bits(self.model, self.ids, self.train_length)
            self._inside = self._mean_inside(None)
        longest = {_same(each): n for n, each in sorted(scales.items())}  # the last length of equal scales
        bits = {key: token_bits(self.model, self.ids[:, :n], scales[n]) for key, n in longest.items()}
        inside = {key: self._mean_inside(scales[n]) - self._inside for key, n in longest.items()}
        rows = []
        for n, each in scales.items():
            found = rows_by_length("rule", bits[_same(each)], [n], self._control)[0].to_dict()
            names = ("length", "documents", "tail_bits_per_token", "harm", "harm_ci_low", "harm_ci_high")
            rows.append({name: found[name] for name in names} | {"inside": inside[_same(each)]})
        return rows
