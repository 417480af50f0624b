"""What a Mamba model really does: load it, stream any length through it, read its spectrum and its states.

Glossary (names as in the papers' code)
    A_log     log of the rates; A = -exp(A_log), one per head (Mamba-2) or per channel and state (Mamba-1)
    dt        step size of a token after the softplus, one per head or channel
    B, C      input and output directions of the state, of size d_state (N)
    D         skip from input to output
    nheads, headdim   heads H and channels per head P of Mamba-2; d_inner = H P
    tau       horizon 1 / (|A| E dt): tokens until a mode forgets to 1/e
    T         training length in tokens

Names are imported when first used: the command line's ``--help`` must not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .block import Block
    from .checkpoint import Checkpoint, bundled_models, open_checkpoint
    from .config import Config
    from .eigenvalues import Spectrum, spectrum, static_spectrum
    from .foreign.checkpoint import open_any
    from .foreign.forward import ForeignModel
    from .foreign.measures import foreign_spectrum, foreign_state_norms
    from .loading import load, read_texts
    from .model import Model
    from .norms import StateNorms, state_norms, table1
    from .scales import Factor, Scales, scaling
    from .traces import Trace, TraceRecorder

_HOME = {
    "Block": "block",
    "Checkpoint": "checkpoint",
    "Config": "config",
    "Factor": "scales",
    "ForeignModel": "foreign.forward",
    "Model": "model",
    "Scales": "scales",
    "Spectrum": "eigenvalues",
    "StateNorms": "norms",
    "Trace": "traces",
    "TraceRecorder": "traces",
    "bundled_models": "checkpoint",
    "foreign_spectrum": "foreign.measures",
    "foreign_state_norms": "foreign.measures",
    "load": "loading",
    "open_any": "foreign.checkpoint",
    "open_checkpoint": "checkpoint",
    "read_texts": "loading",
    "scaling": "scales",
    "spectrum": "eigenvalues",
    "state_norms": "norms",
    "static_spectrum": "eigenvalues",
    "table1": "norms",
}

__all__ = [
    "Block",
    "Checkpoint",
    "Config",
    "Factor",
    "ForeignModel",
    "Model",
    "Scales",
    "Spectrum",
    "StateNorms",
    "Trace",
    "TraceRecorder",
    "bundled_models",
    "foreign_spectrum",
    "foreign_state_norms",
    "load",
    "open_any",
    "open_checkpoint",
    "read_texts",
    "scaling",
    "spectrum",
    "state_norms",
    "static_spectrum",
    "table1",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
