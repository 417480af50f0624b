"""Memory and time of a run before it starts: what it holds at most, whether that fits, and about how long it takes.

Memory follows from the checkpoint's header and the shape of the work, before a weight is read. Time is the work in
tokens over the speed of a short warm-up of the real model on blocks as long as the run's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mambascope.spectra.checkpoint import Checkpoint
from mambascope.spectra.config import Config
from mambascope.spectra.errors import MambascopeError
from mambascope.spectra.model import BLOCK_TOKENS, SHORTEST_BLOCK, Model
from mambascope.spectra.pipeline import held_bytes, threads_for
from mambascope.spectra.state import StreamState

from . import resource_formulas as formulas
from .evaluate.bits import block_bits
from .resource_limits import Limit, in_bytes

PROGRAM_BYTES = 140_000_000
"""What libraries and the allocator take once they work: compiled loops, buffers of threads. Ours, measured."""
SPARE_BLOCKS = 5
"""Blocks of memory that lie spare, in the heap between what is kept or for the next block, after 10,000 tokens. Ours,
fitted to the shapes of mamba-130m and mamba2-130m; a GPU's allocator has no such holes."""
FILL_BLOCKS = 4
"""Blocks that a warm-up of threads runs beyond one a thread, so that most of it has all threads at work. Ours."""
WARM_UP_S = 1.0
"""A warm-up stops doubling its block once one takes this long. Ours: a hundredth of a run worth estimating."""
TRAINING_COPIES = 5
"""Weights beside the model's own while all of them are trained: a copy, its gradient, AdamW's two moments, the best."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is about to be run through one model; where several things follow each other, the most of each."""

    tokens: float
    """Tokens of all forward passes; what costs more, such as a gradient, counts as so many."""
    rows: int = 1
    """Texts side by side at most."""
    states: float = 0.0
    """States of a row that are alive at once, over all rows. At least two a row: before a block and after it."""
    longest_tokens: int = 2**40
    """Tokens of the longest text: a block has no more of each row. Default: as many as a block may have."""
    logits: bool = False
    """Losses are read off."""
    whole_tokens: int = 0
    """Longest prompt that runs as a single block, because a rule must see it whole."""
    graph_tokens: int = 0
    """Tokens of a block, over its rows, that autograd follows."""
    trains: bool = False
    """All weights are trained."""
    result_bytes: int = 0
    """What results and observers keep."""
    remedies: tuple[str, ...] = ()
    """What can be done where this does not fit, beside a narrower dtype."""

    def and_then(self, other: Work) -> Work:
        """Return the work of both, one after the other."""
        return replace(
            self,
            tokens=self.tokens + other.tokens,
            rows=max(self.rows, other.rows),
            states=max(self.states, other.states),
            longest_tokens=max(self.longest_tokens, other.longest_tokens),
            logits=self.logits or other.logits,
            whole_tokens=max(self.whole_tokens, other.whole_tokens),
            graph_tokens=max(self.graph_tokens, other.graph_tokens),
            trains=self.trains or other.trains,
            result_bytes=max(self.result_bytes, other.result_bytes),
            remedies=tuple(dict.fromkeys((*self.remedies, *other.remedies))),
        )

    def block_tokens(self, device: str) -> int:
        """Return the tokens of its largest block, over all rows."""
        each = max(SHORTEST_BLOCK, BLOCK_TOKENS[device] // self.rows)
        return max(min(each, self.longest_tokens) * self.rows, self.whole_tokens)


@dataclass(frozen=True, slots=True)
class Need:
    """Memory that a run takes beyond what the process holds before it."""

    name: str
    """The model."""
    parts: dict[str, int] = field(default_factory=dict)
    """Bytes by what they are for; all of them are held at once."""
    loading_bytes: int = 0
    """What loading holds beside the weights, before the rest is needed."""
    remedies: tuple[str, ...] = ()
    """What would lower it."""

    @property
    def peak_bytes(self) -> int:
        """The most that is held at once."""
        weights = self.parts.get("weights", 0)
        return max(sum(self.parts.values()), weights + self.loading_bytes)

    def words(self) -> str:
        """Return the parts in words, the largest first."""
        told = sorted(self.parts.items(), key=lambda part: -part[1])
        return ", ".join(f"{what} {in_bytes(size)}" for what, size in told if size >= 0.01 * self.peak_bytes)


class MemoryNeedError(MambascopeError):
    """A run that would need more memory than there is; nothing of it was begun.

    Attributes:
        need: what it would take.
        limit: what it may take.
    """

    exit_code = 5

    def __init__(self, need: Need, limit: Limit) -> None:
        todo = "; ".join(need.remedies) or "use a machine with more memory"
        super().__init__(
            f"{need.name}: needs about {in_bytes(need.peak_bytes)} of memory ({need.words()}), and "
            f"{in_bytes(limit.room_bytes)} are {limit.origin}; {todo}; --max-memory SIZE sets another limit"
        )
        self.need = need
        self.limit = limit


def need_of(name: str, checkpoint: Checkpoint, work: Work, *, dtype: torch.dtype, device: str = "cpu") -> Need:
    """Estimate the memory of a run from the checkpoint's header; no tensor is read.

    Args:
        name: of the model.
        checkpoint: its files.
        work: what is run.
        dtype: that the weights are loaded in.
        device: ``cpu`` or ``cuda``.

    Returns:
        What it takes.
    """
    config = checkpoint.config
    tokens = work.block_tokens(device)
    usual = min(tokens, BLOCK_TOKENS[device], round(work.tokens))
    gradient = bool(work.graph_tokens) or work.trains
    whole = "a prompt" if work.whole_tokens == tokens else "a block"
    parts = {
        "weights": formulas.weight_bytes(config, dtype),
        "states": round(max(work.states, 2 * work.rows) * formulas.state_bytes(config, dtype)),
        f"{whole} of {tokens:,} tokens": formulas.pass_bytes(
            config, dtype, tokens, device, rows=work.rows, gradient=gradient
        ),
        "blocks in other threads": _in_threads(config, dtype, usual) if device == "cpu" else 0,
        "logits": formulas.logits_bytes(config, dtype, work.rows) if work.logits else 0,
        "a gradient's graph": formulas.graph_bytes(config, dtype, work.graph_tokens, device),
        "training all weights": TRAINING_COPIES * formulas.weight_bytes(config, torch.float32) if work.trains else 0,
        "spare memory": SPARE_BLOCKS * formulas.pass_bytes(config, dtype, usual, gradient=gradient)
        if device == "cpu"
        else 0,
        "results": work.result_bytes,
        "the program": PROGRAM_BYTES,
    }
    loading = formulas.loading_bytes(checkpoint, dtype)
    return Need(name, parts, loading, (*_narrower(config, dtype), *work.remedies))


def _in_threads(config: Config, dtype: torch.dtype, tokens: int) -> int:
    threads = threads_for(config, tokens)
    held = held_bytes(config, tokens, threads) if threads > 1 else 0
    return (threads - 1) * formulas.pass_bytes(config, dtype, tokens) + held


def _narrower(config: Config, dtype: torch.dtype) -> tuple[str, ...]:
    if dtype.itemsize <= 2:
        return ()
    narrow = torch.float32 if dtype == torch.float64 else torch.bfloat16
    saved = formulas.weight_bytes(config, dtype) - formulas.weight_bytes(config, narrow)
    return (f"--dtype {str(narrow).removeprefix('torch.')} saves {in_bytes(saved)}",)


def check_need(need: Need, limit: Limit | None) -> None:
    """Refuse a run that does not fit.

    Args:
        need: what it takes.
        limit: what it may take; None for no limit.

    Raises:
        MemoryNeedError: it needs more.
    """
    if limit is not None and need.peak_bytes > limit.room_bytes:
        raise MemoryNeedError(need, limit)


@torch.no_grad()
def tokens_per_second(model: Model, work: Work, warm_up_s: float = WARM_UP_S) -> float:
    """Time a short warm-up: blocks of growing length, up to those that the run will use.

    Args:
        model: a loaded model.
        work: what will be run.
        warm_up_s: no longer block is tried once one has taken this long.

    Returns:
        Tokens a second, over all rows, of the longest block.
    """
    most = max(1, min(work.block_tokens(model.device.type), BLOCK_TOKENS[model.device.type]) // work.rows)
    ids = torch.arange(work.rows * most, device=model.device).view(work.rows, most) % model.config.vocab_size
    length = min(32, most)
    state = _once(model, ids[:, :length])  # loops are compiled at the first call; a GPU's kernels not for single tokens
    while True:
        seconds = _timed(model, ids[:, :length], state, work.logits)
        if length == most or 2 * seconds > warm_up_s:
            break
        length = min(2 * length, most)
    again = [] if 2 * seconds > warm_up_s else [_timed(model, ids[:, :length], state, work.logits) for _ in range(2)]
    alone = work.rows * length / statistics.median([seconds, *again])
    threads = threads_for(model.config, work.rows * length) if model.device.type == "cpu" else 1
    blocks = threads + FILL_BLOCKS
    if threads == 1 or work.longest_tokens <= threads * length or blocks * seconds > 2 * warm_up_s:
        return alone
    return max(alone, _timed_in_threads(model, ids[:, :length], blocks, work.logits))


def _timed_in_threads(model: Model, ids: Tensor, blocks: int, logits: bool) -> float:
    """Return tokens a second of a stream whose layers are shared among threads."""
    begin = time.perf_counter()
    for block in model.stream(ids.repeat(1, blocks), block_length=ids.shape[1]):
        if logits:
            block_bits(block.hidden, block.head, block.tokens)
    return blocks * ids.numel() / (time.perf_counter() - begin)


def _once(model: Model, ids: Tensor) -> StreamState:
    state: StreamState = model(ids).state
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return state


def _timed(model: Model, ids: Tensor, state: StreamState, logits: bool) -> float:
    begin = time.perf_counter()
    block = model(ids, state)
    if logits:
        block_bits(block.hidden, block.head, ids)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter() - begin


def in_time(seconds: float) -> str:
    """Return a duration as people say it.

    >>> in_time(0.4), in_time(48.0), in_time(600), in_time(9000), in_time(400000)
    ('1 s', '48 s', '10 min', '2.5 hours', '4.6 days')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def together(needs: Sequence[Need]) -> Need:
    """Return what several models take that are loaded at once, one of them at work."""
    if len(needs) == 1:
        return needs[0]
    busiest = max(needs, key=lambda need: need.peak_bytes - need.parts["weights"])
    weights = sum(need.parts["weights"] for need in needs)
    loading = max(need.loading_bytes for need in needs)
    names = ", ".join(need.name for need in needs)
    return Need(names, busiest.parts | {"weights": weights}, loading, busiest.remedies)


def times(need: Need, workers: int) -> Need:
    """Return what several processes take that hold a model each, beside one that waits for them."""
    parts = {what: size * workers for what, size in need.parts.items()}
    parts["weights"] += need.parts["weights"]
    return replace(
        need, parts=parts, loading_bytes=need.loading_bytes * workers, remedies=(*need.remedies, "fewer --jobs")
    )
