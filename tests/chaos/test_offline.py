"""Promise 17, second half: no command asks the network for anything, unless a hub id or a cluster is given."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.small_runs import prepare

WATCHED = """
import json, os, sys, time

if "IMPATIENT" in os.environ:
    time.sleep = lambda _: None  # between the tries of a library
CALLS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind"}
asked = []

def watch(event, arguments):
    if event in CALLS:
        address = arguments[1] if event in {"socket.connect", "socket.bind", "socket.sendto"} else arguments[0]
        if not isinstance(address, (str, bytes)) or event == "socket.getaddrinfo":  # else a file of the machine's own
            asked.append(f"{event} {address}")
            raise OSError(101, "Network is unreachable")

sys.addaudithook(watch)
from tests.attacks.commands import told

for words in json.loads(sys.argv[1]):
    found = told(*words)
    print(json.dumps({"words": words, "code": found.code, "err": found.err[-1500:], "asked": asked}), flush=True)
    asked = []
"""


def watched(commands, **environment):
    """Run commands one after another in a process in which every connection is noted and refused."""
    changed = {k: v for k, v in os.environ.items() if k not in {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}} | environment
    words = [sys.executable, "-c", WATCHED, json.dumps([[str(word) for word in words] for words in commands])]
    root = Path(__file__).parents[2]
    done = subprocess.run(words, cwd=root, env=changed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def commands(base, names):
    words = prepare(base)
    plain = [["models"], ["doctor"], ["cite"], ["verify", "--explain", "eq-6"], ["spectrum", "mamba-tiny"]]
    return plain + [[*words[name], "-o", base / name] for name in names or words]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "names",
    [("propose", "evaluate", "bake", "simulate"), pytest.param((), marks=pytest.mark.soak)],
)
def test_no_command_asks_the_network(tmp_path, names):
    found = watched(commands(tmp_path, names))
    for each in found:
        assert each["code"] == 0, each
        assert not each["asked"], each
    print(f"{len(found)} commands, 0 connections")


def test_a_hub_id_does_and_is_refused_in_one_line(tmp_path):
    """Negative control: the watch sees what is asked; without a network the answer is one line and exit code 3."""
    pytest.importorskip("huggingface_hub", reason="needs the package that asks")
    (found,) = watched([["spectrum", "state-spaces/mamba-130m"]], HF_HOME=str(tmp_path), IMPATIENT="1")
    assert found["asked"]
    assert found["code"] == 3, found
    assert len([line for line in found["err"].splitlines() if line.startswith("mambascope: ")]) == 1
    (found,) = watched([["spectrum", "state-spaces/mamba-130m"]], HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert not found["asked"]
    assert found["code"] == 3, found
