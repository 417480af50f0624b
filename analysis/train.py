"""The one training loop: a recipe and texts in, a model out; stopped and resumed at will with the same result.

Every random draw is keyed by (seed, step), so a run that was killed and resumed takes the same steps.
Source of the initialisation: state-spaces/mamba (the mixers and ``_init_weights``), the law of A left to the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.mamba import Mamba
from mambascope.spectra.model import Model

from .atomic import replacing
from .recipe import Recipe

Corpus = Sequence[npt.NDArray[np.uint8]]

CHECKPOINT_EVERY = 100  # steps


@dataclass(frozen=True, slots=True)
class TrainStep:
    """One finished step."""

    step: int
    """Steps done so far."""
    bits: float
    """Training loss of the step in bits per token."""
    gradient_norm: float
    """L2 norm of the gradient before clipping."""


def initialise(model: Model, recipe: Recipe) -> None:
    """Draw all weights of a model in place, from the recipe's seed."""
    rng = torch.Generator().manual_seed(recipe.seed)

    def uniform(target: Tensor, low: float, high: float) -> None:
        with torch.no_grad():
            target.copy_(low + (high - low) * torch.rand(target.shape, generator=rng))

    with torch.no_grad():
        model.backbone.embedding.weight.copy_(0.02 * torch.randn(model.backbone.embedding.weight.shape, generator=rng))
    for layer in model.layers():
        mixer, law = layer.mixer, recipe.A_init
        for linear in (mixer.in_proj, mixer.out_proj):
            uniform(linear.weight, -1 / math.sqrt(linear.in_features), 1 / math.sqrt(linear.in_features))
        with torch.no_grad():
            mixer.out_proj.weight /= math.sqrt(recipe.n_layer)  # keeps the residual stream's size with depth
        bound = 1 / math.sqrt(mixer.conv1d.weight.shape[-1])
        uniform(mixer.conv1d.weight, -bound, bound)
        if mixer.conv1d.bias is not None:
            uniform(mixer.conv1d.bias, -bound, bound)
        if law.law == "log_uniform":
            uniform(mixer.A_log, math.log(law.low), math.log(law.high))
        else:
            uniform(mixer.A_log, law.low, law.high)
            with torch.no_grad():
                mixer.A_log.log_()
        if isinstance(mixer, Mamba):
            uniform(mixer.x_proj.weight, -1 / math.sqrt(recipe.d_model * 2), 1 / math.sqrt(recipe.d_model * 2))
            rank = mixer.dt_proj.in_features
            uniform(mixer.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        dt_bias = mixer.dt_proj.bias if isinstance(mixer, Mamba) else mixer.dt_bias
        uniform(dt_bias, math.log(recipe.dt_low), math.log(recipe.dt_high))
        with torch.no_grad():
            dt = dt_bias.exp()
            dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus


def _optimiser(model: Model, recipe: Recipe) -> torch.optim.AdamW:
    plain = ("A_log", "dt_bias", "D", "bias", "norm.weight", "norm_f.weight")
    decayed = [p for n, p in model.named_parameters() if not n.endswith(plain)]
    kept = [p for n, p in model.named_parameters() if n.endswith(plain)]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2))


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine to a tenth of the peak."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


def batch_of(corpus: Corpus, recipe: Recipe, step: int) -> Tensor:
    """Draw the windows of one step, (batch, train_length + 1); a text is chosen in proportion to its length."""
    rng = np.random.Generator(np.random.Philox(key=[recipe.seed, step]))
    room = np.array([len(text) - recipe.train_length for text in corpus])
    starts = rng.integers(0, room.sum(), size=recipe.batch)
    which = np.searchsorted(np.cumsum(room), starts, side="right")
    first = starts - (np.cumsum(room) - room)[which]
    rows = [corpus[i][s : s + recipe.train_length + 1] for i, s in zip(which, first, strict=True)]
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def _save(path: Path, model: Model, optimiser: torch.optim.AdamW, step: int) -> None:
    tensors = {f"model.{n}": p.detach() for n, p in model.named_parameters()}
    for n, p in model.named_parameters():
        state = optimiser.state[p]
        tensors |= {f"exp_avg.{n}": state["exp_avg"], f"exp_avg_sq.{n}": state["exp_avg_sq"]}
    with replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"step": str(step)})


def _restore(path: Path, model: Model, optimiser: torch.optim.AdamW) -> int:
    with safetensors.safe_open(path, framework="pt") as file:
        step = int(file.metadata()["step"])
        with torch.no_grad():
            for n, p in model.named_parameters():
                p.copy_(file.get_tensor(f"model.{n}"))
                optimiser.state[p] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": file.get_tensor(f"exp_avg.{n}"),
                    "exp_avg_sq": file.get_tensor(f"exp_avg_sq.{n}"),
                }
    return step


def train(model: Model, recipe: Recipe, corpus: Corpus, folder: Path) -> Iterator[TrainStep]:
    """Train a model in place, from the folder's checkpoint if it has one.

    Args:
        model: made from ``recipe.config()``; its weights are overwritten.
        recipe: what to do.
        corpus: texts as token ids, each longer than the training length.
        folder: holds ``training.safetensors``, the state to resume from.

    Yields:
        Each step once it is done; a step that the caller has seen may be repeated after a crash, with the same result.

    Raises:
        RefusedInputError: no text is long enough.
    """
    corpus = [text for text in corpus if len(text) > recipe.train_length]
    if not corpus:
        raise RefusedInputError(f"no text is longer than the training length of {recipe.train_length} tokens")
    initialise(model, recipe)
    optimiser = _optimiser(model, recipe)
    checkpoint = folder / "training.safetensors"
    first = _restore(checkpoint, model, optimiser) if checkpoint.exists() else 0
    for step in range(first, recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step)
        tokens = batch_of(corpus, recipe, step)
        logits = model(tokens[:, :-1]).logits()
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimiser.step()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == recipe.steps:
            _save(checkpoint, model, optimiser, step + 1)
        yield TrainStep(step + 1, float(loss.detach()) / math.log(2), float(norm))
