"""Backward passes that are themselves not differentiable say so instead of giving a derivative that is zero."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

from ..errors import DerivativeError


def first_derivative(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Let a backward pass refuse to be part of a graph (``create_graph=True``)."""

    @wraps(backward)
    def checked(ctx: Any, *gradients: Any) -> Any:
        if torch.is_grad_enabled():
            raise DerivativeError(
                "the compiled CPU loops have first derivatives only; for second ones use a float64 model "
                "(dtype=torch.float64), which runs in plain torch"
            )
        return backward(ctx, *gradients)

    return checked
