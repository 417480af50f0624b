"""The checkpoint of a foreign model: its Mamba layers are checked and read, its other tensors only listed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from ..checkpoint import Checkpoint, folder_of
from ..errors import CheckpointError
from ..layouts import mixer_shapes
from ..tensor_source import TensorFile, shown, told
from ..weight_files import open_weights, read_json
from .families import parse_foreign
from .layout import ForeignConfig
from .refusals import WORKS, ForeignModelError, NoStaticSpectrumError

_SHOWN = 3
_MAMBA3 = ("B_bias", "C_bias")
"""Tensors of a Mamba-3 mixer, which has no A_log."""
_NOT_IN_THE_STACK = "mtp."
"""Nemotron-H's heads for further tokens; not layers of the model, and transformers leaves them out."""


class ForeignCheckpoint(Checkpoint):
    """A checkpoint of which only the Mamba layers are understood.

    ``config`` is the shape of these layers alone, and tensors go by the names they would have if there were no others:
    ``backbone.layers.0.mixer.A_log`` is that of the first Mamba layer, whatever its true index in ``layers``.
    """

    def __init__(
        self, foreign: ForeignConfig, sources: Mapping[str, TensorFile], folder: Path, files: tuple[Path, ...]
    ) -> None:
        """Check the Mamba layers' tensors against config.json; ``sources`` has the file of every tensor by its name."""
        self.foreign = foreign
        """What config.json says of the model."""
        self.sources = dict(sources)
        """File of every tensor of the model, by the name in it."""
        super().__init__(foreign.mixers, "transformers", sources, folder, files)

    @property
    def layers(self) -> tuple[int, ...]:
        """True index of each Mamba layer."""
        return self.foreign.layers

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open and check the checkpoint in a folder, reading no tensor.

        Args:
            folder: holds config.json and safetensors (or a plain ``.bin``), in one file or in shards with their index.

        Returns:
            The checkpoint.

        Raises:
            CheckpointError: it is of no family that is known here, or contradicts itself.
            UnsafeCheckpointError: if reading the weights could run code.
            NoStaticSpectrumError: it is a Mamba-3.
        """
        path = folder / "config.json"
        foreign = parse_foreign(read_json(path), path)
        if foreign is None:
            raise CheckpointError(told(path, "model_type", "a family of foreign models", "another", "use Checkpoint"))
        sources, files = open_weights(folder)
        return cls(foreign, sources, folder, (path, *files))

    @classmethod
    def from_object(cls, model: Any) -> Self:
        """Refuse a model in memory: watch it with ``ForeignModel``; errors as the base class."""
        raise ForeignModelError(f"{type(model).__name__}: expected a folder, got a model in memory; {WORKS}")

    def state_dict(self, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
        """Refuse to hand over the whole model: there is no forward here that could run it.

        Args:
            dtype: not used.

        Raises:
            ForeignModelError: always.
        """
        del dtype
        raise ForeignModelError(
            f"{self.folder}: mambascope has no forward of {self.foreign.name}, so it cannot load it; {WORKS}"
        )

    def _named(self, sources: Mapping[str, TensorFile]) -> dict[str, tuple[TensorFile, str]]:
        """Check the Mamba layers; return their tensors by the names of a plain Mamba."""
        where, shapes = self.folder or Path("model"), mixer_shapes(self.config)
        expected: dict[str, tuple[str, tuple[int, ...]]] = {}
        for k, candidates in enumerate(self.foreign.prefixes):
            prefix = next((p for p in candidates if f"{p}A_log" in sources), candidates[0])
            expected |= {f"{prefix}{name}": (f"backbone.layers.{k}.mixer.{name}", s) for name, s in shapes.items()}
        faults = []
        for name, (_, shape) in expected.items():
            if name not in sources:
                faults.append(f"{name} {list(shape)}: missing")
                continue
            entry = sources[name].entries[name]
            if entry.shape != shape:
                faults.append(f"{name}: expected shape {list(shape)}, got {list(entry.shape)}")
            elif not entry.dtype.is_floating_point:
                faults.append(f"{name}: expected a floating-point type, got {entry.dtype}")
        faults += [
            f"{shown(name)}: an A_log in a layer that config.json does not call a Mamba layer"
            for name in sources
            if name.endswith(".A_log") and name not in expected and not name.startswith(_NOT_IN_THE_STACK)
        ]
        if faults:
            self._refuse(where, faults, sources)
        return {canonical: (sources[name], name) for name, (canonical, _) in expected.items()}

    def _refuse(self, where: Path, faults: list[str], sources: Mapping[str, TensorFile]) -> None:
        ends = {name.rpartition(".")[2] for name in sources}
        if "A_log" not in ends and ends.issuperset(_MAMBA3):
            raise NoStaticSpectrumError(
                f"{where}: the weights have no A_log but {' and '.join(_MAMBA3)}, as a Mamba-3 mixer has: its A is "
                "computed from each token, so there is no static spectrum"
            )
        more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise CheckpointError(
            f"{where}: config.json ({self.foreign.words()}) and the weights differ: {'; '.join(faults[:_SHOWN])}"
            f"{more}; take config.json and the weights from one download"
        )


def open_any(name_or_path: str | Path) -> Checkpoint:
    """Open a checkpoint of ours or of a foreign model (then a ``ForeignCheckpoint``); as ``open_checkpoint``."""
    folder = folder_of(name_or_path)
    path = folder / "config.json"
    return (Checkpoint if parse_foreign(read_json(path), path) is None else ForeignCheckpoint).open(folder)
