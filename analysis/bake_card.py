"""README.md of a baked checkpoint: what it is, how to load it, how it was made, what was measured."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.layouts import Layout

_MOST_ROWS = 500
"""A card is read by people."""

_RATES = (
    "Changed `A_log` are stored in float32. Loading in bfloat16 rounds them too, which moves a rate by up to 0.4 % "
    "times |A_log|: load in float32 where that matters."
)
_HOW_TO_LOAD = {
    "transformers": """```python
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("path/of/this/folder")
```""",
    "state-spaces": """```python
from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel
model = MambaLMHeadModel.from_pretrained("path/of/this/folder")
```""",
}


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a table of measured curves.

    Args:
        path: a CSV file with a head, such as ``tables/perplexity.csv`` of ``mambascope evaluate``.

    Returns:
        Its rows.

    Raises:
        RefusedInputError: it is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise RefusedInputError(f"{path}: cannot read this table: {problem}; give a CSV file") from problem
    if not 1 <= len(rows) <= _MOST_ROWS or any(None in row or None in row.values() for row in rows):
        raise RefusedInputError(
            f"{path}: expected a CSV table of a head and 1 to {_MOST_ROWS} rows, all of its width; "
            "give tables/perplexity.csv of `mambascope evaluate`"
        )
    return rows


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    def cell(value: Any) -> str:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return " ".join(text.split()).replace("|", "\\|")

    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[name] for name in head] for row in rows)]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines)


def _check_words(document: Mapping[str, Any]) -> str:
    check = document["check"]
    if rates := document.get("rates_check"):
        return (
            f"Rates |A| of the {rates['layers']} Mamba layers, read back from these files, and those of the scaled "
            f"model differ by {rates['largest_error']:.2g} at most. Logits were not compared: mambascope has no "
            "forward of this architecture."
        )
    if check is None:
        return "Not compared with the scaled model."
    words = (
        f"Logits on {check['tokens']} tokens ({check['text']}), {check['dtype']}: the largest difference between this "
        f"checkpoint and the scaled model is {check['error']:.2g} of the largest logit"
    )
    if check["stated_error"]:
        words += (
            f"; with the gated norms' epsilon put right {check['fold_error']:.2g}. A `dt` factor s of Mamba-2 is "
            "absorbed by the gated norm but for its epsilon, which acts as s^2 eps. The changes of the norms' outputs "
            f"that follow, each layer at its worst token, add up to {check['stated_error']:.2g}: expect less than that"
        )
    return words + "."


def _addressed(document: Mapping[str, Any]) -> str:
    """Say which layers the factors are of, where a model has others between them."""
    layers = document.get("layers")
    return f" Factors are of the Mamba layers, in the model's count {', '.join(map(str, layers))}." if layers else ""


def card_text(document: Mapping[str, Any], layout: Layout, curves: Sequence[Mapping[str, str]] = ()) -> str:
    """Write the card.

    Args:
        document: what ``Baked.to_dict`` gives.
        layout: dialect of the checkpoint.
        curves: measured rows to show.

    Returns:
        Markdown; equal documents give equal text.
    """
    made = document["made_by"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    parts = [
        f"# {document['name']}",
        f"{document['model']} with length scaling folded into its weights: an ordinary checkpoint, nothing is patched "
        f"when it runs. Made by mambascope {made['mambascope']}.",
        f"## Load\n\n{_HOW_TO_LOAD[layout]}\n\n{_RATES}",
        "## Factors\n\n`a`: A -> s A. `a_power`: |A| -> |A|^s. `dt`: dt -> s dt after the softplus. They act in this "
        "order; `scales.json` has every value. Exactness: `exact` up to the last digits of float32, `rounded` to the "
        "16-bit type of the weights, `norm_eps` but for the gated norm's epsilon. States: `h` those of the scaled "
        "model, `h/s` those divided by the `dt` factor (take norms from the scaled model then)." + _addressed(document),
        _table(document["folds"]) if document["folds"] else "None.",
        f"## Check\n\n{_check_words(document)}",
    ]
    if curves:
        parts.append(f"## Measured\n\n{_table(curves)}")
    if document["tensors"]:
        parts.append(f"## Changed tensors\n\nEvery other tensor is the source's.\n\n{_table(document['tensors'])}")
    inputs = [{name: one[name] for name in ("role", "name", "bytes", "sha256")} for one in made["inputs"]]
    parts.append(
        f"## Provenance\n\nscales.json: sha256 `{document['scales_sha256']}`. "
        + ("" if inputs else f"Source, a model in memory: sha256 `{document['checkpoint_sha256']}`. ")
        + f"Versions: mambascope {made['mambascope']}, {versions}."
    )
    if inputs:
        parts.append(_table(inputs))
    return "\n\n".join(parts) + "\n"
