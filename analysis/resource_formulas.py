"""Bytes that a run of a model takes, as formulas of its shape.

Weights, states and logits are counted; what a block holds on its way through a layer is so many times the widths that
it has there, a factor fitted to measured peaks. tests/analysis/test_resource_formulas.py measures again.
"""

from __future__ import annotations

import math
from importlib.util import find_spec

import torch

from mambascope.spectra.checkpoint import Checkpoint
from mambascope.spectra.config import Config
from mambascope.spectra.layouts import expected_tensors
from mambascope.spectra.scan.kernels import switched_off

from .evaluate.bits import positions_at_once

WIDTHS_ALIVE = {"mamba": 3.4, "mamba2": 2.8}
"""Widths d_model + in_proj's that are alive at once in a layer, per token, where compiled loops run. Ours, fitted."""
WIDTHS_ALIVE_TORCH = {"mamba": 6.0, "mamba2": 4.0}
"""The same where the scan alone runs in loops, or autograd follows, and taken for a GPU. Ours, fitted on a CPU."""
WIDTHS_ALIVE_PLAIN = {"mamba": 6.0, "mamba2": 7.8}
"""The same where plain torch scans, too. Ours, fitted."""
STEPS_ALIVE_PLAIN = 4 * 16
"""States of a row (d_inner x d_state) that the plain scan of Mamba-1 has at once: decays, writes and states of 16
tokens, the last twice."""
WIDTHS_KEPT = {"mamba": 4.5, "mamba2": 4.5}
"""Widths that autograd keeps of a layer, per token, where compiled loops scan. Ours, fitted."""
WIDTHS_KEPT_PLAIN = {"mamba": 4.5, "mamba2": 8.7}
"""The same where plain torch scans. Ours, fitted."""
STATES_KEPT_PLAIN = {"cpu": 4.1, "cuda": 6.5}
"""States (d_inner x d_state) that it then keeps of a Mamba-1 layer, per token. Ours; fitted on a CPU, where the scan
that runs on a GPU keeps 1.6 times as many."""
LOGITS_ALIVE = 3.0
"""Logits, their log-softmax, and what the heap keeps of them. Ours, measured at a vocabulary of 50,288."""


def weight_bytes(config: Config, dtype: torch.dtype) -> int:
    """Return the bytes of a loaded model's weights; rates keep at least float32."""
    rates = torch.promote_types(dtype, torch.float32).itemsize
    return sum(
        math.prod(shape) * (rates if name.endswith("A_log") else dtype.itemsize)
        for name, shape in expected_tensors(config).items()
    )


def loading_bytes(checkpoint: Checkpoint, dtype: torch.dtype) -> int:
    """Return what loading holds beside the weights: the largest tensor as it is stored, before it is converted."""
    largest = 0
    for file, name in checkpoint.stored.values():
        entry = file.entries[name]
        # a tied head is read to be compared, in the target's type too
        copies = entry.nbytes + (math.prod(entry.shape) * dtype.itemsize if entry.dtype != dtype else 0)
        largest = max(largest, copies)
    return largest


def state_bytes(config: Config, dtype: torch.dtype) -> int:
    """Return the bytes of one row's states, convolution and SSM, of all layers."""
    precise = 8 if dtype == torch.float64 else 4
    layer = config.d_conv * config.conv_dim * dtype.itemsize + config.d_inner * config.d_state * precise
    return config.n_layer * layer


def token_width(config: Config) -> int:
    """Return the numbers that a token has at once at the entrance of a layer: its residual and all that in_proj makes.

    >>> token_width(Config("mamba2", 64, 2, 256, 128, 16, headdim=32))
    356
    """
    made = 2 * config.d_inner if config.arch == "mamba" else config.d_inner + config.conv_dim + config.nheads
    return config.d_model + made


def pass_bytes(
    config: Config, dtype: torch.dtype, tokens: int, device: str = "cpu", *, rows: int = 1, gradient: bool = False
) -> int:
    """Return what a block holds on its way through a layer.

    Args:
        config: shape of the model.
        dtype: of its weights.
        tokens: of the block, over all rows.
        device: ``cpu`` or ``cuda``.
        rows: texts side by side.
        gradient: whether autograd follows; what it keeps comes on top.

    Returns:
        Bytes, without weights and carried states.
    """
    states = torch.float64 if dtype == torch.float64 else torch.float32
    width = tokens * token_width(config) * states.itemsize
    if _in_loops(dtype, device) and not gradient:
        return round(WIDTHS_ALIVE[config.arch] * width)
    if device != "cpu" or _in_loops(states, device):
        return round(WIDTHS_ALIVE_TORCH[config.arch] * width)
    steps = STEPS_ALIVE_PLAIN * rows if config.arch == "mamba" else 0
    return round(WIDTHS_ALIVE_PLAIN[config.arch] * width + steps * config.d_inner * config.d_state * states.itemsize)


def _in_loops(dtype: torch.dtype, device: str) -> bool:
    """Return whether loops of this dtype run, as `choose` has it, which imports numba: that is left to the run."""
    return device == "cpu" and dtype == torch.float32 and not switched_off() and find_spec("numba") is not None


def graph_bytes(config: Config, dtype: torch.dtype, tokens: int, device: str = "cpu") -> int:
    """Return what autograd keeps of a block's way through all layers; without compiled loops it keeps every state.

    Args:
        config: shape of the model.
        dtype: of its weights.
        tokens: of the block, over all rows.
        device: ``cpu`` or ``cuda``.

    Returns:
        Bytes.
    """
    states = torch.float64 if dtype == torch.float64 else torch.float32
    if _in_loops(states, device):
        return round(tokens * config.n_layer * WIDTHS_KEPT[config.arch] * token_width(config) * 4)
    kept = WIDTHS_KEPT_PLAIN[config.arch] * token_width(config)
    if config.arch == "mamba":
        kept += STATES_KEPT_PLAIN[device] * config.d_inner * config.d_state
    return round(tokens * config.n_layer * kept * states.itemsize)


def logits_bytes(config: Config, dtype: torch.dtype, rows: int) -> int:
    """Return what scoring a block holds: logits of a slice of it, in float32 at least, and the head in that type."""
    precise = 8 if dtype == torch.float64 else 4
    head = config.vocab_size * config.d_model * precise if dtype.itemsize < precise else 0
    return round(LOGITS_ALIVE * rows * positions_at_once(rows, config.vocab_size) * config.vocab_size * precise) + head
