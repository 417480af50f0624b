"""The table that decides which rule is the default: every rule on validation text, and what each gives up.

A row of ``texts`` is a rule on one corpus at one length: tail bits, harm (tail bits less the fresh-window control's, by
document) and what it costs inside the training length (bits of fresh windows of T tokens, less those without scales).
A row of ``memory`` is a rule at one length: share of energy older than T, and bits that a repeated passage saves with
the scales for the longest length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mambascope.spectra.dynamics import Observer
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales
from mambascope.spectra.tokens import Document

from .diagnosis import Diagnosis
from .evaluate.perplexity import fresh_window_bits, rows_by_length, stack_documents, token_bits
from .evidence import Evidence
from .memory import memory_change
from .repeated_passages import PASSAGE_TOKENS, bits_saved, repeated_passages
from .rules import RULES, find_rule
from .runs import RunFolder
from .texts import Tick, token_counter
from .training_windows import training_windows

Floats = npt.NDArray[np.float64]
Rows = list[dict[str, Any]]

TIMES = (4, 16, 64)
"""Target lengths in training lengths."""
TABLE_RULES = (*RULES, "hard-clip:2", "hard-clip:4", "hard-clip:16")
"""All rules, and hard clips from T to far out."""
GAPS = (0.8125,)
"""Distances of repeated passages in training lengths. Ours: recall within T, which training showed and clips cost; at
2 T what the bundled models save is three standard errors from nothing, too little to tell rules apart."""
PAIRS = 48
"""Pairs of repeated passages. Ours: enough to tell the bundled Mamba-1 model from one that remembers nothing, which
tests/analysis/test_rule_table.py does."""
INSIDE_WINDOWS = 32
"""Windows of T tokens of each corpus that show what is lost inside T. Ours: with and without scales the same are read,
so few will do."""


@dataclass(frozen=True, slots=True)
class RuleTable:
    """Rules on one model."""

    model: str
    """Its name."""
    train_length: int
    """T in tokens."""
    texts: Rows
    """One row a rule, corpus and length."""
    memory: Rows
    """One row a rule and length."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Corpora that were asked for and not read, and why."""

    @property
    def lengths(self) -> list[int]:
        """Target lengths, ascending."""
        return sorted({row["length"] for row in self.memory})

    @property
    def gaps(self) -> list[int]:
        """Distances of repeated passages in tokens, ascending; none where none were read."""
        named = self.memory[0] if self.memory else {}
        return sorted(int(name.split("_")[2]) for name in named if name.startswith("saved_at_") and "_se" not in name)

    def documents(self) -> dict[str, int]:
        """Return how many documents each corpus has, the same in all of its cells."""
        return {row["corpus"]: row["documents"] for row in self.texts}

    def summary(self, length: int | None = None) -> Rows:
        """Return one row a rule, least harm first.

        Args:
            length: a target length. Default: all of them; ``harm_worst`` and ``inside_worst`` are then over corpora and
                lengths, the rest is at the longest.

        Returns:
            Harm averaged over corpora and the worst, what is lost inside T, memory.
        """
        at = self.lengths[-1] if length is None else length
        rows = []
        for kept in (m for m in self.memory if m["length"] == at):
            of_rule = [row for row in self.texts if row["rule"] == kept["rule"]]
            here = [row for row in of_rule if row["length"] == at]
            worst = of_rule if length is None else here
            saved = {name: value for name, value in kept.items() if name.startswith("saved_at_")}
            rows.append({
                "rule": kept["rule"],
                "bakes": kept["bakes"],
                "harm_mean": float(np.mean([row["harm"] for row in here])),
                "harm_worst": max(row["harm"] for row in worst),
                "inside_mean": float(np.mean([row["inside"] for row in here])),
                "inside_worst": max(row["inside"] for row in worst),
                "energy_older": kept["energy_older_after"],
                **saved,
            })
        return sorted(rows, key=lambda row: row["harm_mean"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"model": self.model, "train_length": self.train_length, "texts": self.texts, "memory": self.memory} | {
            "left_out": dict(self.left_out)
        }


def rules_for(found: Diagnosis) -> list[str]:
    """Return the rules that a diagnosis allows: without measured writes, those that need none."""
    return [rule for rule in TABLE_RULES if found.writes is not None or not find_rule(rule).needs_writes]


def times_within(train_length: int, target_length: int) -> tuple[int, ...]:
    """Return the ``TIMES`` that a target length holds; where it holds none, the target itself in whole T."""
    held = tuple(n for n in TIMES if n * train_length <= target_length)
    return held or (target_length // train_length,)


def planned_tokens(
    corpora: Mapping[str, Sequence[Document]], train_length: int, times: Sequence[int], rules: int = len(TABLE_RULES)
) -> int:
    """Estimate how many tokens a table runs through the model.

    Args:
        corpora: validation documents by corpus; passages are cut from the first.
        train_length: T.
        times: target lengths in T.
        rules: how many rules.

    Returns:
        Tokens, were about half of the rules to differ from length to length.
    """
    longest, tokens = max(times) * train_length, 0
    for documents in corpora.values():
        read = longest * sum(len(d) >= longest for d in documents)
        inside = min(read, INSIDE_WINDOWS * train_length)
        tokens += 2 * read + round(rules * (1.15 * read + (1 + len(times)) / 2 * inside))
    gaps = _gaps(train_length, next(iter(corpora.values()), ()))
    return tokens + rules * 2 * PAIRS * sum(gap + PASSAGE_TOKENS for gap in gaps)


def _gaps(train_length: int, documents: Sequence[Document]) -> list[int]:
    """Distances at which two documents at least hold a passage twice."""
    gaps = [gap for part in GAPS if (gap := round(part * train_length)) >= PASSAGE_TOKENS]
    return [gap for gap in gaps if sum(len(d) > max(gap, 4 * PASSAGE_TOKENS) for d in documents) > 1]


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
    key: str | None = None,
    tick: Tick = lambda _: None,
) -> RuleTable:
    """Score rules on texts that no scale was made from.

    Args:
        model: a loaded model.
        found: its diagnosis on calibration text, with writes where a rule rests on them.
        corpora: validation documents by corpus; those that reach the longest length are read.
        passages_from: documents that repeated passages are cut from; none where they are not wanted. Passages further
            apart than two of them hold, or closer than they are long, are left out.
        rules: names, as ``find_rule`` takes them.
        times: target lengths in training lengths.
        run: keeps what has been scored, so that a stopped table goes on.
        key: what the run files the model's cells under. Default: the model's name.
        tick: called with numbers of tokens as they pass through the model.

    Returns:
        The table.
    """
    T, prefix = found.train_length, key or model.name
    lengths = [n * T for n in sorted(times)]
    scales = {rule: {n: find_rule(rule)(Evidence.of(found, n)) for n in lengths} for rule in rules}
    for of_rule in scales.values():
        for each in of_rule.values():
            each.check(model.config)

    texts: Rows = []
    for corpus, documents in corpora.items():
        scorer = _Scorer(model, stack_documents([d.ids for d in documents], lengths[-1]), T, tick)
        for rule in rules:

            def score(rule: str = rule, scorer: _Scorer = scorer) -> Rows:
                return scorer.rows(scales[rule])

            kept = run.cell(f"{prefix}/rules/{corpus}/{rule}", score) if run else score()
            texts += [{"model": model.name, "rule": rule, "corpus": corpus} | row for row in kept]
    pairs = [repeated_passages(passages_from, gap, PAIRS, seed=gap) for gap in _gaps(T, passages_from)]
    memory: Rows = []
    for rule in rules:

        def recall(rule: str = rule) -> dict[str, float]:
            saved: dict[str, float] = {}
            for pair in pairs:
                name = f"saved_at_{pair.gap_tokens}"
                saved[name], saved[f"{name}_se"] = bits_saved(model, pair, scales[rule][lengths[-1]])
                tick(pair.repeated.size + pair.other.size)
            return saved

        saved = run.cell(f"{prefix}/rule-passages/{rule}", recall) if run and pairs else recall()
        bakes = "no" if find_rule(rule).why_not_baked(model.config) else "yes"
        for n, each in scales[rule].items():
            row = {"model": model.name, "rule": rule, "length": n, "bakes": bakes}
            memory.append(row | _means(memory_change(found, each, length=n).rows()) | saved)
    return RuleTable(model.name, T, texts, memory)


def _means(rows: Rows) -> dict[str, float]:
    shares = {name: float(np.mean([r[name] for r in rows])) for name in ("energy_older_before", "energy_older_after")}
    longest = max(r["forgets_longest_after_tokens"] for r in rows)
    return shares | {"forgets_longest_after_tokens": longest}


class _Scorer:
    """Scores scales on the documents of one corpus; equal scales at several lengths are run once."""

    def __init__(self, model: Model, ids: npt.NDArray[np.integer], train_length: int, tick: Tick) -> None:
        self.model, self.ids, self.train_length = model, ids, train_length
        self.watch: list[Observer] = [token_counter(tick)]
        self.windows = training_windows(ids, train_length, INSIDE_WINDOWS)
        self._control: Floats | None = None
        self._inside = 0.0

    def _mean_inside(self, scales: Scales | None) -> float:
        return float(token_bits(self.model, self.windows, scales, observers=self.watch).mean())

    def rows(self, scales: Mapping[int, Scales]) -> Rows:
        if self._control is None:
            self._control = fresh_window_bits(self.model, self.ids, self.train_length, observers=self.watch)
            self._inside = self._mean_inside(None)
        longest = {_same(each): n for n, each in sorted(scales.items())}  # the last length of equal scales
        bits = {
            key: token_bits(self.model, self.ids[:, :n], scales[n], observers=self.watch) for key, n in longest.items()
        }
        inside = {key: self._mean_inside(scales[n]) - self._inside for key, n in longest.items()}
        rows = []
        for n, each in scales.items():
            found = rows_by_length("rule", bits[_same(each)], [n], self._control)[0].to_dict()
            names = ("length", "documents", "tail_bits_per_token", "harm", "harm_ci_low", "harm_ci_high")
            rows.append({name: found[name] for name in names} | {"inside": inside[_same(each)]})
        return rows
