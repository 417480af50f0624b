"""Bake: write an ordinary checkpoint with scaling factors folded into its weights (how: ``folds``).

The source is read and the result written one tensor at a time, and the self-check (``bake_check``) holds one layer, so
a checkpoint of any size takes the memory of its largest tensors. The folder is a run folder, too: the same bake on it
finds its own files and does nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from mambascope.spectra.checkpoint import Checkpoint
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.foreign.checkpoint import ForeignCheckpoint, open_any
from mambascope.spectra.layouts import Layout
from mambascope.spectra.loading import Card, read_card, tokenizer_file
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Scales
from mambascope.spectra.tensor_source import TensorEntry, TensorFile

from .bake_check import Check
from .bake_files import Job, side_files, write_files
from .bake_foreign import ForeignJob, plan_foreign, write_foreign
from .folds import Fold, describe_folds, plan_folds
from .runs import InputFile, RunFolder

CHECK_TOKENS = 256
"""Tokens of the self-check. Default of ours: the training length of the bundled models; 2.8b takes a minute."""


@dataclass(frozen=True, slots=True)
class Baked:
    """A finished bake."""

    folder: Path
    """Where the checkpoint is."""
    document: Mapping[str, Any]
    """All that is known of it, as JSON: model, name, layout, folds, tensors, check, files, made_by, sha256 sums."""

    @property
    def folds(self) -> list[Fold]:
        """How each factor was folded, in their order."""
        return [Fold(**fold) for fold in self.document["folds"]]

    @property
    def check(self) -> Check | None:
        """Baked against scaled logits; None if it was left out."""
        fields = dict(self.document["check"] or {})
        fields.pop("stated_error", None)
        return Check(**(fields | {"norm_errors": tuple(fields["norm_errors"])})) if fields else None

    @property
    def changes(self) -> dict[str, float]:
        """For each changed tensor the largest change, relative to its largest value."""
        return {row["tensor"]: row["change"] for row in self.document["tensors"]}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dict(self.document)

    def __repr__(self) -> str:
        rates = self.document.get("rates_check")
        error = self.check.error if self.check else rates["largest_error"] if rates else None
        told = "not measured" if error is None else f"{error:.2g}"
        return f"Baked({self.folder}, {self.document['layout']}, {len(self.changes)} tensors changed, error {told})"


def bake(
    source: str | Path | Checkpoint | Model | Any,
    scales: Scales | str | Path,
    folder: str | Path,
    layout: Layout = "transformers",
    *,
    name: str | None = None,
    train_length: int | None = None,
    tokenizer: str | Path | None = None,
    curves: str | Path | None = None,
    check_tokens: int = CHECK_TOKENS,
    fresh: bool = False,
) -> Baked:
    """Write an ordinary checkpoint that computes what a model computes under scales.

    Args:
        source: a bundled name, folder, hub id or open checkpoint; or a model in memory, ours or a foreign one (which
            has no tokenizer: give one). A folder may hold one of the families of ``spectra.foreign``: only its Mamba
            layers change, its shards stay, and its rates instead of its logits are checked.
        scales: the factors, or a file of them; those for such a family count its Mamba layers among themselves.
        folder: a new or empty folder, or one of the same bake, which then is left as it is if it is whole.
        layout: ``transformers`` (model.safetensors) or ``state-spaces`` (the pytorch_model.bin that mamba_ssm reads).
        name: how reports call the result. Default: the source's name and ``-baked``.
        train_length: tokens the source was trained on at once. Default: what its card says.
        tokenizer: a ``tokenizer.json``. Default: the source's.
        curves: a CSV table of measurements to show in the model card.
        check_tokens: tokens of the self-check; 0 leaves it out.
        fresh: start over in the folder of another bake.

    Returns:
        What was written and how exact it is.

    Raises:
        ScaleError: factors that no weights can express.
        RefusedInputError: an argument that cannot be used.
        BakeCheckError: the result does not compute what it should.
    """
    if layout not in get_args(Layout) or check_tokens < 0:
        raise RefusedInputError(
            f"layout {layout!r}, check_tokens {check_tokens}: expected {' or '.join(get_args(Layout))}, and 0 or more"
        )
    checkpoint, model_name, known_length = _opened(source)
    factors = scales if isinstance(scales, Scales) else Scales.load(scales)
    given = {"scales": None if isinstance(scales, Scales) else scales, "curves": curves, "tokenizer": tokenizer}
    paths = {role: Path(path) for role, path in given.items() if path is not None}
    _refuse_own_inputs(Path(folder), [checkpoint.folder, *paths.values()])
    foreign = isinstance(checkpoint, ForeignCheckpoint)
    if foreign and layout != "transformers":
        raise RefusedInputError(f"{checkpoint.folder}: has the transformers layout and keeps it; leave --layout out")
    plan = (
        plan_foreign(factors, checkpoint)
        if isinstance(checkpoint, ForeignCheckpoint)
        else plan_folds(factors, checkpoint.config)
    )
    name, train_length = name or f"{model_name}-baked", train_length or known_length
    if train_length is not None and train_length < 2:
        raise RefusedInputError(f"train_length {train_length}: expected at least 2 tokens")
    side = side_files(checkpoint, factors, layout, Card(name, train_length) if train_length else None, paths)
    job = (
        ForeignJob(checkpoint, factors, plan, *side)
        if isinstance(checkpoint, ForeignCheckpoint)
        else Job(checkpoint, factors, plan, layout, *side)
    )
    job.config()  # may refuse: not every layout can say every model
    stated: dict[str, Any] = {
        "model": model_name,
        "name": name,
        "layout": layout,
        "train_length": train_length,
        "checkpoint_sha256": None if checkpoint.files else checkpoint.sha256(),
        "scales_sha256": hashlib.sha256(side[0]["scales.json"]).hexdigest(),
    }
    if foreign:
        stated["layers"] = list(checkpoint.layers)  # of which the factors are
    inputs = [InputFile.of("checkpoint", path) for path in checkpoint.files]
    inputs += [InputFile.of(role, path) for role, path in sorted(paths.items())]
    if "tokenizer" not in paths and (beside := tokenizer_file(checkpoint)):
        inputs.append(InputFile.of("tokenizer", beside))
    command = {"verb": "bake", "check_tokens": check_tokens} | stated
    with RunFolder.open(folder, command=command, seed=None, fresh=fresh, inputs=inputs) as run:
        folds = [f.to_dict() for f in describe_folds(factors, checkpoint.config, plan, job.stored_dtypes)]
        if isinstance(job, ForeignJob):
            return Baked(Path(folder), write_foreign(run, job, stated | {"folds": folds}))
        return Baked(
            Path(folder), write_files(run, job, stated | {"folds": folds}, check_tokens, paths.get("tokenizer"))
        )


def _opened(source: Any) -> tuple[Checkpoint, str, int | None]:
    """Open a source; return it with its name and training length as far as they are known."""
    if isinstance(source, Model):
        tied = {"lm_head.weight"} if source.config.tie_embeddings else set()
        tensors = {n: t for n, t in source.state_dict().items() if n not in tied}
        entries = {n: TensorEntry(t.dtype, tuple(t.shape)) for n, t in tensors.items()}
        file = TensorFile(Path(source.name), entries, lambda n: tensors[n].detach().cpu())
        return Checkpoint(source.config, "state-spaces", dict.fromkeys(entries, file)), source.name, source.train_length
    if isinstance(source, str | Path):
        checkpoint = open_any(source)
    else:
        checkpoint = source if isinstance(source, Checkpoint) else Checkpoint.from_object(source)
    card = read_card(checkpoint.folder)
    if card:
        return checkpoint, card.name, card.train_length
    return checkpoint, checkpoint.folder.resolve().name if checkpoint.folder else type(source).__name__, None


def _refuse_own_inputs(folder: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse to write where the inputs are: ``fresh`` would delete them."""
    for path in inputs:
        if path is not None and folder.resolve() in {path.resolve(), *path.resolve().parents}:
            raise RefusedInputError(f"{folder}: holds {path}, which is read; choose another folder with -o")
