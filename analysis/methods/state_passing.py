"""A first state that is not zero: the part of state passing that needs no training.

The source post-trains the model for some 500 steps from such states, so that it learns to go on from them. What is here
only starts from them: a control for what the state alone does, and the start for such a training.

Source: Buitrago Ruiz and Gu (arXiv 2507.02782).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from mambascope.spectra.errors import TextError
from mambascope.spectra.model import Model, Tokens
from mambascope.spectra.state import LayerState, StreamState

from ..arrays import Arrays
from ..texts import token_counter
from .calibration_windows import calibration_windows
from .citations import STATE_PASSING, Citation
from .method import CALIBRATION, Description, Fitted, Role, Setting, Setup, Task

WINDOWS = 100
"""Windows whose final states the noise is fitted to. Ours: a head of a bundled model has then 2e5 numbers or more."""
_ROWS = 8  # windows that run side by side; no effect on the result beyond rounding


@dataclass(frozen=True, slots=True)
class StatePassing:
    """Start from the final state of another text, or from noise of its size."""

    reads: ClassVar[frozenset[Role]] = CALIBRATION

    noise: bool = False
    """True for a normal draw, with mean and standard deviation of final states by layer and head."""

    @property
    def name(self) -> str:
        """What it is called."""
        return "state-passing:noise" if self.noise else "state-passing"

    def describe(self) -> Description:
        """Say what it does."""
        untrained = Setting("training", "none", "the source post-trains for 500 steps; this is what needs no training")
        if not self.noise:
            return Description(
                "every text starts from the state after other text instead of zeros",
                (Setting("other text", "the last T tokens of the calibration text", "ours"), untrained),
            )
        return Description(
            "every text starts from one draw of normal noise, each layer and head with the mean and standard "
            "deviation of final states; the convolution starts from zeros",
            (
                Setting("windows fitted to", str(WINDOWS), "ours; fewer where the text has fewer"),
                Setting("draws", "one for all texts, by the seed", "ours; the source draws anew for each text"),
                Setting("on Mamba-1", "a head is a channel", "our reading"),
                untrained,
            ),
        )

    def expected_tokens(self, task: Task) -> float:
        """Estimate the tokens that states are read from."""
        return float(task.train_length * (WINDOWS if self.noise else 1))

    def cite(self) -> tuple[Citation, ...]:
        """Return its source."""
        return (STATE_PASSING,)

    def fit(self, task: Task) -> Fitted:
        """Run calibration text and keep what is left of it.

        Args:
            task: the model and the texts.

        Returns:
            The state.

        Raises:
            TextError: no calibration text has T tokens.
        """
        T = task.train_length
        if self.noise:
            tokens = calibration_windows(task.texts.calibration, T, WINDOWS)
            arrays = _noise(task, tokens)
            how = f"one normal draw with the moments of final states of {len(tokens)} windows of {T} calibration tokens"
        else:
            last = next((d for d in reversed(task.texts.calibration) if len(d) >= T), None)
            if last is None:
                raise TextError(f"method {self.name!r}: no calibration text has {T} tokens, the training length")
            tokens = last.ids[None, -T:]
            arrays = _arrays(final_state(task, tokens))
            how = f"the state after the last {T} tokens of {last.name}"
        no = "no: a checkpoint has no place for a first state, and programs that load it start from zeros"
        return Fitted(self.name, None, how, passes=tokens.size / task.fit_length, bakes=no, arrays=arrays)

    def setup(self, fitted: Fitted, model: Model, length: int, tail: int = 1) -> Setup:
        """Return how a model runs: as it is, from the state."""
        del length, tail
        layers = tuple(
            LayerState(
                torch.from_numpy(fitted.arrays[f"conv_{k}"]).to(model.device, model.dtype),
                torch.from_numpy(fitted.arrays[f"ssm_{k}"]).to(model.device, model.state_dtype),
            )
            for k in range(model.config.n_layer)
        )
        content = hashlib.sha256(b"".join(fitted.arrays[key].tobytes() for key in sorted(fitted.arrays))).hexdigest()
        return Setup(model, state=StreamState(0, layers), name=f"{self.name}-{content[:16]}".replace(":", "-"))


def final_state(task: Task, tokens: Tokens) -> StreamState:
    """Return the state after texts side by side.

    Args:
        task: the model.
        tokens: ids, (batch, length).

    Returns:
        The state of all rows.
    """
    state = task.model.zero_state(tokens.shape[0])
    with torch.no_grad():
        for block in task.model.stream(tokens, observers=[token_counter(task.tick)]):
            state = block.state
    return state


def _arrays(state: StreamState) -> Arrays:
    found: Arrays = {}
    for k, layer in enumerate(state.layers):
        wide = torch.promote_types(layer.conv.dtype, torch.float32)  # numpy has no bfloat16
        found[f"conv_{k}"] = layer.conv.to(wide).cpu().numpy()
        found[f"ssm_{k}"] = layer.ssm.cpu().numpy()
    return found


def _noise(task: Task, tokens: Tokens) -> Arrays:
    """Draw SSM states with the mean and standard deviation of each layer and head over windows, channels and states."""
    zero = _arrays(task.model.zero_state())
    sums = {key: np.zeros((2, array.shape[1])) for key, array in zero.items() if key.startswith("ssm")}
    for first in range(0, len(tokens), _ROWS):
        state = _arrays(final_state(task, tokens[first : first + _ROWS]))
        for key, of in sums.items():
            flat = np.moveaxis(state[key], 1, 0).reshape(len(of[0]), -1).astype(np.float64)
            of += flat.sum(1), np.square(flat).sum(1)
    rng = np.random.default_rng(task.seed)
    for key, of in sums.items():
        shape = zero[key].shape  # (1, heads, ...)
        mean, second = of / (len(tokens) * np.prod(shape[2:]))
        deviation = np.sqrt(np.maximum(second - mean**2, 0))
        per_head = (1, -1, *(1,) * (len(shape) - 2))
        drawn = mean.reshape(per_head) + deviation.reshape(per_head) * rng.standard_normal(shape)
        zero[key] = drawn.astype(zero[key].dtype)
    return zero
