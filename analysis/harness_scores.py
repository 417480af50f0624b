"""One call that evaluates a model, scaled or baked, by lm-evaluation-harness, and says how.

Source: EleutherAI/lm-evaluation-harness, ``simple_evaluate``. Its request cache is never used: it unpickles what it
finds in a folder.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mambascope.spectra.errors import RefusedInputError, UnsafeCheckpointError
from mambascope.spectra.scales import Scales

from .lm_eval_adapter import register


@dataclass(frozen=True, slots=True)
class HarnessRow:
    """A metric of a task."""

    task: str
    """Name of the task, or of a group."""
    version: str
    """The task's version."""
    metric: str
    """Name of the metric."""
    filter: str
    """What was done to the answers before."""
    value: float
    """Its value."""
    stderr: float | None
    """Its standard error, where the harness has one."""
    samples: int | None
    """Documents behind it; None for a group."""


@dataclass(frozen=True, slots=True)
class HarnessScores:
    """What the harness measured, and how."""

    rows: tuple[HarnessRow, ...]
    """One a metric."""
    about: dict[str, Any]
    """Versions of harness and model, what was cut, how many requests, with which scales."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"about": self.about, "rows": [asdict(row) for row in self.rows]}

    def value(self, task: str, metric: str) -> float:
        """Return a metric of a task; the first filter's where there are several."""
        return next(row.value for row in self.rows if (row.task, row.metric) == (task, metric))

    def __repr__(self) -> str:
        told = ", ".join(f"{row.task} {row.metric} {row.value:.4g}" for row in self.rows[:4])
        return f"HarnessScores({told}{', ...' if len(self.rows) > 4 else ''})"


def lm_eval_scores(
    pretrained: str | Path,
    tasks: Sequence[str],
    *,
    scales: Scales | str | Path | None = None,
    lengths: Sequence[int] = (),
    include: str | Path | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    generation: Mapping[str, Any] | None = None,
    resamples: int = 1000,
    **how: Any,
) -> HarnessScores:
    """Evaluate a model, scaled or baked, on tasks of lm-evaluation-harness.

    The harness downloads the data of its own tasks, and seeds Python's, numpy's and torch's global generators.

    Args:
        pretrained: a bundled name, a folder or a hub id.
        tasks: names of tasks or groups.
        scales: scales, or their file; none for a baked model.
        lengths: for tasks that make prompts of given lengths (RULER): tokens, each.
        include: a folder with tasks of one's own.
        limit: documents of a task at most.
        num_fewshot: examples before each question. Default: the task's own number.
        generation: takes the place of a task's ``generation_kwargs``, value by value.
        resamples: for standard errors that have no formula; 0 for no standard errors. Default: ours, the harness's
            100,000 take longer than a small model's answers.
        how: more arguments of ``Requests``, such as ``max_length``.

    Returns:
        The scores.

    Raises:
        RefusedInputError: the harness is not installed, or a length is above ``max_length``.
        UnsafeCheckpointError: for prompts of given lengths the harness would run code of the model's folder.
    """
    model = register()(pretrained, scales, **how)
    if model.max_length is not None and lengths and max(lengths) > model.max_length:
        raise RefusedInputError(
            f"prompts of {max(lengths)} tokens would be cut to max_length {model.max_length}; give None or a longer one"
        )
    # prompts of a given length are measured with a tokenizer, which the harness loads by itself
    folder = model.tokenizer_file.parent if model.tokenizer_file else pretrained
    if lengths:
        _refuse_code(Path(folder))
    asked = {"max_seq_lengths": list(lengths), "tokenizer": str(folder)} if lengths else None
    manager = importlib.import_module("lm_eval.tasks").TaskManager(
        include_path=None if include is None else str(include), metadata=asked
    )
    raw = importlib.import_module("lm_eval").simple_evaluate(
        model=model,
        tasks=list(tasks),
        task_manager=manager,
        limit=limit,
        num_fewshot=num_fewshot,
        gen_kwargs=dict(generation) if generation else None,
        bootstrap_iters=resamples,
        log_samples=False,
    )
    about = model.get_model_info() | {"lm_eval": metadata.version("lm_eval"), "limit": limit, "lengths": list(lengths)}
    return HarnessScores(tuple(_rows(raw)), about)


def _refuse_code(folder: Path) -> None:
    """Refuse a folder whose tokenizer names code of its own: the harness loads it with ``trust_remote_code``."""
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and _names_code(path):
            raise UnsafeCheckpointError(
                f"{path}: names code (auto_map), which the harness would run to load the tokenizer; remove that entry"
            )


def _names_code(path: Path) -> bool:
    """Return whether a config has an ``auto_map``, however it is spelt; what cannot be read may have one."""
    try:
        raw = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return True
    return not isinstance(raw, dict) or "auto_map" in raw


def _rows(raw: Mapping[str, Any]) -> list[HarnessRow]:
    """Read the harness's table: keys are ``metric,filter`` and ``metric_stderr,filter``."""
    rows = []
    for task, values in raw["results"].items():
        for key, value in values.items():
            metric, comma, chosen = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{chosen}")
            count = raw.get("n-samples", {}).get(task, {}).get("effective")
            version = str(raw.get("versions", {}).get(task, ""))
            known = float(error) if isinstance(error, int | float) else None
            rows.append(HarnessRow(task, version, metric, chosen, float(value), known, count))
    return rows
