"""The one training loop: a recipe and texts in, a model out; stopped and resumed at will with the same result.

Every random draw is keyed by (seed, step), so a run that was killed and resumed takes the same steps.
Source of the initialisation: state-spaces/mamba (the mixers and ``_init_weights``), the law of A left to the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mambascope.spectra.checkpoint import save_checkpoint
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.loading import CARD
from mambascope.spectra.mamba import Mamba
from mambascope.spectra.model import Model
from mambascope.spectra.tokens import byte_level_tokenizer, encode_bytes, read_document

from .atomic import write_json
from .passkey.task import PasskeyTask
from .passkey.training import Forgetting, passkey_rows
from .recipe import Recipe
from .replayed_step import ReplayedStep
from .runs import RunFolder
from .states import StateError, read_state, write_state

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
    digit_bits: float | None = None
    """Loss on the digits of pass keys that can be known, in bits per digit, where the recipe has some."""


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


def _optimisers(model: Model, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers if the recipe asks for it, AdamW for everything else that moves."""
    plain = ("A_log", "dt_bias", "D", "bias", "norm.weight", "norm_f.weight")
    moving = {n: p for n, p in model.named_parameters() if p.requires_grad}
    muon = {n for n, p in moving.items() if recipe.muon and p.dim() == 2 and n.endswith("proj.weight")}
    matrices = [p for n, p in moving.items() if n in muon]
    decayed = [p for n, p in moving.items() if n not in muon and not n.endswith(plain)]
    kept = [p for n, p in moving.items() if n.endswith(plain)]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=(recipe.beta1, recipe.beta2))]
    if matrices:
        made.append(torch.optim.Muon(matrices, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"))
    return made


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


def read_corpus(paths: Sequence[Path], recipes: Sequence[Recipe]) -> Corpus:
    """Read texts to train byte-level models on.

    Args:
        paths: texts, or files of ids below 256.
        recipes: trainings, each of which needs a text that is longer than its windows.

    Returns:
        The bytes of each.

    Raises:
        RefusedInputError: a file is no text, or none is long enough.
    """
    corpus = [document.ids for path in paths for document in read_document(path, encode_bytes, 256)]
    needed = max(stage.train_length for recipe in recipes for stage in recipe.stages())
    longest = max(len(text) for text in corpus)
    if longest <= needed:
        raise RefusedInputError(
            f"no text is longer than the training length of {needed} tokens (the longest has {longest} bytes); give "
            "longer texts"
        )
    return [text.astype(np.uint8, copy=False) for text in corpus]


def train_in_folder(
    recipe: Recipe,
    corpus: Corpus,
    run: RunFolder,
    tick: Callable[[int], None],
    device: torch.device | str = "cpu",
) -> float:
    """Train a model inside a run folder and store it there as ``model/``.

    Args:
        recipe: what to do.
        corpus: texts as bytes.
        run: journals every step; ``training.safetensors`` in it is the state to resume from.
        tick: called with the tokens of each step.
        device: where the model is while it is trained.

    Returns:
        Mean training loss over the last 100 steps, in bits per token.
    """
    model = Model(recipe.config(), name=recipe.name, train_length=recipe.train_length).to(device)
    for name in state_files(recipe):
        run.output(name)
    per_step = [stage.batch * stage.train_length for stage in recipe.stages() for _ in range(stage.steps)]
    for step in train(model, recipe, corpus, run.folder):
        if ("step", str(step.step)) not in run.journal:
            digits = [] if step.digit_bits is None else [step.digit_bits]
            run.journal.append("step", str(step.step), [step.bits, step.gradient_norm, *digits])
        tick(per_step[step.step - 1])
    last = [entry.value[0] for entry in run.journal if entry.kind == "step"][-100:]
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", CARD, "recipe.json"):
        run.output(f"model/{name}")
    save_trained(model, recipe, run.folder / "model")
    return float(np.mean(last))


def save_trained(model: Model, recipe: Recipe, folder: Path) -> None:
    """Write a trained model as an ordinary checkpoint, with tokenizer, card and recipe beside it."""
    save_checkpoint(
        folder,
        recipe.config(),
        {name: value.cpu() for name, value in model.state_dict().items() if name != "lm_head.weight"},
        "transformers",
        tokenizer_json=byte_level_tokenizer(),
        eos_id=recipe.tokens_in_vocab - 1,
    )
    write_json(folder / CARD, {"format": 1, "name": recipe.name, "train_length": recipe.train_length})
    write_json(folder / "recipe.json", recipe.to_dict())


def _save(path: Path, model: Model, optimisers: Sequence[torch.optim.Optimizer], step: int) -> None:
    tensors = {f"model/{n}": p.detach() for n, p in model.named_parameters()}
    for optimiser in optimisers:
        for n, p in model.named_parameters():
            tensors |= {f"{key}/{n}": value for key, value in optimiser.state.get(p, {}).items()}
    write_state(path, {name: value.cpu().numpy() for name, value in tensors.items()}, {"step": str(step)})


def _restore(path: Path, model: Model, optimisers: Sequence[torch.optim.Optimizer]) -> int:
    owner = {p: optimiser for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    arrays, about = read_state(path)

    def put(name: str, value: Tensor) -> None:
        key, _, of = name.partition("/")
        p = parameters[of]
        if key == "model":
            p.detach().copy_(value)
        else:
            owner[p].state[p][key] = value if key == "step" else value.to(p.device)

    try:
        for name, array in arrays.items():
            put(name, torch.from_numpy(array))
        return int(about["step"])
    except (LookupError, ValueError, RuntimeError) as error:
        raise StateError(path, error) from error


def train(model: Model, recipe: Recipe, corpus: Corpus, folder: Path) -> Iterator[TrainStep]:
    """Train a model in place, from the folder's checkpoint if it has one.

    Args:
        model: made from ``recipe.config()``, on any device; its weights are overwritten.
        recipe: what to do; the stages that it begins with come first.
        corpus: texts as token ids, each longer than the training length.
        folder: holds ``training.safetensors``, the state to resume from, or that of each stage (``state_files``).

    Yields:
        Each step once it is done, counted through all stages; a step that the caller has seen may be repeated after a
        crash, with the same result.

    Raises:
        RefusedInputError: no text is long enough.
    """
    stages, done = recipe.stages(), 0
    initialise(model, stages[0])
    for stage, name in zip(stages, state_files(recipe), strict=True):
        for step in _train_stage(model, stage, corpus, folder / name):
            yield replace(step, step=done + step.step)
        done += stage.steps


def state_files(recipe: Recipe) -> list[str]:
    """Return the names of the files that a training resumes from, one a stage, the last one's without a number."""
    before = [f"training-{k}.safetensors" for k in range(1, len(recipe.stages()))]
    return [*before, "training.safetensors"]


def _train_stage(model: Model, recipe: Recipe, corpus: Corpus, checkpoint: Path) -> Iterator[TrainStep]:
    """Take the steps of one stage that its file lacks, from the weights that the model has."""
    corpus = [text for text in corpus if len(text) > recipe.train_length]
    if not corpus:
        raise RefusedInputError(f"no text is longer than the training length of {recipe.train_length} tokens")
    for layer in model.layers():
        layer.mixer.A_log.requires_grad_(recipe.A_init.trained)
    optimisers = _optimisers(model, recipe)
    task = PasskeyTask.of_texts((text.tobytes() for text in corpus), encode_bytes) if recipe.passkey else None
    first = _restore(checkpoint, model, optimisers) if checkpoint.exists() else 0
    if first == recipe.steps:
        return
    parameters = [p for p in model.parameters() if p.requires_grad]

    def gradients(tokens: Tensor, known: Tensor, *forgets: Tensor) -> Tensor:
        logits = model(tokens[:, :-1], intervention=Forgetting(*forgets) if forgets else None).logits()
        told, loss = _losses(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), recipe, known[:, 1:].flatten())
        torch.autograd.backward(loss)
        return told

    run = ReplayedStep(gradients, parameters) if model.device.type == "cuda" else gradients
    ahead = _batch(corpus, task, recipe, first)
    for step in range(first, recipe.steps):
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = learning_rate(recipe, step)
        if run is gradients:
            model.zero_grad(set_to_none=True)
        told = run(*ahead)
        norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
        for optimiser in optimisers:
            optimiser.step()
        if step + 1 < recipe.steps:
            ahead = _batch(corpus, task, recipe, step + 1)  # while a GPU is at work
        bits, digit_bits = (told.double() / math.log(2)).tolist()
        yield TrainStep(step + 1, bits, float(norm), None if task is None else digit_bits)
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == recipe.steps:  # behind what the caller writes of the step
            _save(checkpoint, model, optimisers, step + 1)


def _batch(corpus: Corpus, task: PasskeyTask | None, recipe: Recipe, step: int) -> tuple[Tensor, ...]:
    """Draw a step's tokens, where a digit stands that can be known, and what is forgotten where, if anything is."""
    tokens = batch_of(corpus, recipe, step)
    known = torch.zeros(tokens.shape, dtype=torch.bool)
    if task is None or recipe.passkey is None:
        return tokens, known
    rows = max(1, round(recipe.passkey.share * recipe.batch))
    rng = np.random.Generator(np.random.Philox(key=[recipe.seed, step], counter=[0, 0, 0, 1]))  # not the windows'
    drawn = passkey_rows(task, recipe.passkey, rng, step, (rows, tokens.shape[1]))
    tokens[-rows:], known[-rows:] = drawn.ids, drawn.known  # in place of the last windows
    if recipe.passkey.least_kept == 1:
        return tokens, known
    forgets = torch.zeros(recipe.batch, recipe.train_length)
    forgets[-rows:] = drawn.forgets[:, :-1]
    return tokens, known, forgets


def _losses(logits: Tensor, targets: Tensor, recipe: Recipe, digits: Tensor) -> tuple[Tensor, Tensor]:
    """Return nats per token and per digit that can be known, (2,), and what is minimised."""
    if recipe.passkey is None:
        loss = F.cross_entropy(logits, targets)
        return loss.detach().expand(2), loss
    each = F.cross_entropy(logits, targets, reduction="none")
    nats, weights = each.detach(), 1 + (recipe.passkey.digit_weight - 1) * digits
    return torch.stack([nats.mean(), (nats * digits).sum() / digits.sum()]), (each * weights).mean()
