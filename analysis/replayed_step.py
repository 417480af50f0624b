"""A training step's work on a GPU, recorded once and replayed: a small model's step is thousands of short kernels.

Launching them one by one takes longer than running them. A replay reads its inputs from, and leaves its results and the
gradients in, the same memory every time. Source: CUDA graphs, as torch.cuda.CUDAGraph wraps them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UP = 3
"""Runs before the recording, in which libraries make their plans. Source: the documentation of torch.cuda.graph."""


class ReplayedStep:
    """Work with gradients on inputs of fixed shapes; the result is that of calling it, up to rounding."""

    def __init__(self, work: Callable[..., Tensor], parameters: Sequence[Tensor]) -> None:
        self._work, self._parameters = work, parameters
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._result = torch.empty(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Run the work; gradients of an earlier run are dropped.

        Args:
            inputs: what the work takes, of the shapes of the first call; on any device.

        Returns:
            What the work returns; the next call overwrites it.
        """
        if self._graph is None:
            self._record(inputs)
        for mine, theirs in zip(self._inputs, inputs, strict=True):
            mine.copy_(theirs)
        assert self._graph is not None
        self._graph.replay()
        return self._result

    def _record(self, inputs: Sequence[Tensor]) -> None:
        device = self._parameters[0].device
        self._inputs = tuple(each.to(device, copy=True) for each in inputs)
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._drop_gradients()
                self._work(*self._inputs)
        torch.cuda.current_stream(device).wait_stream(aside)
        self._drop_gradients()  # the recording makes them anew, in memory that stays
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = self._work(*self._inputs)

    def _drop_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
