"""The typed errors of mambascope, each with the exit code that the command line gives for it.

Every message says what was wrong, where (file, tensor or line), what was expected, and what to do.
"""

from __future__ import annotations


class MambascopeError(Exception):
    """Base of all errors that are meant for a person.

    Attributes:
        exit_code: what the command line exits with: 3 refused input, 4 numerical failure, 5 out of resources.
    """

    exit_code: int = 3


def is_lack_of_memory(problem: BaseException) -> bool:
    """Return True for Python's own error, and for torch's, which are plain ``RuntimeError`` on a CPU."""
    told = str(problem)
    words = "out of memory" in told.lower() or "can't allocate memory" in told
    return isinstance(problem, MemoryError) or (isinstance(problem, RuntimeError) and words)


class RefusedInputError(MambascopeError):
    """An input that cannot be used as it is: a path, an option, a length, a model name."""


class UnknownModelError(RefusedInputError):
    """The model name is neither bundled, nor a folder, nor reachable as a hub id."""


class CheckpointError(RefusedInputError):
    """A checkpoint's files are missing, broken, or contradict each other."""


class UnsafeCheckpointError(CheckpointError):
    """Reading the file could run code or exhaust the machine; it was not read."""


class TextError(RefusedInputError):
    """A text or token file is empty, too short, not text, or does not fit the model's vocabulary."""


class ScaleError(RefusedInputError):
    """Scaling factors that do not fit the model, or a combination that has no meaning."""


class ShapeError(RefusedInputError):
    """A tensor whose shape does not fit the model or the other tensors; nothing was computed."""


class DerivativeError(MambascopeError):
    """A derivative that the engine in use does not have."""


class NonFiniteStateError(MambascopeError):
    """A state or a logit became NaN or infinite during a run.

    Attributes:
        layer: index of the first layer that showed it.
        position: first token position of the block in which it showed.
    """

    exit_code = 4

    def __init__(self, layer: int, position: int) -> None:
        super().__init__(
            f"layer {layer}: the state or the output became NaN or infinite in the block from token {position} on; "
            "the dtype may be too narrow (try --dtype float32 or float64), scaling factors too extreme, "
            "or the checkpoint damaged"
        )
        self.layer = layer
        self.position = position
