"""Small models and texts for the tests of the calibrator."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mambascope.analysis.calibration.plan import make_plan
from mambascope.analysis.study import Texts
from mambascope.spectra.tokens import Document

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[2] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

T, L = 16, 64


def plan_with(**changes):
    usual = {"kind": "a", "granularity": "head", "start": "ones", "method": "spsa", "seed": 0}
    return make_plan(**({"train_length": T, "target_length": L} | usual | changes))


def texts_of(seed=0, length=2000, documents=2):
    """Random ids, every document another one."""
    rng = np.random.default_rng(seed)
    sets = ([Document(f"{role}{k}", rng.integers(0, 50, length)) for k in range(documents)] for role in range(3))
    return Texts(*map(tuple, sets))


@pytest.fixture
def make_model():
    return tiny.tiny_model


@pytest.fixture
def make_plan_with():
    return plan_with


@pytest.fixture
def make_texts():
    return texts_of
