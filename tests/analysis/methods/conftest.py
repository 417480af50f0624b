"""A small model, random texts, and a task for the tests of the methods."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.methods import Task
from mambascope.analysis.study import Texts
from mambascope.spectra.tokens import Document

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[2] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)


def task_of(arch="mamba2", lengths=(16, 64, 128), tokens=300, **changes):
    rng = np.random.default_rng(0)
    sets = ([Document(f"{role}{k}", rng.integers(0, 50, tokens)) for k in range(2)] for role in range(3))
    usual = {"train_length": 16, "lengths": lengths, "fit_length": 32, "steps": 1}
    return Task(tiny.tiny_model(arch), Texts(*map(tuple, sets)), **(usual | changes))


@pytest.fixture
def make_task():
    return task_of
