"""Bits per token by length and by position, against a control that cannot break down.

One pass over a text gives every shorter length as well. The control scores the same tokens, each with a state that was
started fresh between T/2 and T tokens before it (T = training length): it never leaves what the model was trained on.
*Harm* is the tail bits of a method less those of the control; the tail of a length is its second half.
Losses are float32 log-softmaxes, their sums float64. No beginning-of-text token; the first token is not scored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from mambascope.spectra.dynamics import Intervention, Observer
from mambascope.spectra.errors import TextError
from mambascope.spectra.model import Model, Tokens

Floats = npt.NDArray[np.float64]

_POSITIONS_AT_ONCE = 1024  # (positions x vocabulary) logits that exist at one time, over the batch


@dataclass(frozen=True, slots=True)
class PerplexityRow:
    """One method at one length."""

    method: str
    """Name of the method."""
    length: int
    """Tokens of each document that the model read."""
    bits_per_token: float
    """Mean over all scored tokens (all but the first)."""
    tail_bits_per_token: float
    """Mean over the positions from length/2 on."""
    perplexity: float | None
    """2 ** bits_per_token; None where that overflows."""
    tokens: int
    """Tokens scored, over all documents."""
    documents: int
    """Documents read."""
    ci_low: float | None
    """Lower end of the 95 % t-interval of bits_per_token over documents; None for fewer than two."""
    ci_high: float | None
    """Upper end."""
    harm: float | None = None
    """Tail bits less the control's, where the control was run."""
    harm_ci_low: float | None = None
    """Lower end of the 95 % t-interval of the paired differences over documents."""
    harm_ci_high: float | None = None
    """Upper end."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def block_bits(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Score a block; logits live for a few positions at a time.

    Args:
        hidden: output of the final norm, (batch, length, d_model).
        head: weight of the output head, (vocab_size, d_model).
        targets: next tokens, (batch, length).

    Returns:
        Bits of each target, (batch, length), in float32 or the wider type of ``hidden``.
    """
    step = max(1, _POSITIONS_AT_ONCE // hidden.shape[0])
    wide = torch.promote_types(hidden.dtype, torch.float32)
    parts = []
    for first in range(0, hidden.shape[1], step):
        logits = hidden[:, first : first + step].to(wide) @ head.to(wide).T
        wanted = targets[:, first : first + step]
        parts.append(F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view(wanted.shape))
    return torch.cat(parts, dim=1) / math.log(2)


def stream_bits(
    model: Model, tokens: Tokens, intervention: Intervention | None = None, *, observers: Sequence[Observer] = ()
) -> Iterator[Floats]:
    """Score a batch of texts block by block.

    Args:
        model: a loaded model.
        tokens: ids, (batch, length), at least two tokens long.
        intervention: rewrites the dynamics.
        observers: see every layer's work on the way.

    Yields:
        Bits of the next tokens, (batch, block length); in all length - 1 of them, the first for the second token.
    """
    with torch.no_grad():
        for block in model.stream(tokens[:, :-1], intervention=intervention, observers=observers):
            targets = model.ids(tokens[:, block.start + 1 : block.stop + 1])
            yield block_bits(block.hidden, block.head, targets).double().cpu().numpy()


def token_bits(
    model: Model, tokens: Tokens, intervention: Intervention | None = None, *, observers: Sequence[Observer] = ()
) -> Floats:
    """Return the bits of every token but the first, (batch, length - 1)."""
    return np.concatenate(list(stream_bits(model, tokens, intervention, observers=observers)), axis=1)


def fresh_window_bits(
    model: Model,
    tokens: Tokens,
    train_length: int,
    *,
    windows_at_once: int = 32,
    observers: Sequence[Observer] = (),
) -> Floats:
    """Score the same tokens with states never older than the training length.

    Windows of T tokens start every T/2; the second half of each is scored, the first window whole.

    Args:
        model: a loaded model.
        tokens: ids, (batch, length).
        train_length: T.
        windows_at_once: windows that run side by side. Default: ours; no effect on the result.
        observers: see every layer's work on the way.

    Returns:
        Bits of every token but the first, (batch, length - 1).
    """
    length, stride = tokens.shape[1], max(1, train_length // 2)
    bits = np.empty((tokens.shape[0], length - 1))
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
                bits[row, start + skip : start + len(of_window)] = of_window[skip:]
    return bits


def stack_documents(documents: Sequence[npt.NDArray[np.integer]], length: int) -> npt.NDArray[np.integer]:
    """Cut documents to one length.

    Args:
        documents: ids of each.
        length: tokens to keep.

    Returns:
        Ids, (documents, length), of those that are long enough.

    Raises:
        TextError: none is.
    """
    kept = [ids[:length] for ids in documents if len(ids) >= length]
    if not kept:
        longest = max((len(ids) for ids in documents), default=0)
        raise TextError(
            f"0 of {len(documents)} documents reach {length} tokens (the longest has {longest}); "
            "give longer texts or a shorter --lengths"
        )
    return np.stack(kept)


def _interval(values: Floats) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    half = float(scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def rows_by_length(method: str, bits: Floats, lengths: Sequence[int], control: Floats | None) -> list[PerplexityRow]:
    """Summarise token bits at several lengths.

    Args:
        method: name to put into the rows.
        bits: (documents, longest length - 1) from ``token_bits``.
        lengths: lengths to report, each at least 2 and within the bits.
        control: bits of the fresh-window control on the same tokens, for the harm.

    Returns:
        One row a length.
    """
    rows = []
    for length in lengths:
        scored = bits[:, : length - 1]
        tail = slice(max(length // 2, 1) - 1, length - 1)
        low, high = _interval(scored.mean(1))
        harm, harm_low, harm_high = None, None, None
        if control is not None:
            paired = bits[:, tail].mean(1) - control[:, tail].mean(1)
            harm = float(paired.mean())
            harm_low, harm_high = _interval(paired)
        mean = float(scored.mean())
        rows.append(
            PerplexityRow(
                method=method,
                length=length,
                bits_per_token=mean,
                tail_bits_per_token=float(bits[:, tail].mean()),
                perplexity=2**mean if mean < 1024 else None,
                tokens=scored.size,
                documents=len(bits),
                ci_low=low,
                ci_high=high,
                harm=harm,
                harm_ci_low=harm_low,
                harm_ci_high=harm_high,
            )
        )
    return rows


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Rows of one or more methods."""

    rows: tuple[PerplexityRow, ...]
    """One row a method and length."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"rows": [row.to_dict() for row in self.rows]}

    def __str__(self) -> str:
        names = f"{'method':<14}{'length':>9}{'bits/token':>12}{'tail bits':>11}{'perplexity':>12}"
        lines = [names + f"{'harm':>9}{'documents':>11}"]
        for r in self.rows:
            harm = "" if r.harm is None else f"{r.harm:+.4f}"
            lines.append(
                f"{r.method:<14}{r.length:>9,}{r.bits_per_token:>12.4f}{r.tail_bits_per_token:>11.4f}"
                f"{math.inf if r.perplexity is None else r.perplexity:>12.4g}{harm:>9}{r.documents:>11}"
            )
        return "\n".join(lines)


def perplexity(
    model: Model,
    tokens: Tokens,
    *,
    lengths: Sequence[int],
    scales: Intervention | None = None,
    name: str | None = None,
    train_length: int | None = None,
) -> Perplexity:
    """Evaluate a model, scaled or not, at several lengths from one pass.

    Args:
        model: a loaded model.
        tokens: ids, (documents, length), at least as long as the longest length.
        lengths: tokens to read of each document.
        scales: what the model runs with.
        name: name of the method in the rows. Default: ``none`` without scales, else ``scales``.
        train_length: T; where given, the fresh-window control runs too and every row has its harm.

    Returns:
        One row a length, the control's rows last.

    Raises:
        TextError: a length is not within the text, or below 2.
    """
    if not lengths or min(lengths) < 2 or max(lengths) > tokens.shape[1]:
        raise TextError(f"lengths {list(lengths)}: expected 2 to {tokens.shape[1]}, what the documents hold")
    ids = tokens[:, : max(lengths)]
    bits = token_bits(model, ids, scales)
    control = fresh_window_bits(model, ids, train_length) if train_length else None
    rows = rows_by_length(name or ("scales" if scales else "none"), bits, lengths, control)
    if control is not None:
        rows += rows_by_length("fresh-window", control, lengths, control)
    return Perplexity(tuple(rows))
