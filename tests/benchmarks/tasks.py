"""What our model is asked to do, one function a measurement."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mambascope.analysis.calibration.backprop import loss_and_gradient
from mambascope.analysis.texts import token_counter
from mambascope.spectra.mode_statistics import ModeStatistics
from mambascope.spectra.norms import StateNormObserver, state_norms
from mambascope.spectra.scales import Scales, scaling


@dataclass(frozen=True)
class Task:
    run: Callable[[], object]
    amount: float
    """What one run gets through, in ``unit``."""
    unit: str = "tokens"
    passed: Callable[[], dict[str, float]] = dict
    """What was noted while it ran."""


def lengths_of(length):
    """The lengths that ``mambascope norms`` reads a state at if none are asked for, and the whole text."""
    return sorted({n for n in (2**k for k in range(8, 17)) if n <= length} | {length})


def forward(model, ids):
    """Logits of every token, block by block."""

    def run():
        for block in model.stream(ids):
            block.logits()

    return Task(torch.no_grad()(run), ids.shape[1])


def observed(model, ids):
    """The same with the observers of ``mambascope norms``."""

    def run():
        observers = [StateNormObserver(lengths_of(ids.shape[1])), token_counter(lambda tokens: None)]
        for block in model.stream(ids, observers=observers):
            block.logits()
        return observers[0].result()

    return Task(torch.no_grad()(run), ids.shape[1])


def scaled(model, ids):
    """The same with a factor on A and one on dt for every layer and head (or channel)."""
    factors = torch.full((model.config.n_layer, model.config.dt_width), 0.9)
    scales = Scales((*scaling("a", factors).factors, *scaling("dt", factors).factors))

    def run():
        for block in model.stream(ids, intervention=scales):
            block.logits()

    return Task(torch.no_grad()(run), ids.shape[1])


def decays(model, ids):
    """The same with the observer that measures every mode's decays."""

    def run():
        for block in model.stream(ids, observers=[ModeStatistics()]):
            block.logits()

    return Task(torch.no_grad()(run), ids.shape[1])


def norms(model, ids):
    """State norms by length, as ``mambascope norms`` has them: no logits."""
    length = ids.shape[1]

    def run():
        found = state_norms(model, ids, lengths_of(length), observers=[token_counter(lambda tokens: None)])
        assert found.lengths_tokens[-1] == length  # the whole text was read
        return found

    return Task(run, length)


def long_norms(model, ids, at, peak_mb):
    """The same, and the memory's peak once ``at`` tokens have passed."""
    count, noted = 0, {}

    def tick(tokens):
        nonlocal count
        count += tokens
        if count >= at and not noted:
            noted["peak_on_the_way_mb"] = peak_mb()

    def run():
        return state_norms(model, ids, lengths_of(ids.shape[1]), observers=[token_counter(tick)])

    return Task(run, ids.shape[1], passed=lambda: noted)


def gradient(model, ids_and_next):
    """Loss and its gradient with respect to a factor for every layer and head (or channel)."""
    config = model.config
    factors = torch.ones(config.n_layer, config.dt_width, dtype=torch.float64)

    def run():
        return loss_and_gradient(model, ids_and_next, [factors], lambda values: scaling("a", values[0]))

    return Task(run, ids_and_next.shape[1] - 1)
