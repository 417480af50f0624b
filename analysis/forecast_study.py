"""The models of the forecast's study, each trained in a run folder of its own, so that a stopped study goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from .recipe import Recipe
from .runs import InputFile, RunFolder
from .train import read_corpus, train_in_folder


def planned_training_tokens(recipes: Sequence[Recipe]) -> int:
    """Return how many tokens the trainings read."""
    return sum(recipe.steps * recipe.batch * recipe.train_length for recipe in recipes)


def train_models(
    recipes: Sequence[Recipe], paths: Sequence[Path], folder: Path, tick: Callable[[int], None] = lambda _: None
) -> list[Path]:
    """Train models that are not there yet, on one thread.

    Args:
        recipes: one a model.
        paths: texts to train on.
        folder: each model gets the run folder ``<folder>/<name>``.
        tick: called with the tokens of each step.

    Returns:
        Folders of the models.
    """
    torch.set_num_threads(1)  # the same bytes on any machine size
    corpus = read_corpus(paths, recipes)
    inputs = [InputFile.of("text", path) for path in paths]
    for recipe in recipes:
        command = {"verb": "train", "recipe": recipe.to_dict()}
        with RunFolder.open(folder / recipe.name, command=command, seed=recipe.seed, inputs=inputs, threads=1) as run:
            if (run.folder / "model" / "recipe.json").is_file():  # the last file that a training writes
                tick(planned_training_tokens([recipe]))
            else:
                train_in_folder(recipe, corpus, run, tick)
    return [folder / recipe.name / "model" for recipe in recipes]
