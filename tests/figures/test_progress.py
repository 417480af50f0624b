"""Test ``figures/progress.py``: bars where there is a cursor, lines elsewhere, no control character in a log."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import types

import pytest

from mambascope.figures import progress as shown
from mambascope.figures.progress import PlainLines, in_notebook, is_terminal, meter, progress

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_lines_come_twice_a_minute_at_most_with_share_and_time_left(capsys):
    clock = Clock()
    with PlainLines(1000, "norms", clock) as lines:
        for _ in range(100):  # ten units a second
            clock.now += 1
            lines.advance(10)
    told = capsys.readouterr()
    assert not told.out
    assert told.err.splitlines() == [
        "norms: 30%, 0:01:10 left",
        "norms: 60%, 0:00:40 left",
        "norms: 90%, 0:00:10 left",
        "norms: done in 0:01:40",
    ]


def test_what_a_run_folder_had_already_says_nothing_about_the_speed(capsys):
    clock = Clock()
    lines = PlainLines(1000, "evaluate", clock)
    lines.advance(800)
    clock.now += 40
    lines.advance(100)
    assert capsys.readouterr().err == "evaluate: 90%, 0:00:40 left\n"


def test_short_and_stopped_work_leaves_no_line(capsys):
    clock = Clock()
    with PlainLines(10, "short", clock) as lines:
        clock.now += 29
        lines.advance(10)

    def stopped():
        with PlainLines(10, "stopped", clock) as lines:
            clock.now += 31
            lines.advance(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert capsys.readouterr().err == "stopped: 10%, 0:04:39 left\n"


@pytest.mark.parametrize(("total", "told"), [(0, "x: 5 done"), (4, "x: 100%, 0:00:00 left")])
def test_a_total_that_is_wrong_does_no_harm(capsys, total, told):
    clock = Clock()
    lines = PlainLines(total, "x", clock)
    clock.now += 31
    lines.advance(5)
    assert capsys.readouterr().err == told + "\n"


def test_a_note_stands_behind(capsys):
    clock = Clock()
    lines = PlainLines(10, "calibrate", clock)
    clock.now += 30
    lines.advance(5, "step 5 of 10, loss 1.2345 bits")
    assert capsys.readouterr().err == "calibrate: 50%, 0:00:30 left, step 5 of 10, loss 1.2345 bits\n"


def test_a_pipe_gets_lines_and_no_control_characters(monkeypatch):
    monkeypatch.setattr(shown, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress(4, "norms") as tick:
        for _ in range(4):
            tick(1)
    with meter(4, "calibrate", bar_format="{desc} {bar}") as advance:
        advance(2, "step 1")
    text = sys.stderr.getvalue()
    assert text.count("norms: ") == 5
    assert "calibrate: 50%" in text
    assert not CONTROL.search(text)


SLOW = """
import time
from mambascope.figures import progress
progress.DELAY_S = 0.0
with progress.progress(4, "norms") as tick:
    for _ in range(4):
        time.sleep(0.25)
        tick(1)
"""


def test_a_terminal_gets_a_bar_and_a_pipe_does_not():
    piped = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=True)
    assert (piped.stdout, piped.stderr) == ("", "")  # done within half a minute
    for term, columns, bar in (("xterm", 80, True), ("dumb", 80, False), ("xterm", 0, False)):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        child = subprocess.Popen([sys.executable, "-c", SLOW], stderr=theirs, env=os.environ | {"TERM": term})
        os.close(theirs)
        text = b""
        while True:
            try:
                block = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not block:
                break
            text += block
        os.close(ours)
        assert child.wait() == 0
        assert (b"\r" in text and b"norms" in text) == bar, text


def test_a_notebook_is_known_by_its_kernel(monkeypatch):
    assert not in_notebook()
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))  # a plain process
    assert not in_notebook()
    shell.config = {"TerminalIPythonApp": {}}
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert not in_notebook()


def test_a_notebook_without_widgets_gets_a_bar_of_text(monkeypatch):
    monkeypatch.setattr(shown, "in_notebook", lambda: True)
    monkeypatch.setattr(shown, "DELAY_S", 0.0)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # importing it fails
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # as a kernel's, it is no terminal
    with progress(2, "norms") as tick:
        tick(1)
        tick(1)
    assert "norms" in sys.stderr.getvalue()


def test_a_stream_that_is_no_stream_is_no_terminal():
    closed = io.StringIO()
    closed.close()
    assert not is_terminal(closed)
    assert not is_terminal(object())
    assert not is_terminal(None)
