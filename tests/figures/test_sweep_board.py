"""Test ``mambascope.figures.sweep_board``: what a person sees of a sweep while it runs."""

import fcntl
import io
import os
import pty
import select
import struct
import termios
from dataclasses import replace

import pytest

from mambascope.analysis.engine_each import Failure
from mambascope.analysis.sweep import Event
from mambascope.analysis.sweep_cells import Cell
from mambascope.figures.sweep_board import Board


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns and 24 lines, and a function that reads what stands in it."""
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def read():
        found = b""
        while select.select([ours], [], [], 0.5)[0]:
            found += os.read(ours, 4096)
        return found.decode().replace("\r\n", "\n")

    with open(theirs, "w") as stream:
        yield stream, read
    os.close(ours)


CELLS = [
    Cell(n, "perplexity", model, "books", 16, method, None)
    for n, (model, method) in enumerate([("a", "none"), ("a", "heads"), ("b", "none"), ("b", "heads")], 1)
]


def events():
    yield Event("kept", CELLS[0])
    yield Event("done", CELLS[1], 10, 1.0, is_fit=True, target=64)
    yield Event("done", CELLS[1], 10, 2.0)
    yield Event("again", CELLS[2], failure=Failure("E", "no luck", 4))
    yield Event("failed", CELLS[2], 10, failure=Failure("E", "no luck", 4))


def test_the_board_counts_cells_by_model_and_method(terminal):
    now, (stream, read) = [0.0], terminal
    shown = Board(CELLS, 60, stream=stream, clock=lambda: now[0])
    for event in events():
        now[0] += 1
        shown(event)
    assert shown.lines(80, 24) == [
        "                   none  heads",
        "a books             1/1    1/1",
        "b books  0/1 (1 failed)    0/1",
        "sweep: 2 of 4 cells done, 1 failed (1 were there), about 5 s left",
    ]
    assert len(shown.lines(80, 3)) == 1  # no room for the table
    assert all(len(line) < 20 for line in shown.lines(20, 24))
    shown.close()
    text = read()
    assert text.count("\x1b[4F\x1b[0J") == 5  # each drawing takes the place of the last, and the end that of all
    assert text.endswith("\x1b[4F\x1b[0J" + shown.status() + "\n")
    told = [line for line in text.replace("\x1b[4F\x1b[0J", "").splitlines() if "no luck" in line]
    assert told == [
        "sweep: perplexity of b on books, 16 tokens, none failed, and will be tried again: no luck",
        "sweep: perplexity of b on books, 16 tokens, none failed: no luck",
    ]


def test_a_wide_board_is_turned():
    cells = [Cell(n, "perplexity", "a", "books", 16, f"method-{n}", None) for n in range(1, 9)]
    lines = Board(cells, 1, stream=io.StringIO()).lines(60, 24)
    assert [line.split() for line in lines[:2]] == [["a", "books"], ["method-1", "0/1"]]


def test_what_is_no_terminal_gets_a_line_now_and_then_and_all_that_went_wrong():
    now, stream = [0.0], io.StringIO()
    shown = Board(CELLS, 60, stream=stream, clock=lambda: now[0])
    for event in events():
        now[0] += 12
        shown(event)
    shown(Event("failed", replace(CELLS[1], seed=3), failure=Failure("E", "none", 4), is_fit=True, target=64))
    shown.close()
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().splitlines() == [
        "sweep: 2 of 4 cells done (1 were there), about 72 s left",
        "sweep: perplexity of b on books, 16 tokens, none failed, and will be tried again: no luck",
        "sweep: perplexity of b on books, 16 tokens, none failed: no luck",
        "sweep: the fit of heads to a for 64 tokens, seed 3 failed: none",
        "sweep: 2 of 4 cells done, 1 failed (1 were there), about 60 s left",
    ]


def test_a_dumb_terminal_is_no_terminal(terminal, monkeypatch):
    assert Board(CELLS, 60, stream=terminal[0]).people
    monkeypatch.setenv("TERM", "dumb")
    assert not Board(CELLS, 60, stream=terminal[0]).people


def test_what_is_waited_for_is_told_and_counts_as_nothing():
    stream = io.StringIO()
    shown = Board(CELLS, 60, stream=stream, clock=lambda: 0.0)
    shown(Event("waits", CELLS[0]))
    shown(Event("waits", CELLS[1], is_fit=True))
    shown(Event("kept", CELLS[0], 30))
    assert stream.getvalue().splitlines() == [
        "sweep: perplexity of a on books, 16 tokens, none: another process is at it; waiting",
        "sweep: the fit of heads to a: another process is at it; waiting",
    ]
    assert shown.status().startswith("sweep: 1 of 4 cells done (1 were there), about ")


def test_words_name_the_seed():
    assert replace(CELLS[0], seed=1).words().endswith("none, seed 1")
