"""What fixes a trained model: shape, initialisation, data and optimiser; read from JSON, strictly.

Every bundled model has its recipe beside its weights, so that ``mambascope train NAME`` makes it again.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import msgspec

from mambascope.spectra.config import Config
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.hints import nearest
from mambascope.spectra.zoo import FOLDER

from .passkey.recipe import PasskeyShare


class RateInit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the rates |A| are drawn: ``uniform`` or ``log_uniform`` on [low, high], one for each entry of A_log."""

    law: Literal["uniform", "log_uniform"]
    low: float
    high: float
    trained: bool = True
    """False: rates stay as drawn, so that a head can keep what it wrote only by taking small steps dt, which write
    little as well; a rate that may fall to nothing keeps the noise with the key."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a training run depends on, besides the bytes of its texts."""

    name: str
    arch: Literal["mamba", "mamba2"]
    d_model: int
    n_layer: int
    d_state: int
    A_init: RateInit
    why: str
    """Why this initialisation and length of training, in words."""
    headdim: int = 32
    vocab_size: int = 264
    """256 bytes, one end-of-text id, padded to a multiple of 8."""
    tokens_in_vocab: int = 257
    dt_low: float = 1e-3
    dt_high: float = 0.1
    """Step sizes start log-uniform on [dt_low, dt_high]. Default: Gu and Dao 2023, section 3.6."""
    dt_floor: float = 0.0
    """Mamba-2: least step size that a token can take, the lower end of ``dt_limit``."""
    train_length: int = 256
    batch: int = 16
    steps: int = 3000
    learning_rate: float = 3e-3
    """Peak of the learning rate: linear warm-up, then half a cosine to a tenth."""
    muon: bool = False
    """Matrices inside the layers are trained by Muon (Jordan et al. 2024), the rest by AdamW."""
    warmup: int = 100
    weight_decay: float = 0.1
    """Not applied to A_log, dt_bias, D, norms and biases."""
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    """Largest norm of the gradient."""
    seed: int = 0
    passkey: PasskeyShare | None = None
    """The part of each batch that is passkey sequences, for a model that is to recall; None for text alone."""
    begins_with: Recipe | None = None
    """An earlier training, whose weights this one starts from; None for weights drawn at random."""

    def __post_init__(self) -> None:
        """Refuse numbers that make no training.

        Raises:
            ValueError: a size below 1, or an empty range; msgspec turns it into its own error when it reads a file.
        """
        for name in ("d_model", "n_layer", "d_state", "headdim", "batch", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.train_length < 2 or not 0 < self.dt_low <= self.dt_high or not 0 < self.A_init.low <= self.A_init.high:
            raise ValueError("train_length must be at least 2, and ranges positive and ascending")
        if self.dt_floor < 0 or (self.dt_floor and self.arch == "mamba"):
            raise ValueError("dt_floor must be 0 or more, and 0 for Mamba-1, which knows none")
        if self.arch == "mamba" and self.passkey is not None and self.passkey.least_kept < 1:
            raise ValueError("passkey.least_kept is for Mamba-2, whose heads have one rate each")
        if self.begins_with is not None and self.begins_with.config() != self.config():
            raise ValueError("begins_with must be the recipe of a model of the same shape")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; what a recipe does not have, such as passkey sequences, it does not name."""
        values = dict(msgspec.to_builtins(self))
        for name in ("passkey", "dt_floor", "begins_with"):
            if not values[name]:
                del values[name]
        return values if self.begins_with is None else values | {"begins_with": self.begins_with.to_dict()}

    def stages(self) -> list[Recipe]:
        """Return the trainings that make the model, this one last."""
        return [*([] if self.begins_with is None else self.begins_with.stages()), self]

    def tokens_seen(self) -> int:
        """Return the tokens of all steps of all stages."""
        return sum(stage.steps * stage.batch * stage.train_length for stage in self.stages())

    def config(self) -> Config:
        """Return the model's shape."""
        return Config(
            arch=self.arch,
            d_model=self.d_model,
            n_layer=self.n_layer,
            vocab_size=self.vocab_size,
            d_inner=2 * self.d_model,
            d_state=self.d_state,
            dt_rank=-(-self.d_model // 16) if self.arch == "mamba" else 0,
            headdim=self.headdim,
            tokens_in_vocab=self.tokens_in_vocab,
            dt_limit=(self.dt_floor, math.inf),
        )


def read_recipe(name_or_path: str | Path, *, steps: int | None = None) -> Recipe:
    """Read a recipe.

    Args:
        name_or_path: a bundled model's name, or a JSON file.
        steps: overrides the recipe's steps, those of its last stage.

    Returns:
        The recipe.

    Raises:
        RefusedInputError: no such recipe, or not one.
    """
    bundled = FOLDER / str(name_or_path) / "recipe.json"
    path = bundled if bundled.is_file() else Path(name_or_path)
    try:
        recipe = msgspec.json.decode(path.read_bytes(), type=Recipe)
    except OSError as error:
        bundled_names = sorted(each.parent.name for each in FOLDER.glob("*/recipe.json"))
        hint = nearest(str(name_or_path), bundled_names) or f"bundled are {', '.join(bundled_names)}"
        raise RefusedInputError(f"{path}: neither a bundled model nor a readable recipe.json; {hint}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedInputError(f"{path}: not a recipe: {error}") from error
    if steps is not None and steps < 1:
        raise RefusedInputError(f"--steps {steps}: expected at least 1")
    return recipe if steps is None else msgspec.structs.replace(recipe, steps=steps)
