"""A transformers model whose own forward is run and watched, because mambascope has none for it.

transformers continues a block of tokens from its cache rightly for Mamba-2 layers: such models are fed block by block,
and the memory grows only with the attention's cache. Its Mamba-1 layers begin every block of several tokens from a zero
state (checked in tests/spectra/foreign/test_watched_forward.py): such models get the whole text in one forward.

Nothing in a folder is run: the class is transformers' own, taken by name, from safetensors alone, and what a
config.json says about code or kernels to load is dropped.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ..dynamics import Observer
from ..errors import CheckpointError, RefusedInputError, TextError
from ..loading import DTYPES, pick_device
from ..model import Tokens
from ..weight_files import read_json
from .checkpoint import ForeignCheckpoint
from .scan_watch import ScanWatch, WatchError, watched_module

INSTALL = 'pip install "transformers>=5.23"'
BLOCK_TOKENS = 2048
"""Tokens of a block, shared by the rows. Ours: transformers' chunked form takes about 0.1 MB a token and 8 heads."""
_RUNS_CODE = ("auto_map", "attn_implementation", "experts_implementation", "trust_remote_code", "custom_pipelines")
"""Keys of a config.json that can name code or kernels of strangers; so do those that begin with ``_``."""


class TransformersMissingError(RefusedInputError):
    """A measurement needs the transformers package to run the model."""


def way_of(checkpoint: ForeignCheckpoint) -> str:
    """Return how a foreign model is run, for people and manifests.

    Args:
        checkpoint: the model's.

    Returns:
        The words.

    Raises:
        TransformersMissingError: transformers is not installed.
    """
    version = _transformers().__version__
    way = f"transformers {version} runs the model and its scans are watched, "
    if checkpoint.config.arch == "mamba2":
        return f"{way}in blocks of {BLOCK_TOKENS} tokens with its cache"
    return f"{way}the whole text in one forward (its Mamba-1 layers do not go on from a cache)"


def _transformers() -> Any:
    if importlib.util.find_spec("transformers") is None:
        raise TransformersMissingError(
            "this needs a forward that mambascope does not have; transformers has it: "
            f"{INSTALL} (the static spectrum and bake need no forward)"
        )
    import transformers

    return transformers


class ForeignModel:
    """A transformers model together with its checkpoint."""

    def __init__(self, model: nn.Module, checkpoint: ForeignCheckpoint, name: str) -> None:
        """Take a transformers model that was made from this checkpoint's config.

        Raises:
            WatchError: its Mamba layers are not those of the checkpoint, or cannot be watched.
        """
        self.model, self.checkpoint, self.name = model, checkpoint, name
        self.mixers = [module for module in model.modules() if hasattr(module, "A_log")]
        found = tuple(int(getattr(mixer, "layer_idx", -1)) for mixer in self.mixers)
        if found != checkpoint.layers:
            raise WatchError(f"{name}: expected Mamba layers {checkpoint.layers}, got {found} from transformers")
        watched_module(self.mixers[0], checkpoint.config.arch)
        self._watch = ScanWatch(self.mixers, checkpoint.config, checkpoint.layers)

    @classmethod
    def load(
        cls, checkpoint: ForeignCheckpoint, *, device: str = "auto", dtype: str = "float32", name: str | None = None
    ) -> Self:
        """Load a checkpoint's weights into transformers' class.

        Args:
            checkpoint: of a foreign model.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            dtype: of the weights.
            name: how reports call it. Default: the folder's.

        Returns:
            The model.

        Raises:
            TransformersMissingError: transformers is not installed.
            RefusedInputError: unknown device or dtype.
            CheckpointError: the weights are not safetensors, or transformers does not take them.
        """
        transformers = _transformers()
        if dtype not in DTYPES:
            raise RefusedInputError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        target, folder, wanted = pick_device(device), checkpoint.folder, checkpoint.foreign.model_class
        assert folder is not None
        kind = getattr(transformers, wanted, None)
        if kind is None:
            raise TransformersMissingError(f"transformers {transformers.__version__} has no {wanted}; {INSTALL}")
        if stray := next((path for path in checkpoint.files if path.suffix == ".bin"), None):
            raise CheckpointError(f"{stray}: expected safetensors for transformers to load; convert the weights")
        raw = read_json(folder / "config.json")
        clean = {k: _plain(value) for k, value in raw.items() if not k.startswith("_") and k not in _RUNS_CODE}
        attention = "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"
        with _quiet(transformers):
            try:
                model, told = kind.from_pretrained(
                    folder,
                    config=kind.config_class.from_dict(clean),
                    dtype=DTYPES[dtype],
                    attn_implementation=attention,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                )
            except Exception as problem:  # they have no common base
                if isinstance(problem, MemoryError) or "memory" in str(problem):
                    raise
                raise CheckpointError(
                    f"{folder}: transformers {transformers.__version__} does not load it as {wanted}: "
                    f"{type(problem).__name__}: {str(problem)[:300]}"
                ) from problem
        if missing := sorted(told["missing_keys"]):
            raise CheckpointError(
                f"{folder}: {missing[0]} and {len(missing) - 1} more tensors are missing; "
                "transformers would run on random values in their place: download the model again"
            )
        return cls(model.requires_grad_(False).to(target).eval(), checkpoint, name or folder.resolve().name)

    @property
    def in_blocks(self) -> bool:
        """Whether transformers can go on from its cache, so that a text need not be run at once."""
        return self.checkpoint.config.arch == "mamba2"

    @torch.no_grad()
    def watch(self, tokens: Tokens, observers: Sequence[Observer], *, block_tokens: int = BLOCK_TOKENS) -> None:
        """Run a text through the model and show every Mamba layer's work to observers.

        Args:
            tokens: ids, (batch, length), from a fresh state.
            observers: see the Mamba layers, which count among themselves.
            block_tokens: tokens of a block, shared by the rows, where the model can go on from its cache.

        Raises:
            TextError: an id is outside the vocabulary, or there is no token.
            WatchError: the model did not run through the functions that are watched.
            NonFiniteStateError: a state became NaN or infinite.
        """
        ids = self._ids(tokens)
        inner: Any = getattr(self.model, str(self.model.base_model_prefix))  # without the head: no logits are needed
        cache = None
        with self._watch.on():
            for start, stop in self._blocks(ids, block_tokens):
                self._watch.expect(start, observers)
                # some of these classes count positions from 0 in every block if they are not told
                given = {"position_ids": torch.arange(start, stop, device=ids.device)[None]} if self.in_blocks else {}
                if cache is not None:
                    given["past_key_values"] = cache
                done = inner(input_ids=ids[:, start:stop], use_cache=self.in_blocks, **given)
                self._watch.check()
                cache = done.past_key_values if self.in_blocks else None

    def _blocks(self, ids: torch.Tensor, block_tokens: int) -> list[tuple[int, int]]:
        length = ids.shape[1]
        if not self.in_blocks:
            return [(0, length)]
        each = max(2, block_tokens // ids.shape[0])
        starts = list(range(0, length, each))
        if len(starts) > 1 and length - starts[-1] == 1:
            del starts[-1]  # one token on a cache takes another function, which knows no limit of dt
        return list(zip(starts, [*starts[1:], length], strict=True))

    def _ids(self, tokens: Tokens) -> torch.Tensor:
        if isinstance(tokens, np.ndarray):
            tokens = torch.from_numpy(tokens.astype(np.int64))
        device = next(self.model.parameters()).device
        ids, most = tokens.to(device, torch.long), self.checkpoint.config.vocab_size
        if not ids.numel() or int(ids.max()) >= most or int(ids.min()) < 0:
            raise TextError(
                f"{self.name}: expected at least one token id, each below {most}, got {tuple(ids.shape)} up to "
                f"{int(ids.max()) if ids.numel() else 'none'}; was the text encoded with another model's tokenizer?"
            )
        return ids


def _plain(value: Any) -> Any:
    """Return a value of config.json with the infinity that transformers writes as an object."""
    if isinstance(value, dict):
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


@contextmanager
def _quiet(transformers: Any) -> Generator[None, None, None]:
    """Keep transformers' progress bars and hints about kernels off the terminal while it loads."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
