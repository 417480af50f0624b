"""The table that decides which rule is the default: every rule on validation text, and what each gives up.

A row of ``texts`` is a rule on one corpus at one length: tail bits; harm, tail bits less the fresh-window control's;
what it costs inside the training length, bits of windows of T tokens less those without scales; and tail bits less
those of the default rule. Each is a mean over documents of differences on the same document, with its 95 % interval
(``evaluate.intervals``). A row of ``memory`` is a rule at one length: share of energy older than T, and bits that a
repeated passage saves with the scales for the longest length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mambascope.spectra.html_table import html_table
from mambascope.spectra.model import Model
from mambascope.spectra.tokens import Document

from .diagnosis import Diagnosis
from .evaluate.intervals import Paired, paired
from .evaluate.passages import stack_documents
from .evidence import Evidence
from .goals import GOALS
from .memory import memory_change
from .repeated_passages import PASSAGE_TOKENS, bits_saved, repeated_passages
from .rule_scores import INSIDE_WINDOWS, RuleScorer, Scores
from .rules import RULES, find_rule
from .runs import RunFolder
from .texts import Tick

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
DEFAULT = next(iter(GOALS.values())).rule
"""The rule of the first goal: what every other is held against."""


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

    def _repr_html_(self) -> str:
        return html_table(self.summary(), f"Rules on {self.model}, least harm first")

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

    def kept(cell: str, compute: Callable[[], Any]) -> Any:
        return run.cell(f"{prefix}/{cell}", compute) if run else compute()

    texts: Rows = []
    for corpus, documents in corpora.items():
        scorer = RuleScorer(model, stack_documents([d.ids for d in documents], lengths[-1]), T, tick)
        control = kept(f"rule-control/{corpus}", functools.partial(scorer.control, lengths))
        scores = {
            rule: kept(f"rule-scores/{corpus}/{rule}", functools.partial(scorer.scores, scales[rule])) for rule in rules
        }
        for rule in rules:
            rows = score_rows(scores[rule], control, scores.get(DEFAULT))
            texts += [{"model": model.name, "rule": rule, "corpus": corpus} | row for row in rows]
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

        saved = kept(f"rule-passages/{rule}", recall) if pairs else {}
        bakes = "no" if find_rule(rule).why_not_baked(model.config) else "yes"
        for n, each in scales[rule].items():
            row = {"model": model.name, "rule": rule, "length": n, "bakes": bakes}
            memory.append(row | _means(memory_change(found, each, length=n).rows()) | saved)
    return RuleTable(model.name, T, texts, memory)


def _means(rows: Rows) -> dict[str, float]:
    shares = {name: float(np.mean([r[name] for r in rows])) for name in ("energy_older_before", "energy_older_after")}
    longest = max(r["forgets_longest_after_tokens"] for r in rows)
    return shares | {"forgets_longest_after_tokens": longest}


def score_rows(of_rule: Scores, of_control: Scores, of_default: Scores | None) -> Rows:
    """Compute the statistics of one rule on one corpus.

    Args:
        of_rule: its scores.
        of_control: the fresh-window control's, at the same lengths and of the same documents.
        of_default: the default rule's; None where it was not scored.

    Returns:
        One row a length; without the default ``against_default`` is None.
    """
    rows = []
    for k, (score, control) in enumerate(zip(of_rule, of_control, strict=True)):
        tail = np.asarray(score["tail"])
        row = {"length": score["length"], "documents": len(tail), "tail_bits_per_token": float(tail.mean())}
        row |= _named("harm", paired(tail, np.asarray(control["tail"])))
        row |= _named("inside", paired(np.asarray(score["inside"]), np.asarray(control["inside"])))
        against = paired(tail, np.asarray(of_default[k]["tail"])) if of_default else None
        rows.append(row | _named("against_default", against))
    return rows


def _named(name: str, found: Paired | None) -> dict[str, float | None]:
    ends = {f"{name}_ci_low": found.low if found else None, f"{name}_ci_high": found.high if found else None}
    return {name: found.mean if found else None} | ends
