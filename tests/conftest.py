"""Strict surroundings for every test: deterministic torch, no network, floating-point errors raised."""

import os
import signal
import socket

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
import pytest
import torch

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell starts background jobs so; tests of Ctrl-C need it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a test tried to open a network connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield
    torch.use_deterministic_algorithms(False)


def pytest_terminal_summary(terminalreporter):
    skipped = len(terminalreporter.stats.get("skipped", []))
    terminalreporter.write_line(
        f"skipped tests: {skipped}, each with its reason above" if skipped else "skipped tests: 0"
    )
