"""Models of which mambascope has no forward of its own, and models that have no spectrum: what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..tensor_source import told

WORKS = (
    "what works on it: `mambascope spectrum` (from its A_log), `mambascope norms` and `spectrum --text` (transformers "
    "runs the model and is watched), `mambascope propose` (likewise), "
    "`mambascope bake` (a and a_power; dt where the layers are Mamba-1)"
)


class ForeignModelError(CheckpointError):
    """A model with Mamba layers whose forward is not among ours; its spectrum can be read all the same."""


class NoStaticSpectrumError(CheckpointError):
    """A model whose A depends on the token, so that exp(-|A|) is no property of the weights."""


def refuse_mamba3(raw: Mapping[str, Any], path: Path) -> None:
    """Refuse a Mamba-3, by either library's words for it.

    Source: state-spaces/mamba, modules/mamba3.py: A = -softplus(dd_A) in release 2.3.2, another function of the same
    weights later.

    Args:
        raw: the config.json.
        path: where it is, for the message.

    Raises:
        NoStaticSpectrumError: it is one.
    """
    ssm = raw.get("ssm_cfg")
    named = [raw.get("model_type"), ssm.get("layer") if isinstance(ssm, Mapping) else None]
    if any(isinstance(name, str) and name.lower().replace("-", "") == "mamba3" for name in named):
        raise NoStaticSpectrumError(
            told(
                path,
                "architecture",
                "a model with A_log, whose A is the same for every token",
                "Mamba3",
                "there A_t = -f(dd_A) is computed from each token, with another f in later releases for the same "
                "weights, so there is no static spectrum; what there is, the distribution over a text of the decays "
                "exp(A_t dt_t) and of their rotations, needs a forward that mambascope does not have yet",
            )
        )
