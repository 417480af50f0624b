"""Where a calibration starts: the spectrum's proposal, ones, random factors, a constant, or scales from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.model import Model
from mambascope.spectra.scales import Kind, Scales
from mambascope.spectra.tokens import Document

from ..proposal import propose_for
from ..runs import RunFolder
from ..study import token_counter
from .descent import LEAST
from .parameters import Floats, Parameters, Part, kinds_of, shape_of
from .plan import Plan
from .projection import projected_factors
from .windows import STARTS, generator

STARTS_BY_NAME = ("spectrum", "projected", "ones", "random[:LOW,HIGH]", "log-random:LOW,HIGH", "constant:S", "FILE")


@dataclass(frozen=True, slots=True)
class Start:
    """A point to start from."""

    name: str
    """How the start was asked for."""
    parameters: Parameters
    """What moves, and what it multiplies."""
    u: Floats
    """Multipliers at the start."""
    passes: float = 0.0
    """What it cost, in forward passes over one window of the target length."""


def name_of(start: str | Path | Scales) -> str:
    """Return what to call a start, whatever folder its file is in.

    Args:
        start: as in ``start_at``.

    Returns:
        The start's own word, or ``scales`` or ``file``.

    Raises:
        RefusedInputError: neither a known word nor a file.
    """
    if isinstance(start, Scales):
        return "scales"
    name, _, rest = str(start).partition(":")
    if name in {"spectrum", "projected", "ones"} and not rest:
        return name
    if name in {"random", "log-random", "constant"}:
        if rest or name != "random":
            _numbers(name, rest, 1 if name == "constant" else 2)
        return str(start)
    if not Path(start).is_file():
        raise RefusedInputError(f"--start {start}: expected {', '.join(STARTS_BY_NAME)}; there is no such file")
    return "file"


def _numbers(name: str, text: str, count: int) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(np.isfinite(numbers)) or numbers != sorted(numbers) or numbers[0] < 0:
        wanted = "one number above 0" if count == 1 else f"{count} ascending numbers, as in {name}:0.75,1"
        raise RefusedInputError(f"--start {name}:{text}: expected {wanted}")
    return numbers


def _from_scales(scales: Scales, kinds: Sequence[Kind], shapes: Sequence[tuple[int, ...]]) -> Parameters:
    """Take factors of the calibrated kinds as the base; what cannot be merged stays in front of the new factors."""
    present = {f.kind for f in scales.factors}
    commute = not ({"a", "a_power"} <= present | set(kinds))  # s |A| and |A|^s do not commute
    prefix, parts = scales, []
    for kind, shape in zip(kinds, shapes, strict=True):
        same = [f for f in prefix.factors if f.kind == kind]
        base: Tensor = torch.ones((), dtype=torch.float64)
        if commute and len(same) == 1 and same[0].onset_tokens == 0:
            base = same[0].values
            prefix = Scales(tuple(f for f in prefix.factors if f is not same[0]))
        parts.append(Part(kind, base, shape))
    return Parameters(tuple(parts), prefix)


def _random(name: str, rest: str, size: int, seed: int) -> Floats:
    low, high = _numbers(name, rest, 2) if rest or name != "random" else (0.0, 1.0)
    low, high = max(low, LEAST), max(high, LEAST)
    drawn = generator(seed, 0, STARTS).random(size)
    return low + (high - low) * drawn if name == "random" else np.exp(np.log(low) + np.log(high / low) * drawn)


def start_at(start: str | Path | Scales, model: Model, documents: Sequence[Document], plan: Plan) -> Start:
    """Make the point that a calibration starts from.

    Args:
        start: ``spectrum`` (the proposal, refined by multipliers), ``projected`` (the proposal reduced to the plan's
            kind and granularity), ``ones``, ``random`` (uniform on (0, 1); ``random:0.75,1``), ``log-random:1,4096``
            (log-uniform), ``constant:8``, scales, or the path of a file of them.
        model: a loaded model.
        documents: calibration documents, read for a proposal.
        plan: kind, granularity, lengths and seed.

    Returns:
        The start.

    Raises:
        RefusedInputError: an unknown start.
        ScaleError: scales that do not fit the model, or a kind without such a granularity.
    """
    kinds = kinds_of(plan.kind)
    shapes = [shape_of(k, plan.granularity, model.config, joint=len(kinds) > 1) for k in kinds]
    plain = _from_scales(Scales(), kinds, shapes)
    ones = np.ones(plain.size)
    if isinstance(start, Scales):
        return Start("scales", _from_scales(start.check(model.config), kinds, shapes), ones)
    called = name_of(start)
    name, _, rest = called.partition(":")
    if name == "ones":
        return Start(called, plain, ones)
    if name == "file":
        return Start(called, _from_scales(Scales.load(start).check(model.config), kinds, shapes), ones)
    if name == "constant":
        s = max(_numbers(name, rest, 1)[0], LEAST)
        return Start(called, plain, np.where([k == kinds[0] for k in plain.kinds], s, 1.0))
    if name not in {"spectrum", "projected"}:
        return Start(called, plain, _random(name, rest, plain.size, plan.seed))
    read: list[int] = []
    found = propose_for(model, documents, plan.train_length, plan.target_length, observers=[token_counter(read.append)])
    passes = sum(read) / plan.target_length
    if name == "spectrum":
        return Start(called, _from_scales(found.scales.check(model.config), kinds, shapes), ones, passes)
    others = [np.ones(int(np.prod(shape))) for shape in shapes[1:]]  # with a beside it, dt is left alone
    u = np.concatenate([projected_factors(found, kinds[0], shapes[0], plan.target_length), *others])
    return Start(called, plain, u, passes)


def begin(
    start: str | Path | Scales, model: Model, documents: Sequence[Document], plan: Plan, run: RunFolder | None
) -> Start:
    """Make a start, or read it from a run that has made it."""
    if run is None:
        return start_at(start, model, documents, plan)

    def made() -> dict[str, Any]:
        s = start_at(start, model, documents, plan)
        parts = [{"kind": p.kind, "base": p.base.tolist(), "shape": list(p.shape)} for p in s.parameters.parts]
        return {
            "name": s.name,
            "passes": s.passes,
            "prefix": s.parameters.prefix.to_dict(),
            "parts": parts,
            "u": s.u.tolist(),
        }

    kept = run.cell("start", made)
    parts = tuple(
        Part(p["kind"], torch.tensor(p["base"], dtype=torch.float64), tuple(p["shape"])) for p in kept["parts"]
    )
    parameters = Parameters(parts, Scales.from_dict(kept["prefix"]))
    return Start(kept["name"], parameters, np.array(kept["u"]), kept["passes"])
