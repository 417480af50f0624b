"""The residual stack of Mamba layers, and the one forward: a stream of blocks that carries the state.

Source: state-spaces/mamba (MixerModel, MambaLMHeadModel).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .config import Config
from .dynamics import Dynamics, Intervention, Observation, Observer, WholePrompt
from .errors import NonFiniteStateError, ScaleError, TextError
from .mamba import Mamba
from .mamba2 import Mamba2
from .rmsnorm import RMSNorm
from .scales import Scales
from .state import LayerState, StreamState

BLOCK_TOKENS = {"cpu": 512, "cuda": 16384}
"""Tokens of a block of the stream, over the whole batch. Ours: on one CPU core larger blocks were no faster for the
bundled models, and slower from 4096 on, where they fall out of the cache; their temporaries grow with them. On one H200
with the official kernels and bfloat16 weights, 16,384 gave 93 and 90 % of the speed of 65,536 for the shapes of
mamba2-130m and mamba-130m with a third of the memory (1.1 and 1.3 GB); 2,048 gave 17 and 23 %."""
SHORTEST_BLOCK = 64

Tokens = Tensor | npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Block:
    """What the model made of one block of tokens."""

    start: int
    """Position of the block's first token."""
    stop: int
    """Position after its last token."""
    tokens: Tensor
    """The block's ids, (batch, length)."""
    hidden: Tensor
    """Output of the final norm, (batch, length, d_model)."""
    kept: Tensor | None
    """Which of the block's tokens ``hidden`` is of, (batch, length of hidden), where an intervention let others end
    behind a layer; None for all."""
    state: StreamState
    """State after the block."""
    head: Tensor
    """Weight of the output head, (vocab_size, d_model)."""

    def logits(self) -> Tensor:
        """Compute the logits, (batch, length, vocab_size); nothing is computed for who does not ask."""
        return self.hidden @ self.head.T


class Layer(nn.Module):
    """Pre-norm residual layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.mixer: Mamba | Mamba2 = Mamba(config) if config.arch == "mamba" else Mamba2(config)


class Backbone(nn.Module):
    """Embedding, layers, final norm."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layer))
        self.norm_f = RMSNorm(config.d_model, config.norm_eps)


class Model(nn.Module):
    """A Mamba-1 or Mamba-2 language model.

    Attributes:
        config: shape of the model.
        state_dtype: precision of the recurrence: float64 for a float64 model, else float32, whatever the weights are.
        name: how reports call the model.
        train_length: tokens the model was trained on at once, where known.
    """

    def __init__(self, config: Config, *, name: str = "model", train_length: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.train_length = train_length
        self.backbone = Backbone(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.backbone.embedding.weight

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.backbone.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return self.backbone.embedding.weight.dtype

    @property
    def state_dtype(self) -> torch.dtype:
        """Dtype of the SSM states."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def layers(self) -> list[Layer]:
        """Return the layers in order."""
        return [layer for layer in self.backbone.layers if isinstance(layer, Layer)]

    def zero_state(self, batch: int = 1) -> StreamState:
        """Return the state before any token."""
        return StreamState.zeros(self.config, batch, self.device, self.dtype, self.state_dtype)

    def forward(
        self,
        tokens: Tensor,
        state: StreamState | None = None,
        intervention: Intervention | None = None,
        observers: Sequence[Observer] = (),
    ) -> Block:
        """Run one block; ``stream`` is the same over any length.

        Args:
            tokens: ids, (batch, length).
            state: state before the block; zeros if left out.
            intervention: rewrites the dynamics before each scan. Must not change inside the block.
            observers: see every layer's work.

        Returns:
            The block's hidden states, its logits on demand, and the state after it.
        """
        state = self.zero_state(tokens.shape[0]) if state is None else state
        start, stop = state.position, state.position + tokens.shape[1]
        residual = self.backbone.embedding(tokens).to(self.state_dtype)  # as the released models keep it
        after: list[LayerState] = []
        kept: Tensor | None = None
        for index, layer in enumerate(self.layers()):
            rule = None if intervention is None else partial(_apply, intervention, index, start)
            mixed, layer_state, (dynamics, B, x) = layer.mixer(layer.norm(residual), state.layers[index], rule)
            residual = residual + mixed
            after.append(layer_state)
            for observer in observers:
                observer.update(Observation(index, start, stop, dynamics, B, x, layer_state))
            if isinstance(intervention, WholePrompt) and (chosen := intervention.kept(index, start)) is not None:
                residual = residual.gather(1, chosen[..., None].expand(-1, -1, residual.shape[-1]))
                kept = chosen if kept is None else kept.gather(1, chosen)
        hidden = self.backbone.norm_f(residual)
        return Block(start, stop, tokens, hidden, kept, StreamState(stop, tuple(after)), self.lm_head.weight)

    def stream(
        self,
        tokens: Tokens | Iterable[Tokens],
        *,
        state: StreamState | None = None,
        intervention: Intervention | None = None,
        observers: Sequence[Observer] = (),
        block_length: int | None = None,
    ) -> Iterator[Block]:
        """Run over a text of any length, block by block; the memory does not grow with it.

        A block ends wherever the intervention changes or an observer needs a state; where blocks end changes nothing
        in the result. A prompt under a :class:`WholePrompt` is one block, whose memory grows with it.

        Args:
            tokens: ids (batch, length), or an iterable of such blocks.
            state: state to go on from; zeros if left out.
            intervention: rewrites the dynamics before each scan.
            observers: see every layer's work.
            block_length: tokens of a block at most, in each row. Default: ``BLOCK_TOKENS`` shared among the rows.

        Yields:
            The blocks in order.

        Raises:
            NonFiniteStateError: a state or an output became NaN or infinite.
            ScaleError: the intervention is a set of scales for another model.
            ValueError: block_length is below 1, or a rule that needs its prompt whole gets it in parts.
        """
        if block_length is not None and block_length < 1:
            raise ValueError(f"block_length must be at least 1, got {block_length}")
        at_once = isinstance(intervention, WholePrompt) and (state is None or state.position == 0)
        if at_once and not isinstance(tokens, Tensor | np.ndarray):
            raise ValueError("this intervention needs its prompt whole; give the tokens as one array")
        if isinstance(intervention, Scales) and state is None:
            intervention.check(self.config)
        changes = () if intervention is None else intervention.boundaries()
        cuts = sorted({*changes, *(cut for observer in observers for cut in observer.boundaries())})
        for piece in [tokens] if isinstance(tokens, Tensor | np.ndarray) else tokens:
            longest = block_length or max(SHORTEST_BLOCK, BLOCK_TOKENS[self.device.type] // max(1, piece.shape[0]))
            first = 0
            while first < piece.shape[1]:
                position = 0 if state is None else state.position
                room = next((cut - position for cut in cuts if cut > position), longest)
                size = piece.shape[1] if at_once else min(longest, room)
                ids = self.ids(piece[:, first : first + size])
                block = self(ids, state, intervention, observers)
                _check_finite(block)
                state = block.state
                first += ids.shape[1]
                yield block

    def ids(self, tokens: Tokens) -> Tensor:
        """Return token ids on the model's device.

        Args:
            tokens: integers of any type.

        Returns:
            The same as int64.

        Raises:
            TextError: an id is outside the vocabulary.
        """
        if isinstance(tokens, np.ndarray):
            tokens = torch.from_numpy(tokens.astype(np.int64))  # a copy: texts are often read-only views
        ids = tokens.to(self.device, torch.long)
        if ids.numel() and (int(ids.max()) >= self.config.vocab_size or int(ids.min()) < 0):
            raise TextError(
                f"token id {int(ids.max())} is outside the vocabulary of {self.name} ({self.config.vocab_size} ids); "
                "the text was probably encoded with another model's tokenizer"
            )
        return ids

    def greedy(
        self,
        tokens: Tokens,
        *,
        intervention: Intervention | None = None,
        state: StreamState | None = None,
        observers: Sequence[Observer] = (),
    ) -> Iterator[Tensor]:
        """Continue a prompt by its likeliest token, one at a time, without end, through the same layers as a prefill.

        Args:
            tokens: prompt, (batch, length), at least one token.
            intervention: rewrites the dynamics in the prompt and in every step alike.
            state: state before the prompt; zeros if left out.
            observers: see every layer's work.

        Returns:
            Ids, (batch, 1) each; a step is run when the next are asked for.

        Raises:
            TextError: the prompt is empty.
        """
        if tokens.shape[1] == 0:
            raise TextError("the prompt is empty; give at least one token")
        run = partial(self.stream, intervention=intervention, observers=observers)

        def steps() -> Iterator[Tensor]:
            (block,) = deque(run(tokens, state=state), maxlen=1)
            while True:
                ids = (block.hidden[:, -1:] @ block.head.T).argmax(-1)
                yield ids
                block = next(run(ids, state=block.state))

        return steps()

    @torch.no_grad()
    def generate(
        self,
        tokens: Tokens,
        steps: int,
        *,
        intervention: Intervention | None = None,
        state: StreamState | None = None,
    ) -> Tensor:
        """Continue a prompt greedily.

        Args:
            tokens: prompt, (batch, length), at least one token.
            steps: tokens to add.
            intervention: rewrites the dynamics in the prompt and in every step alike.
            state: state before the prompt; zeros if left out.

        Returns:
            The added ids, (batch, steps).

        Raises:
            TextError: the prompt is empty.
        """
        added = list(islice(self.greedy(tokens, intervention=intervention, state=state), steps))
        return torch.cat(added, dim=1) if added else torch.empty(tokens.shape[0], 0, dtype=torch.long)


def _apply(intervention: Intervention, layer: int, position: int, dynamics: Dynamics) -> Dynamics:
    """Ask the intervention; a state that grows by itself is refused, which no scan here is made for."""
    found = intervention(layer, position, dynamics)
    if found.dt.device.type == "cpu" and (
        bool((found.dt.detach() < 0).any()) or bool((found.A.detach() > 0).any())
    ):  # on a GPU the question would cost more than the rule
        raise ScaleError(
            f"layer {layer}: the intervention made a step dt negative or a rate A positive; states would grow by "
            "themselves. Factors must be above 0"
        )
    return found


def _check_finite(block: Block) -> None:
    """Name the first layer with a broken state; one sum per block as long as all is well."""
    if bool(torch.isfinite(block.hidden.sum(dtype=torch.float64))) and bool(
        torch.isfinite(block.state.layers[-1].ssm.sum(dtype=torch.float64))
    ):
        return
    broken = (i for i, layer in enumerate(block.state.layers) if not bool(torch.isfinite(layer.ssm).all()))
    raise NonFiniteStateError(next(broken, len(block.state.layers) - 1), block.start)
