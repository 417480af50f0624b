"""Laws as they are written on the command line: ``uniform:0,0.9``, ``gamma:0.5,0.1``, ``model:mamba2-tiny/1``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mambascope.simulate.laws import Beta, EigenvalueLaw, Listed, LogUniform, Uniform
from mambascope.simulate.step_laws import Constant, Markov, SoftplusNormal, StepLaw, Trace
from mambascope.simulate.step_transforms import Gamma
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.hints import nearest

EIGENVALUE_LAWS = {
    "uniform": "uniform:LOW,HIGH (a HIGH near 1 is written 1-1e-8)",
    "beta": "beta:A,B,LOW,HIGH (a HIGH near 1 is written 1-1e-8)",
    "loguniform": "loguniform:LOW,HIGH (of rates)",
    "point": "point:L, 0 < L <= 1 (near 1: 1-1e-8)",
    "twopoint": "twopoint:L1,L2 or twopoint:L1,L2,PROBABILITY_OF_L1",
    "model": "model:NAME or model:NAME/LAYER (the rates of a checkpoint)",
}
STEP_LAWS = {
    "constant": "constant:DT",
    "gamma": "gamma:SHAPE,SCALE",
    "softplus": "softplus:MU,SIGMA",
    "markov": "markov:DT1,DT2/P11,P12/P21,P22",
    "trace": "trace:FILE.npy (recorded steps, one row a document)",
}


def _distance(text: str) -> float:
    """Return 1 - value of a decay, without rounding where it is written as 1-EPS."""
    return float(text[2:]) if text.startswith("1-") else 1 - float(text)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def eigenvalue_law(text: str, step: float = 1.0) -> EigenvalueLaw:
    """Read an eigenvalue law.

    Args:
        text: such as ``uniform:0,0.9``.
        step: step size at which decays are stated.

    Returns:
        The law.

    Raises:
        RefusedInputError: it is not one, or its numbers make no sense.
    """
    kinds: dict[str, Callable[[str], EigenvalueLaw]] = {
        "uniform": lambda rest: _uniform(rest, step),
        "beta": lambda rest: _beta(rest, step),
        "loguniform": lambda rest: LogUniform(*_some(rest, 2)),
        "point": lambda rest: Listed((_rate(rest, step),)),
        "twopoint": lambda rest: _two_point(rest, step),
        "model": _rates_of_model,
    }
    return _read(text, kinds, EIGENVALUE_LAWS)  # type: ignore[no-any-return]


def _some(text: str, count: int) -> list[float]:
    numbers = _numbers(text)
    if len(numbers) != count:
        raise ValueError(f"{len(numbers)} numbers, expected {count}")
    return numbers


def _rate(text: str, step: float) -> float:
    distance = _distance(text)
    if not 0 <= distance < 1:
        raise ValueError(f"decay {text}: expected above 0 and at most 1")
    return float(-np.log1p(-distance) / step)


def _uniform(text: str, step: float) -> Uniform:
    low, _, high = text.partition(",")
    return Uniform(float(low), _distance(high), step)


def _two_point(text: str, step: float) -> Listed:
    parts = text.split(",")
    if len(parts) not in {2, 3}:
        raise ValueError(f"{len(parts)} numbers, expected 2 or 3")
    weight = float(parts[2]) if len(parts) == 3 else 0.5
    return Listed((_rate(parts[0], step), _rate(parts[1], step)), (weight, 1 - weight))


def _beta(text: str, step: float) -> Beta:
    *numbers, high = text.split(",")
    a, b, low = map(float, numbers)
    return Beta(a, b, low, _distance(high), step)


def _rates_of_model(text: str) -> EigenvalueLaw:
    from mambascope.spectra.checkpoint import open_checkpoint
    from mambascope.spectra.eigenvalues import static_spectrum

    name, slash, layer = text.rpartition("/")
    whole = not slash or not layer.isdecimal()
    rates = static_spectrum(open_checkpoint(text if whole else name)).rates
    if not whole and int(layer) >= len(rates):
        raise RefusedInputError(f"model:{text}: layer {layer} of {len(rates)}; layers count from 0")
    chosen = rates if whole else [rates[int(layer)]]
    return Listed(tuple(float(rate) for layer_rates in chosen for rate in layer_rates.ravel()))


def step_law(text: str) -> StepLaw:
    """Read a step law.

    Args:
        text: such as ``gamma:0.5,0.1``.

    Returns:
        The law.

    Raises:
        RefusedInputError: it is not one, or its numbers make no sense.
    """
    kinds: dict[str, Callable[[str], StepLaw]] = {
        "constant": lambda rest: Constant(*_some(rest, 1)),
        "gamma": lambda rest: Gamma(*_some(rest, 2)),
        "softplus": lambda rest: SoftplusNormal(*_some(rest, 2)),
        "markov": _markov,
        "trace": _trace,
    }
    return _read(text, kinds, STEP_LAWS)  # type: ignore[no-any-return]


def _markov(text: str) -> Markov:
    values, *rows = (tuple(_numbers(part)) for part in text.split("/"))
    return Markov(values, tuple(rows))


def _trace(text: str) -> Trace:
    try:
        array = np.load(Path(text), allow_pickle=False)
    except Exception as problem:  # a hostile header fails in ways that numpy does not name
        raise RefusedInputError(f"{text}: cannot be read as a .npy file of step sizes ({problem})") from problem
    if not isinstance(array, np.ndarray):
        raise RefusedInputError(f"{text}: holds several arrays; give one as .npy")
    if array.ndim not in {1, 2} or array.dtype.kind not in "fiu" or not array.size:
        raise RefusedInputError(f"{text}: expected numbers of shape (steps,) or (documents, steps), got {array.shape}")
    rows = np.atleast_2d(array).astype(np.float64)
    if not np.isfinite(rows).all() or (rows < 0).any():
        raise RefusedInputError(f"{text}: step sizes must be finite and at least 0")
    return Trace(tuple(map(tuple, rows.tolist())))


def law_files(eigenvalues: str, steps: str) -> list[Path]:
    """Return the files that laws are read from.

    Args:
        eigenvalues: an eigenvalue law as it was written; the law itself was read before.
        steps: a step law.

    Returns:
        A checkpoint's files, and a recording.
    """
    files: list[Path] = []
    if eigenvalues.startswith("model:"):
        from mambascope.spectra.checkpoint import open_checkpoint

        name, slash, layer = eigenvalues[6:].rpartition("/")
        files += open_checkpoint(name if slash and layer.isdecimal() else eigenvalues[6:]).files
    return files + ([Path(steps[6:])] if steps.startswith("trace:") else [])


def _read(text: str, kinds: dict[str, Callable[[str], Any]], known: dict[str, str]) -> Any:
    name, _, rest = text.partition(":")
    if name not in kinds:
        hint = nearest(name, kinds)
        expected = f"{hint} Expected" if hint else "expected"
        raise RefusedInputError(f"law {text[:80]!r}: {expected} one of: {'; '.join(known.values())}")
    try:
        return kinds[name](rest)
    except (TypeError, ValueError, IndexError, OSError) as problem:
        raise RefusedInputError(f"law {text[:80]!r}: {problem}; write {known[name]}") from problem
