"""Bake factors into a foreign model's checkpoint: only its Mamba layers' tensors change, every other byte is copied.

Factors address the Mamba layers among themselves: the first value of (n_layer, ...) is that of the first Mamba layer,
whatever other layers lie before it.

* ``a`` and ``a_power`` fold into A_log, exactly, in every layout: A_log is read nowhere else.
* ``dt`` folds into Mamba-1 layers (FalconMamba, Jamba) exactly too, for each channel: with A_log + ln s the states are
  those of the scaled model divided by s, so D / s and out_proj's columns times s give the same outputs, as the gate
  between them is linear. The norms on dt, B and C stand before the step size is scaled and see nothing of it; they
  are why s cannot go into the B rows of x_proj, where a plain Mamba takes it.
* ``dt`` is refused for Mamba-2 layers, which all have a gated norm after the scan in these families: it takes a common
  factor away but for its epsilon, and nothing else could carry it.

A tensor that changes keeps its type, but an A_log of 16 bits becomes one of 32.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from mambascope.spectra.config import Config
from mambascope.spectra.errors import CheckpointError, MambascopeError, ScaleError
from mambascope.spectra.foreign.checkpoint import ForeignCheckpoint
from mambascope.spectra.scales import Scales
from mambascope.spectra.tensor_files import open_safetensors

from .atomic import replacing, write_bytes, write_json
from .bake_card import card_text
from .bake_files import RECORD, config_bytes, described, finished, relative_change
from .bake_shards import copy_shard, index_bytes
from .folds import LayerFold, plan_folds
from .runs import RunFolder

RATES_LIMIT = 1e-5
"""Largest relative error of a rate of a baked model. Ours: float32 keeps an A_log of 80 to 4e-6."""


class RatesCheckError(MambascopeError):
    """The baked A_log do not give the rates of the scaled model; no config.json was written."""

    exit_code = 4


def plan_foreign(scales: Scales, checkpoint: ForeignCheckpoint) -> tuple[LayerFold, ...]:
    """Find how factors go into the Mamba layers.

    Args:
        scales: the factors, for the Mamba layers among themselves.
        checkpoint: the model.

    Returns:
        One plan a Mamba layer.

    Raises:
        ScaleError: they do not fit, have an onset, or are of kind ``dt`` on Mamba-2 layers.
    """
    family = checkpoint.foreign.name

    def write(_: Tensor, __: int, config: Config) -> Literal["out_proj"]:
        if config.arch == "mamba":
            return "out_proj"
        raise ScaleError(
            f"dt factors on {family}: its Mamba-2 layers have a gated norm after the scan, which takes a factor of a "
            "whole group of heads away but for its epsilon and lets none of a single head through, so no weights "
            "express them exactly; use kind 'a' (decay only)"
        )

    return plan_folds(scales, checkpoint.config, write)


@dataclass(frozen=True)
class ForeignJob:
    """A bake that is ready to be written."""

    source: ForeignCheckpoint
    """Where the weights come from."""
    scales: Scales
    """What is folded in."""
    plan: tuple[LayerFold, ...]
    """How, Mamba layer by Mamba layer."""
    side: Mapping[str, bytes]
    """Files beside weights, config and card, by name."""
    curves: tuple[Mapping[str, str], ...]
    """Measurements for the card."""

    @cached_property
    def stored_dtypes(self) -> dict[str, torch.dtype]:
        """Type of every tensor of the Mamba layers, by its name here."""
        return {name: file.entries[stored].dtype for name, (file, stored) in self.source.stored.items()}

    @cached_property
    def changing(self) -> dict[str, tuple[int, str]]:
        """Mamba layer and name within its mixer of every tensor that changes, by its name in the file."""
        found = {}
        for k, fold in enumerate(self.plan):
            for within in fold.tensors():
                found[self.source.stored[f"backbone.layers.{k}.mixer.{within}"][1]] = (k, within)
        return found

    def folded(self, stored: str) -> torch.Tensor:
        """Return one of the changing tensors as it will be."""
        k, within = self.changing[stored]
        tensor = self.source.read(f"backbone.layers.{k}.mixer.{within}")
        return self.plan[k].apply(self.source.config, self.source.layers[k], within, tensor)

    def dtype_of(self, stored: str) -> torch.dtype:
        """Return the type that a tensor will have."""
        dtype = self.source.sources[stored].entries[stored].dtype
        widened = dtype.itemsize < 4 and stored in self.changing and self.changing[stored][1] == "A_log"
        return torch.float32 if widened else dtype

    def config(self) -> bytes:
        """Return config.json, the source's own but where transformers would load 32-bit rates as 16-bit ones."""
        assert self.source.folder is not None
        raw = (self.source.folder / "config.json").read_bytes()
        dtypes = map(self.dtype_of, self.source.sources) if self.changing else ()
        return config_bytes(raw, json.loads(raw), dtypes)


def write_foreign(run: RunFolder, job: ForeignJob, stated: Mapping[str, Any]) -> Any:
    """Write the baked checkpoint, shard by shard, or find it whole.

    Args:
        run: the open folder.
        job: what to write.
        stated: what is known before.

    Returns:
        The record: ``stated``, and what was changed, checked and written.

    Raises:
        CheckpointError: the weights are not safetensors.
        RatesCheckError: the rates read back are not the scaled ones.
    """
    weights = [path for path in job.source.files if path.suffix == ".safetensors"]
    if not weights:
        raise CheckpointError(f"{job.source.files[-1]}: expected safetensors, which can be copied; convert the weights")
    config, record = run.output("config.json"), run.output(RECORD)
    if (found := finished(run, record)) is not None:
        return found
    config.unlink(missing_ok=True)
    changes: dict[str, float] = {}
    total_bytes = 0
    files = {file.path: file for file in job.source.sources.values()}
    for path in weights:
        changed = {name: partial(_changed, job, name, changes) for name in files[path].entries if name in job.changing}
        with replacing(run.output(path.name)) as temporary, temporary.open("wb") as out, path.open("rb") as given:
            total_bytes += copy_shard(given, out, files[path], job.dtype_of, changed)
    names = [path.name for path in weights]
    for index in (path for path in job.source.files if path.name.endswith(".index.json")):
        write_bytes(run.output(index.name), index_bytes(index, total_bytes))
        names.append(index.name)
    rows = [{"tensor": name, "change": change} for name, change in changes.items()]
    document = dict(stated) | {"tensors": rows, "check": None, "rates_check": None, "made_by": run.made_by()}
    sides = dict(job.side)
    with replacing(config) as temporary:
        temporary.write_bytes(job.config())
        document["rates_check"] = _check_rates(job, run.folder, weights)
        sides["README.md"] = card_text(document, "transformers", job.curves).encode()
        for name, data in sides.items():
            write_bytes(run.output(name), data)
        written = [described(run.folder / name) for name in (*names, *sorted(sides))]
        written.append(described(temporary) | {"file": "config.json"})
        write_json(record, document | {"files": written})
    return msgspec.json.decode(record.read_bytes())


def _changed(job: ForeignJob, name: str, changes: dict[str, float]) -> torch.Tensor:
    """Return a tensor as it will be, and note how much it moves relative to its largest value."""
    new = job.folded(name)
    changes[name] = relative_change(new, job.source.sources[name].read(name))
    return new


def _check_rates(job: ForeignJob, folder: Path, weights: Iterable[Path]) -> dict[str, Any]:
    """Read the baked A_log back and compare exp(A_log) with the scaled model's rates."""
    opened = [open_safetensors(folder / path.name) for path in weights]
    baked = ForeignCheckpoint(job.source.foreign, {n: file for file in opened for n in file.entries}, folder, ())
    errors = []
    try:
        for k, fold in enumerate(job.plan):
            wide = job.source.read(f"backbone.layers.{k}.mixer.A_log").double()
            want = np.exp(wide.numpy())
            for kind, s in (*fold.rates, ("dt", fold.dt)):
                factor = s.numpy()[..., None] if s.dim() == 1 and wide.dim() == 2 else s.numpy()
                want = want**factor if kind == "a_power" else want * factor
            got = np.exp(baked.A_log(k).double().numpy())
            errors.append(np.max(np.abs(got - want) / np.maximum(want, np.finfo(np.float64).tiny)))
    finally:
        for file in opened:
            file.close()
    worst = float(np.max(errors))  # carries NaN
    if not worst <= RATES_LIMIT:
        raise RatesCheckError(
            f"baked and scaled rates |A| differ by {worst:.2g}; at most {RATES_LIMIT:g} is expected. No config.json "
            "was written, so nothing loads the weights: take less extreme factors"
        )
    return {"layers": len(job.plan), "largest_error": worst}
