"""Watch the scans of a transformers model: its own functions run, what they are given is read.

A mixer of transformers hands its convolution's input to ``causal_conv1d_fn``, and its step sizes, A, B, C and x to
``mamba_selective_scan`` (Mamba-1) or ``mamba2_chunk_scan`` (Mamba-2), functions of the module that defines the mixer.
While a watch is on, each of these is wrapped by one that calls it and notes its arguments; the model's results are
untouched. The states within a block follow from the same dt, A, B and x by our own scan, which starts from the state
that the model itself started the block from.

Source: transformers 5.23, models/falcon_mamba, jamba, zamba2, bamba, nemotron_h and granitemoehybrid.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..dynamics import Dynamics, Observation, Observer
from ..errors import MambascopeError, NonFiniteStateError
from ..scan import diagonal_scan, scalar_identity_scan
from ..state import LayerState

CONV = "causal_conv1d_fn"
SCANS = {"mamba": "mamba_selective_scan", "mamba2": "mamba2_chunk_scan"}
"""Function of a modeling module that runs the recurrence of a whole block."""


class WatchError(MambascopeError):
    """The transformers model did not run as it is known to run, so that nothing can be said of its states."""

    exit_code = 4


def watched_module(mixer: nn.Module, arch: str) -> Any:
    """Return the module that defines a mixer, if its functions are those that can be watched.

    Args:
        mixer: a Mamba layer's mixer.
        arch: ``mamba`` or ``mamba2``.

    Returns:
        The module.

    Raises:
        WatchError: it has no such functions, as in other versions of transformers.
    """
    module = sys.modules[type(mixer).__module__]
    missing = [name for name in (CONV, SCANS[arch]) if not callable(getattr(module, name, None))]
    if missing:
        raise WatchError(
            f"{module.__name__}: expected the function {missing[0]}, as in transformers 5.23, got none; "
            'pip install "transformers>=5.23"'
        )
    return module


class ScanWatch:
    """Turns the arguments of a model's scans into observations of its Mamba layers, which count among themselves."""

    def __init__(self, mixers: Sequence[nn.Module], config: Config, layers: Sequence[int]) -> None:
        self.mixers, self.config, self.layers = mixers, config, layers
        self.observers: Sequence[Observer] = ()
        self._cuts: tuple[int, ...] = ()
        self._start = 0
        self._layer = -1
        self._conv_input: Tensor | None = None
        self._seen: set[int] = set()

    def expect(self, start: int, observers: Sequence[Observer]) -> None:
        """Begin a block at position ``start`` of the text, for these observers."""
        self._start, self.observers, self._seen = start, observers, set()
        self._cuts = tuple(sorted({cut for observer in observers for cut in observer.boundaries()}))

    def check(self) -> None:
        """Refuse a block in which a Mamba layer's scan was not seen.

        Raises:
            WatchError: the model took another way than through the watched functions.
        """
        if unseen := [self.layers[k] for k in range(len(self.mixers)) if k not in self._seen]:
            raise WatchError(
                f"layer {unseen[0]}: its scan did not pass {SCANS[self.config.arch]}; this model runs on other kernels "
                "than transformers 5.23 calls by that name, so its states cannot be watched"
            )

    @contextmanager
    def on(self) -> Generator[None, None, None]:
        """Wrap the functions while the context lasts; they are put back whatever happens."""
        module = watched_module(self.mixers[0], self.config.arch)
        names = {CONV: self._note_conv, SCANS[self.config.arch]: self._note_scan}
        originals = {name: getattr(module, name) for name in names}
        with ExitStack() as stack:
            for k, mixer in enumerate(self.mixers):
                stack.callback(mixer.register_forward_pre_hook(self._entering(k)).remove)
            for name, original in originals.items():
                stack.callback(setattr, module, name, original)
                setattr(module, name, _noting(original, names[name]))
            yield

    def _entering(self, layer: int) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            del module, inputs
            self._layer, self._conv_input = layer, None

        return hook

    def _note_conv(self, given: dict[str, Any]) -> None:
        self._conv_input = given["hidden_states"]

    def _note_scan(self, given: dict[str, Any]) -> None:
        if self._layer in self._seen:
            raise WatchError(f"layer {self.layers[self._layer]}: its scan ran twice in one block")
        self._seen.add(self._layer)
        x, B, C = (given[name].float() for name in ("hidden_states", "B", "C"))
        dt, A = given["dt"], given["A"].float()
        bias = given.get("delta_bias" if self.config.arch == "mamba" else "dt_bias")
        if self.config.arch == "mamba":  # (batch, width, length) there, (batch, length, width) here
            x, B, C, dt = (v.transpose(1, 2) for v in (x, B, C, dt))
        if bias is not None:
            dt = dt + bias.to(dt.dtype)
        if given.get("delta_softplus") or given.get("dt_softplus"):
            dt = F.softplus(dt)
        dt = dt.float()
        if self.config.arch == "mamba2":
            dt = dt.clamp(*given["dt_limit"])
        start = given.get("initial_states")
        state = x.new_zeros(x.shape[0], *self._state_shape()) if start is None else start.float()
        self._observe(Dynamics(dt, A, dt), B, C, x, state)

    def _state_shape(self) -> tuple[int, ...]:
        c = self.config
        return (c.d_inner, c.d_state) if c.arch == "mamba" else (c.nheads, c.headdim, c.d_state)

    def _observe(self, dynamics: Dynamics, B: Tensor, C: Tensor, x: Tensor, state: Tensor) -> None:
        """Cut the block where an observer needs a state, and show each part."""
        scan = diagonal_scan if self.config.arch == "mamba" else scalar_identity_scan
        start, length = self._start, x.shape[1]
        inner = [cut - start for cut in self._cuts if 0 < cut - start < length]
        for first, last in zip([0, *inner], [*inner, length], strict=True):
            part = slice(first, last)
            here, dt, B_part, C_part = (v[:, part].contiguous() for v in (x, dynamics.dt, B, C))
            _, state = scan(here, dt, dt, dynamics.A, B_part, C_part, state.contiguous())
            if not bool(torch.isfinite(state.sum(dtype=torch.float64))):
                raise NonFiniteStateError(self.layers[self._layer], start + first)
            after = LayerState(self._conv_state(last, length), state)
            seen = Observation(
                self._layer, start + first, start + last, Dynamics(dt, dynamics.A, dt), B_part, here, after
            )
            for observer in self.observers:
                observer.update(seen)

    def _conv_state(self, position: int, length: int) -> Tensor:
        """Return the last inputs of the convolution before a position of the block, (batch, d_conv, conv_dim)."""
        if self._conv_input is None:
            raise WatchError(f"layer {self.layers[self._layer]}: its convolution did not pass {CONV}")
        given = self._conv_input  # (batch, conv_dim, carried inputs + length)
        end = given.shape[-1] - length + position
        window = given[..., max(0, end - self.config.d_conv) : end]
        return F.pad(window, (self.config.d_conv - window.shape[-1], 0)).transpose(1, 2)


def _noting(original: Callable[..., Any], note: Callable[[dict[str, Any]], None]) -> Callable[..., Any]:
    """Return a function that runs the original and notes its arguments by name."""
    signature = inspect.signature(original)

    def run(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        result = original(*args, **kwargs)
        note(bound.arguments)
        return result

    return run
