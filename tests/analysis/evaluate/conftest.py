"""Small models for the tests of the evaluation."""

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[2] / "spectra" / "tiny.py")
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)


@pytest.fixture
def make_model():
    return tiny.tiny_model


@pytest.fixture
def make_config():
    return tiny.tiny_config
