"""The residual stack of Mamba layers, and the one forward: a stream of blocks that carries the state.

Source: state-spaces/mamba (MixerModel, MambaLMHeadModel).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .block import Block, Passing, check_finite
from .config import Config
from .dynamics import Intervention, Observer, WholePrompt
from .errors import TextError
from .mamba import Mamba
from .mamba2 import Mamba2
from .pipeline import passed_on, shares, threads_for
from .rmsnorm import RMSNorm
from .scales import Scales
from .scan.choice import in_forward_mode
from .state import LayerState, StreamState

BLOCK_TOKENS = {"cpu": 512, "cuda": 16384}
"""Tokens of a block of the stream, over the whole batch. Ours: on one CPU core larger blocks were no faster for the
bundled models, and slower from 4096 on, where they fall out of the cache; their temporaries grow with them. On one H200
with the official kernels and bfloat16 weights, 16,384 gave 93 and 90 % of the speed of 65,536 for the shapes of
mamba2-130m and mamba-130m with a third of the memory (1.1 and 1.3 GB); 2,048 gave 17 and 23 %."""
SHORTEST_BLOCK = 64

Tokens = Tensor | npt.NDArray[np.integer]


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
        passing = self._embedded(tokens, state.position, state.layers)
        for index in range(self.config.n_layer):
            self._through([index], passing, intervention, watched=bool(observers))
            for observer in observers:
                observer.update(passing.seen[-1])
            passing.seen.clear()
        return self._block(passing)

    def _embedded(self, ids: Tensor, start: int, before: Sequence[LayerState]) -> Passing:
        residual = self.backbone.embedding(ids).to(self.state_dtype)  # as the released models keep it
        return Passing(ids, start, residual, list(before))

    def _through(
        self, layers: Iterable[int], passing: Passing, intervention: Intervention | None, *, watched: bool
    ) -> None:
        stack = self.layers()
        for index in layers:
            passing.through(index, stack[index], intervention, watched=watched)

    def _block(self, passing: Passing) -> Block:
        stop = passing.start + passing.tokens.shape[1]
        hidden = self.backbone.norm_f(passing.residual)
        state = StreamState(stop, tuple(passing.layers))
        return Block(passing.start, stop, passing.tokens, hidden, passing.kept, state, self.lm_head.weight)

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
            if not piece.shape[1]:
                continue
            state = self.zero_state(piece.shape[0]) if state is None else state
            longest = block_length or max(SHORTEST_BLOCK, BLOCK_TOKENS[self.device.type] // max(1, piece.shape[0]))
            if at_once:
                longest = piece.shape[1]
            parts = self._cut(piece, state.position, () if at_once else cuts, longest)
            threads = self._threads(piece, longest, intervention)
            run = partial(self._in_threads, threads) if threads > 1 else self._in_order
            for block in run(parts, state, intervention, observers):
                check_finite(block)
                state = block.state
                yield block

    def _cut(self, piece: Tokens, start: int, cuts: Sequence[int], longest: int) -> Iterator[tuple[Tensor, int]]:
        """Yield the ids and the position of each block."""
        first, length = 0, piece.shape[1]
        while first < length:
            position = start + first
            size = min(longest, next((cut - position for cut in cuts if cut > position), longest))
            yield self.ids(piece[:, first : first + size]), position
            first += size

    def _threads(self, piece: Tokens, longest: int, intervention: Intervention | None) -> int:
        """Among how many threads the layers are shared; rules that may remember and hooks are asked in order."""
        shared = (
            piece.shape[1] > longest  # first, as every single step asks
            and self.device.type == "cpu"
            and not torch.is_grad_enabled()
            and not (in_forward_mode() or torch.is_autocast_enabled("cpu"))  # of which other threads know nothing
            and (intervention is None or isinstance(intervention, Scales))
            and not any(part._forward_hooks or part._forward_pre_hooks for part in self.modules())
        )
        threads = threads_for(self.config, piece.shape[0] * longest) if shared else 1
        return threads if piece.shape[1] > threads * longest else 1

    def _in_order(
        self,
        parts: Iterable[tuple[Tensor, int]],
        state: StreamState,
        intervention: Intervention | None,
        observers: Sequence[Observer],
    ) -> Iterator[Block]:
        for ids, _ in parts:
            block = self(ids, state, intervention, observers)
            state = block.state
            yield block

    def _in_threads(
        self,
        threads: int,
        parts: Iterable[tuple[Tensor, int]],
        state: StreamState,
        intervention: Intervention | None,
        observers: Sequence[Observer],
    ) -> Iterator[Block]:
        """The same blocks; observers are told of one in the caller's thread, just before the caller has it."""
        held = list(state.layers)

        def stage(layers: range, passing: Passing) -> Passing:
            passing.layers[layers.start : layers.stop] = held[layers.start : layers.stop]
            self._through(layers, passing, intervention, watched=bool(observers))
            held[layers.start : layers.stop] = passing.layers[layers.start : layers.stop]
            return passing

        stages = [partial(stage, layers) for layers in shares(self.config.n_layer, threads)]
        for passing in passed_on((self._embedded(ids, start, held) for ids, start in parts), stages):
            for observation in passing.seen:
                for observer in observers:
                    observer.update(observation)
            yield self._block(passing)

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
            wide = torch.promote_types(block.hidden.dtype, torch.float32)  # many half-precision logits are equal
            head = block.head.to(wide)
            while True:
                ids = (block.hidden[:, -1:].to(wide) @ head.T).argmax(-1)
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
