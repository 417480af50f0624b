"""Mamba checkpoints: a folder, a bundled model, a hub id or a model in memory, read tensor by tensor.

Names, shapes and types are compared with config.json before any tensor is read, so that a damaged or foreign
checkpoint costs one error and no memory. Tensors go by their state-spaces names whatever the files call them.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from .checkpoint_checks import check_finite, check_tensors
from .config import Config
from .errors import CheckpointError, UnknownModelError
from .layouts import Layout, canonical_name, expected_tensors, parse_config
from .save_checkpoint import save_checkpoint
from .tensor_source import TensorEntry, TensorFile, open_file, shown, told
from .weight_files import open_weights, read_json

__all__ = ["Checkpoint", "bundled_models", "open_checkpoint", "save_checkpoint"]

_ZOO = Path(__file__).parent / "zoo"
_HEAD = "lm_head.weight"
_EMBEDDING = "backbone.embedding.weight"


class Checkpoint:
    """A checked checkpoint whose tensors are read when asked for."""

    def __init__(
        self,
        config: Config,
        layout: Layout,
        sources: Mapping[str, TensorFile],
        folder: Path | None = None,
        files: tuple[Path, ...] = (),
    ) -> None:
        """Check the tensors against the configuration; ``sources`` maps their names in ``layout`` to their files."""
        self.config = config
        """Sizes of the model."""
        self.layout = layout
        """Dialect of the files: ``state-spaces`` or ``transformers``."""
        self.folder = folder
        """Where the files are; none for a model in memory."""
        self.files = files
        """config.json and the weight files (and their index), as read."""
        self.stored = self._named(sources)
        """File, and name in it, of every tensor by its own name here."""
        self._sha256: str | None = None

    def _named(self, sources: Mapping[str, TensorFile]) -> dict[str, tuple[TensorFile, str]]:
        """Check the tensors against the configuration; return them by their names here."""
        check_tensors(self.config, self.layout, sources, self.folder or Path("model in memory"))
        return {canonical_name(name, self.layout): (file, name) for name, file in sources.items()}

    @property
    def layers(self) -> tuple[int, ...]:
        """Index in the model of each layer; 0, 1, ... but where other layers lie between those with an A_log."""
        return tuple(range(self.config.n_layer))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open and check the checkpoint in a folder, reading no tensor.

        Args:
            folder: holds config.json and model.safetensors, or pytorch_model.bin, or shards with their index.

        Returns:
            The checkpoint.

        Raises:
            CheckpointError: if something is missing, broken or contradictory.
            UnsafeCheckpointError: if reading the weights could run code.
        """
        config_path = folder / "config.json"
        config, layout = parse_config(read_json(config_path), config_path)
        sources, files = open_weights(folder)
        return cls(config, layout, sources, folder, (config_path, *files))

    @classmethod
    def from_object(cls, model: Any) -> Self:
        """Take a transformers or mamba_ssm language model that is in memory; its tensors are shared, not copied.

        Args:
            model: MambaForCausalLM, Mamba2ForCausalLM or MambaLMHeadModel.

        Returns:
            The checkpoint, without folder and files.

        Raises:
            CheckpointError: if it is another kind of model.
        """
        where = Path(type(model).__name__)
        config: Any = getattr(model, "config", None)
        if hasattr(config, "to_dict") and hasattr(config, "model_type"):
            raw = config.to_dict()
            raw.pop("auto_map", None)  # the code it names has already made this object
        elif dataclasses.is_dataclass(config) and not isinstance(config, type):
            raw = dataclasses.asdict(config)
        else:
            raise CheckpointError(
                told(where, "model", "a Mamba of transformers or mamba_ssm", f"a {where}", "pass one or a folder")
            )
        parsed, layout = parse_config(raw, where)
        tensors = {name: value.detach() for name, value in model.state_dict().items()}
        if stuck := [name for name, value in tensors.items() if value.device.type == "meta"]:
            raise CheckpointError(
                told(where, stuck[0], "values", "a tensor on the meta device", "load the weights first")
            )
        entries = {name: TensorEntry(value.dtype, tuple(value.shape)) for name, value in tensors.items()}
        file = TensorFile(where, entries, lambda name: tensors[name].cpu())
        return cls(parsed, layout, dict.fromkeys(entries, file))

    def read(self, name: str) -> torch.Tensor:
        """Read one tensor and check that all of it is finite.

        Args:
            name: its state-spaces name; a tied ``lm_head.weight`` is the embedding.

        Returns:
            The tensor on the CPU, in its stored type.

        Raises:
            CheckpointError: if there is no such tensor, or it holds NaN or infinity.
        """
        if name == _HEAD and self.config.tie_embeddings:
            name = _EMBEDDING
        if name not in self.stored:
            raise CheckpointError(
                f"{self._where}: tensor {shown(name)}: expected one of the {len(self.stored)} state-spaces names, "
                f"got another; nearest: {_nearest(name, self.stored)}"
            )
        file, stored_name = self.stored[name]
        tensor = file.read(stored_name)
        check_finite(tensor, stored_name, file.path)
        return tensor

    def A_log(self, layer: int) -> torch.Tensor:
        """Read one layer's ``A_log``, and nothing else, and check that A = -exp(A_log) is finite.

        Args:
            layer: index of the layer, from 0.

        Returns:
            float32, (d_inner, d_state) for Mamba-1, (nheads,) for Mamba-2.

        Raises:
            CheckpointError: if there is no such layer, or a value is not finite or overflows exp.
        """
        if not 0 <= layer < self.config.n_layer:
            raise CheckpointError(f"{self._where}: layer: expected 0 to {self.config.n_layer - 1}, got {layer}")
        name = f"backbone.layers.{layer}.mixer.A_log"
        A_log = self.read(name).float()
        if not torch.isfinite(A_log.exp()).all():
            index = (~torch.isfinite(A_log.exp())).nonzero()[0].tolist()
            names = ("channel", "state") if self.config.arch == "mamba" else ("head",)
            place = ", ".join(f"{what} {i}" for what, i in zip(names, index, strict=True))
            raise CheckpointError(
                told(
                    self.stored[name][0].path,
                    f"layer {self.layers[layer]}, {place}: A_log",
                    "at most 88.7, so that exp(A_log) is finite",
                    f"{A_log[tuple(index)].item():g}",
                    "the weights are damaged or were scaled too far",
                )
            )
        return A_log

    def state_dict(self, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
        """Read every tensor of the model.

        Args:
            dtype: convert to this type; by default each keeps its own.

        Returns:
            The tensors by state-spaces name; a tied ``lm_head.weight`` is left out.

        Raises:
            CheckpointError: if a tensor is not finite, or a tied head differs from the embedding.
        """
        tensors = {}
        for name in expected_tensors(self.config):
            tensor = self.read(name)
            tensors[name] = tensor.to(dtype)  # None keeps the type
            if dtype not in {None, tensor.dtype}:
                file, stored_name = self.stored[name]
                check_finite(tensors[name], stored_name, file.path, f"a number that {dtype} can hold")
        if self.config.tie_embeddings and _HEAD in self.stored:
            file, stored_name = self.stored[_HEAD]
            if not torch.equal(file.read(stored_name).to(dtype), tensors[_EMBEDDING]):
                raise CheckpointError(
                    told(
                        file.path,
                        _HEAD,
                        "the embedding, to which config.json ties it",
                        "other values",
                        "if both are meant, set tie_embeddings (tie_word_embeddings in transformers) to false",
                    )
                )
        return tensors

    def sha256(self) -> str:
        """Return the hex digest of the files' names, sizes and bytes (in memory: of the tensors); computed once."""
        if self._sha256 is None:
            digest = hashlib.sha256()
            for path in self.files:
                file, size_bytes = open_file(path)
                digest.update(f"{path.name}\0{size_bytes}\0".encode())
                with file:
                    while block := file.read(2**20):
                        digest.update(block)
            if not self.files:
                for name, (file_, stored_name) in sorted(self.stored.items()):
                    tensor = file_.read(stored_name).contiguous()
                    digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
                    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
            self._sha256 = digest.hexdigest()
        return self._sha256

    def close(self) -> None:
        """Give the files back; harmless when repeated."""
        for file, _ in self.stored.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        c = self.config
        return f"Checkpoint({self._where}, {c.arch}, {self.layout}, d_model={c.d_model}, n_layer={c.n_layer})"

    @property
    def _where(self) -> str:
        return str(self.folder or "model in memory")


def _nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    return ", ".join(difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)) or "none"


def bundled_models() -> list[str]:
    """Return the names of the checkpoints that come with the package."""
    return sorted(path.parent.name for path in _ZOO.glob("*/config.json"))


def open_checkpoint(name_or_path: str | Path) -> Checkpoint:
    """Open a checkpoint by folder, by bundled name, or by hub id.

    Args:
        name_or_path: a folder, a name out of ``bundled_models()``, or ``owner/name`` (needs the ``hub`` extra).

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: if it is broken.
        UnknownModelError: if it is neither of the three.
    """
    return Checkpoint.open(folder_of(name_or_path))


def folder_of(name_or_path: str | Path) -> Path:
    """Find a model's folder, and fetch it from the hub where need be; arguments and errors as ``open_checkpoint``."""
    folder = Path(name_or_path)
    if folder.is_dir() and ((folder / "config.json").exists() or str(name_or_path) not in bundled_models()):
        return folder
    name = str(name_or_path)
    if name in bundled_models():
        return _ZOO / name
    if isinstance(name_or_path, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name, re.ASCII):
        return _download(name)
    raise UnknownModelError(
        f"model {shown(name)}: expected a folder that exists, a bundled name ({', '.join(bundled_models()) or 'none'}) "
        f"or a hub id owner/name, got none of them; nearest bundled name: {_nearest(name, bundled_models())}"
    )


def _download(name: str) -> Path:
    """Fetch a model through huggingface_hub (which honours HF_HUB_OFFLINE); prefer safetensors."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UnknownModelError(
            f'model {name!r}: no folder of that name; for models of the hub: pip install "mambascope[hub]"'
        )
    from huggingface_hub import snapshot_download

    patterns = ["config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer*.json"]
    bins = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=patterns + bins))
    except (OSError, ValueError) as error:
        raise UnknownModelError(
            f"model {name!r}: no folder of that name, and the hub gave {type(error).__name__}: {shown(str(error))}; "
            "check the name and the network, or download it and pass the folder"
        ) from error
    return folder
