"""What step sizes add up to inside the training length, and the thresholds that keep it so over longer texts.

For one window of T tokens and one head (Mamba-2) or channel (Mamba-1), with Delta clamped from above at the smallest
value of its top q share: S = sum_t Delta_t, D = exp(A S). For a length n the sorted Delta are stretched to n points; k
points, the largest, are the fewest whose sum exceeds S; alpha(n) = k / n, and theta(n) is the point next in size, so
that Delta > theta(n) keeps k of n. All of them are averaged over windows.

Source: LongMamba (arXiv 2504.16053) and its released code, for Mamba-2; per channel on Mamba-1 is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mambascope.spectra.dynamics import Observation

from ..arrays import Arrays


def clamp_top(dt: Tensor, share: float) -> Tensor:
    """Clamp from above at the smallest value of the largest ``share``.

    Args:
        dt: step sizes, (..., T).
        share: q; at least one token.

    Returns:
        The same shape.
    """
    count = max(1, int(dt.shape[-1] * share))
    return dt.minimum(dt.topk(count, dim=-1).values[..., -1:])


def stretched(values: Tensor, length: int, points: int) -> Tensor:
    """Interpolate linearly to ``length`` points at the middles of equal shares of the range.

    Args:
        values: (..., T).
        length: n.
        points: how many of the n are wanted, from the first on.

    Returns:
        (..., points); point j lies at (j + 1/2) T / n - 1/2 among the values, the ends held beyond 0 and T - 1.
    """
    T = values.shape[-1]
    at = (torch.arange(points, dtype=torch.float64, device=values.device) + 0.5) * T / length - 0.5
    at = at.clamp(0, T - 1)
    low = at.floor().long()
    weight = at - low
    return values[..., low] * (1 - weight) + values[..., (low + 1).clamp(max=T - 1)] * weight


def threshold_at(ranked: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return theta and alpha for a length.

    Args:
        ranked: clamped step sizes of a window, the largest first, (..., T).
        length: n.

    Returns:
        theta and alpha, (...); 0 and 1 where not even all n points exceed the sum, as up to T.
    """
    T, total = ranked.shape[-1], ranked.sum(-1, keepdim=True)
    if length <= T:
        return torch.zeros_like(total[..., 0]), torch.ones_like(total[..., 0])
    for reach in (min(length, 2 * T), length):  # the largest points are above the mean, so that k is hardly above T
        points = stretched(ranked, length, reach)
        within = (points.cumsum(-1) <= total).sum(-1)  # points before the sum is exceeded
        if bool((within < reach - 1).all()):
            break
    k = within + 1
    theta = points.gather(-1, k.clamp(max=reach - 1)[..., None])[..., 0]
    alpha = (k.to(theta) / length).clamp(max=1)
    return torch.where(k < length, theta, torch.zeros_like(theta)), alpha


class StepStatistics:
    """Observer of whole windows of T tokens, each from a state of zeros; means over all of them.

    Args:
        train_length: T.
        share: q.
        lengths: lengths n to find thresholds for.
    """

    def __init__(self, train_length: int, share: float, lengths: Sequence[int]) -> None:
        self.train_length, self.share, self.lengths = train_length, share, tuple(lengths)
        self.windows = 0
        self._parts: dict[int, list[Tensor]] = {}
        self._sums: dict[int, list[Tensor]] = {}

    def boundaries(self) -> tuple[int, ...]:
        """Return no positions: blocks are put together."""
        return ()

    def update(self, observation: Observation) -> None:
        """Keep a block's step sizes; add up once a window is whole."""
        parts = self._parts.setdefault(observation.layer, [])
        parts.append(observation.dynamics.dt)
        if observation.stop == self.train_length:
            for window in torch.cat(parts, dim=1):
                self._add(observation.layer, window.double().T, observation.dynamics.A.double())
            parts.clear()

    def _add(self, layer: int, dt: Tensor, A: Tensor) -> None:
        ranked = clamp_top(dt, self.share).sort(dim=-1, descending=True).values  # (channels, T)
        total = ranked.sum(-1)
        # of the 16 rates of a Mamba-1 channel the slowest decides: a channel whose one state remembers the whole window
        # is driven beyond what training showed, whatever its faster states forget
        slowest = A if A.dim() == 1 else A.amax(-1)
        found = [total, torch.exp(slowest * total)]
        for length in self.lengths:
            found += threshold_at(ranked, length)
        sums = self._sums.setdefault(layer, [torch.zeros_like(each) for each in found])
        for mine, new in zip(sums, found, strict=True):
            mine += new
        self.windows += layer == 0

    def result(self) -> Arrays:
        """Return the means.

        Returns:
            ``lengths`` (n,), ``total`` S and ``decay`` D (n_layer, channels), ``theta`` and ``alpha`` (n, n_layer,
            channels), ``windows`` (1,).
        """
        layers = sorted(self._sums)
        mean = [
            np.stack([(self._sums[layer][k] / self.windows).cpu().numpy() for layer in layers])
            for k in range(2 + 2 * len(self.lengths))
        ]
        return {
            "lengths": np.array(self.lengths, np.int64),
            "total": mean[0],
            "decay": mean[1],
            "theta": np.stack(mean[2::2]),
            "alpha": np.stack(mean[3::2]),
            "windows": np.array([self.windows]),
        }
