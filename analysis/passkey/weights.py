"""Training of all weights on rows of any length: the loss by blocks, AdamW, and a record to go on from.

A block's graph is dropped and made again on the way back, so that memory is that of one block and of the states between
blocks. Source: Chen et al. 2016 (recomputation); Loshchilov and Hutter 2019 (AdamW).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mambascope.spectra.errors import MambascopeError
from mambascope.spectra.model import Model
from mambascope.spectra.state import LayerState, StreamState

from ..arrays import Arrays
from ..calibration.descent import half_cosine
from ..calibration.plan import GRADIENT_PASSES
from ..evaluate.bits import block_bits
from .answer_rows import AnswerRows
from .problem import Look, Tick, block_tokens
from .record import TunedHistory, TunedStep

CLIP = 1.0
"""L2 norm that a gradient is clipped to. Source: the released passkey code of DeciMamba."""
LOOK_EVERY = 10
"""Steps between two looks. Ours."""


class Reads(Protocol):
    """What a training reads."""

    def rows(self, step: int) -> list[tuple[float, AnswerRows]]:
        """Return a step's rows, each group with its weight in the loss."""
        ...

    def look(self, model: Model, scales: None, count: Tick) -> Look:
        """Return what a model is worth on what was kept aside for choice."""
        ...


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """How weights are trained."""

    learning_rate: float
    """Of AdamW at the first step; it falls to 0 on half a cosine."""
    weight_decay: float
    """Of AdamW."""
    steps: int
    """Steps."""
    look_every: int = LOOK_EVERY
    """Steps between two looks, and between two states on the disk."""


def row_bits(model: Model, rows: AnswerRows) -> Tensor:
    """Return the mean bits of the scored tokens, with a graph to every weight that takes a gradient.

    Args:
        model: its weights as they are.
        rows: ids and the first entry that is scored.

    Returns:
        A float64 scalar.
    """
    ids, size = model.ids(rows.ids), block_tokens(model)
    length, state = ids.shape[1] - 1, model.zero_state(len(ids))
    tensors = [tensor for layer in state.layers for tensor in (layer.conv, layer.ssm)]
    total = torch.zeros((), dtype=torch.float64, device=ids.device)
    for start in range(0, length, size):
        stop = min(start + size, length)

        def run(*entering: Tensor, start: int = start, stop: int = stop) -> tuple[Tensor, ...]:
            before = StreamState(start, tuple(map(LayerState, entering[::2], entering[1::2])))
            block = next(model.stream(ids[:, start:stop], state=before, block_length=size))
            after = [tensor for layer in block.state.layers for tensor in (layer.conv, layer.ssm)]
            if stop <= rows.first:
                return torch.zeros((), dtype=torch.float64, device=ids.device), *after
            skip = max(0, rows.first - start)
            bits = block_bits(block.hidden[:, skip:], block.head, ids[:, start + skip + 1 : stop + 1])
            return bits.double().sum(), *after

        bits, *tensors = checkpoint(run, *tensors, use_reentrant=False, preserve_rng_state=False)
        total = total + bits
    return total / (len(ids) * (length - rows.first))


def train_weights(
    model: Model,
    reads: Reads,
    plan: WeightPlan,
    *,
    path: Path | None = None,
    watch: Callable[[TunedStep], None] = lambda _: None,
    tick: Tick = lambda _: None,
) -> TunedHistory:
    """Train all weights of a copy of a model.

    Args:
        model: what to start from; it stays as it is.
        reads: rows of each step, and the look that the best point is chosen by.
        plan: how.
        path: keeps the steps and the last state, so that a stopped training goes on to the same bytes.
        watch: called with each step.
        tick: called with tokens as they pass through the model; those of a gradient count four times.

    Returns:
        The steps and, in ``best``, the weights of the best point under ``w/NAME``.
    """
    trained = _wide(model).requires_grad_(True)
    named = dict(trained.named_parameters())
    optimiser = torch.optim.AdamW(named.values(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    history, tokens = TunedHistory.open(path), 0

    def count(more: int) -> None:
        nonlocal tokens
        tokens += more
        tick(more)

    def point() -> Arrays:
        found = {f"w/{name}": _array(p) for name, p in named.items()}
        for name, p in named.items():
            found |= {f"{key}/{name}": _array(value) for key, value in optimiser.state.get(p, {}).items()}
        return found

    def take(step: int, loss: float | None, *, seen: bool) -> None:
        with torch.no_grad():
            look = reads.look(trained, None, count) if seen else None
        history.add(TunedStep(step, tokens, loss, 0, look), point, "w/", write=seen)

    if history.steps:
        _restore(history.point, named, optimiser)
        tokens = history.steps[-1].tokens
    else:
        take(0, None, seen=True)
    for each in history.steps:
        watch(each)
    for k in range(history.done, plan.steps):
        optimiser.zero_grad(set_to_none=True)
        loss = 0.0
        for weight, rows in reads.rows(k):
            bits = weight * row_bits(trained, rows)
            torch.autograd.backward(bits)
            loss += float(bits.detach())
            count(int(GRADIENT_PASSES * rows.ids.size))
        torch.nn.utils.clip_grad_norm_(named.values(), CLIP)
        optimiser.param_groups[0]["lr"] = plan.learning_rate * half_cosine(k, plan.steps)
        optimiser.step()
        take(k + 1, loss, seen=(k + 1) % plan.look_every == 0 or k + 1 == plan.steps)
        watch(history.steps[-1])
    return history


def with_weights(model: Model, arrays: Arrays) -> Model:
    """Return a copy of a model with other weights.

    Args:
        model: stays as it is.
        arrays: weights by name, after ``w/``; all of them.

    Returns:
        The copy, on the same device, in float32 at least, without gradients.

    Raises:
        MambascopeError: the weights are of another model.
    """
    made = _wide(model)
    named = dict(made.named_parameters())
    given = {name.removeprefix("w/"): array for name, array in arrays.items() if name.startswith("w/")}
    if given.keys() != named.keys() or any(given[n].shape != tuple(p.shape) for n, p in named.items()):
        raise MambascopeError("the stored weights are not those of this model; fit the method again (--fresh)")
    with torch.no_grad():
        for name, p in named.items():
            p.copy_(torch.from_numpy(given[name]))
    return made.requires_grad_(False)


def _wide(model: Model) -> Model:
    """Return a copy in float32 at least: a bfloat16 weight would not move at all for steps of 1e-4 of it."""
    made = copy.deepcopy(model)
    return made if made.dtype == torch.float64 else made.float()


def _array(tensor: Any) -> np.ndarray[Any, Any]:
    return np.array(tensor.detach().cpu().numpy())


def _restore(point: Arrays, named: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
    with torch.no_grad():
        for name, array in point.items():
            key, _, of = name.partition("/")
            value, p = torch.from_numpy(np.array(array)), named[of]
            if key == "w":
                p.copy_(value)
            else:
                optimiser.state[p][key] = value if key == "step" else value.to(p)
