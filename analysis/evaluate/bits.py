"""Bits of each next token, block by block, and the same from a control that cannot break down.

The control scores the same tokens, each with a state that was started fresh between T/2 and T tokens before it (T =
training length): it never leaves what the model was trained on. Losses are float32 log-softmaxes. No beginning-of-text
token is added; the first token is not scored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mambascope.spectra.dynamics import Intervention, Observer
from mambascope.spectra.model import Model, Tokens
from mambascope.spectra.state import StreamState

Floats = npt.NDArray[np.float64]

_POSITIONS_AT_ONCE = 1024
_LOGITS_AT_ONCE = 9 * 2**20
"""(positions x vocabulary) logits that exist at one time, over the batch: 38 MB, as fast as more at a vocabulary of
50,288. Ours; buffers of up to 32 MB stay in glibc's heap, which then had holes of 200 MB."""
WINDOWS_AT_ONCE = 32
"""Windows of the control that run side by side. Ours; no effect on the result beyond rounding."""


def positions_at_once(rows: int, vocab_size: int) -> int:
    """Return how many positions of so many rows are scored at one time."""
    return max(1, min(_POSITIONS_AT_ONCE, _LOGITS_AT_ONCE // vocab_size) // rows)


def block_bits(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Score a block; logits live for a few positions at a time.

    Args:
        hidden: output of the final norm, (batch, length, d_model).
        head: weight of the output head, (vocab_size, d_model).
        targets: next tokens, (batch, length).

    Returns:
        Bits of each target, (batch, length), in float32 or the wider type of ``hidden``.
    """
    step = positions_at_once(hidden.shape[0], head.shape[0])
    wide = torch.promote_types(hidden.dtype, torch.float32)
    head = head.to(wide)  # once: to convert a large half-precision head takes as long as a slice of logits
    parts = []
    for first in range(0, hidden.shape[1], step):
        logits = hidden[:, first : first + step].to(wide) @ head.T
        wanted = targets[:, first : first + step]
        parts.append(F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view(wanted.shape))
    return torch.cat(parts, dim=1) / math.log(2)


def stream_bits(
    model: Model,
    tokens: Tokens,
    intervention: Intervention | None = None,
    *,
    state: StreamState | None = None,
    observers: Sequence[Observer] = (),
) -> Iterator[Floats]:
    """Score a batch of texts block by block.

    Args:
        model: a loaded model.
        tokens: ids, (batch, length), at least two tokens long.
        intervention: rewrites the dynamics; it must let every token through to the last layer.
        state: state before the first token, of a text's own position 0. Default: zeros.
        observers: see every layer's work on the way.

    Yields:
        Bits of the next tokens, (batch, block length); in all length - 1 of them, the first for the second token.
    """
    with torch.no_grad():
        for block in model.stream(tokens[:, :-1], state=state, intervention=intervention, observers=observers):
            targets = model.ids(tokens[:, block.start + 1 : block.stop + 1])
            yield block_bits(block.hidden, block.head, targets).double().cpu().numpy()


@torch.no_grad()
def last_bits(model: Model, tokens: Tokens, intervention: Intervention, count: int) -> Floats:
    """Return the bits of the last tokens, where an intervention lets earlier ones end on the way.

    Args:
        model: a loaded model.
        tokens: ids, (batch, length).
        intervention: it must let the last ``count`` positions that predict through to the last layer.
        count: tokens to score.

    Returns:
        Bits, (batch, count).

    Raises:
        ValueError: a position that predicts was dropped.
    """
    (block,) = model.stream(tokens[:, :-1], intervention=intervention)
    wanted = torch.arange(tokens.shape[1] - 1 - count, tokens.shape[1] - 1).expand(tokens.shape[0], -1)
    if block.kept is not None and not torch.equal(block.kept[:, -count:].cpu(), wanted):
        raise ValueError(f"the intervention drops some of the last {count} tokens, which are to be scored")
    targets = model.ids(tokens[:, -count:])
    return block_bits(block.hidden[:, -count:], block.head, targets).double().cpu().numpy()


def token_bits(
    model: Model, tokens: Tokens, intervention: Intervention | None = None, *, observers: Sequence[Observer] = ()
) -> Floats:
    """Return the bits of every token but the first, (batch, length - 1)."""
    return np.concatenate(list(stream_bits(model, tokens, intervention, observers=observers)), axis=1)


def stream_fresh_bits(
    model: Model,
    tokens: Tokens,
    train_length: int,
    *,
    windows_at_once: int = WINDOWS_AT_ONCE,
    observers: Sequence[Observer] = (),
) -> Iterator[tuple[int, int, Floats]]:
    """Score the same tokens with states never older than the training length, window by window.

    Windows of T tokens start every T/2; the second half of each is scored, the first window whole.

    Args:
        model: a loaded model.
        tokens: ids, (batch, length).
        train_length: T.
        windows_at_once: windows that run side by side.
        observers: see every layer's work on the way.

    Yields:
        Row, position of the first token scored, and the bits from there on; in a row the positions follow each other.
    """
    length, stride = tokens.shape[1], max(1, train_length // 2)
    starts = range(0, max(1, length - stride), stride)
    whole = [s for s in starts if s + train_length <= length]
    groups = [whole[i : i + windows_at_once] for i in range(0, len(whole), windows_at_once)]
    groups += [[s] for s in starts if s + train_length > length]  # the last one may be shorter
    for row in range(tokens.shape[0]):
        for group in groups:
            windows = torch.stack([model.ids(tokens[row : row + 1, s : s + train_length])[0] for s in group])
            scored = token_bits(model, windows, observers=observers)
            for start, of_window in zip(group, scored, strict=True):
                skip = 0 if start == 0 else stride - 1  # entry k scores token start + k + 1
                yield row, start + skip + 1, of_window[skip:]


def fresh_window_bits(
    model: Model,
    tokens: Tokens,
    train_length: int,
    *,
    windows_at_once: int = WINDOWS_AT_ONCE,
    observers: Sequence[Observer] = (),
) -> Floats:
    """Score the same tokens with states never older than the training length.

    Args:
        model: a loaded model.
        tokens: ids, (batch, length).
        train_length: T.
        windows_at_once: windows that run side by side.
        observers: see every layer's work on the way.

    Returns:
        Bits of every token but the first, (batch, length - 1).
    """
    bits = np.empty((tokens.shape[0], tokens.shape[1] - 1))
    parts = stream_fresh_bits(model, tokens, train_length, windows_at_once=windows_at_once, observers=observers)
    for row, first, of_window in parts:
        bits[row, first - 1 : first - 1 + len(of_window)] = of_window
    return bits
