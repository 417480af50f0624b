"""One contestant in a process of its own: makes its model, then runs a task for every line it is sent.

Arguments: one JSON object. Answers: one JSON object a line on the standard output; whatever libraries print goes to
the standard error. Memory is Linux's own account of the process.
"""

import json
import os
import sys
import time
from functools import partial
from pathlib import Path

import torch

from mambascope.spectra.errors import is_lack_of_memory
from mambascope.spectra.scan import prepare
from tests.benchmarks import tasks
from tests.benchmarks.peers import PEERS, AbsentError
from tests.benchmarks.shape import random_ids, random_model
from tests.benchmarks.speeds import SHORT_TOKENS
from tests.benchmarks.tasks import Task

WARM_UP_TOKENS = 128  # a whole number of the chunks that ssd_minimal_discrete insists on


def memory_mb(key):
    """Read VmRSS or VmHWM."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def forget_the_peak():
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def our_tasks(arch, length):
    """Return (version, name -> maker of a Task for so many tokens)."""
    model, ids = random_model(arch), random_ids(length)
    prepare(arch, torch.device("cpu"), torch.float32)  # what load does

    def of_machine(name, *by_block):
        def make(n):
            from tests.benchmarks import machine  # brings numba: not before the memory of our own passes is measured

            block = next(iter(model.stream(ids[:, :n]))).stop if by_block else None
            return getattr(machine, name)(*((model, n, block) if by_block else ()))

        return make

    def logits(n):
        return Task(lambda: torch.cat([block.logits() for block in model.stream(ids[:, :n])], dim=1), n)

    products = {} if arch == "mamba" else {"linear and chunk products": of_machine("chunk_products", "by block")}
    return "", products | {
        "forward": lambda n: tasks.forward(model, ids[:, :n]),
        "observed": lambda n: tasks.observed(model, ids[:, :n]),
        "scaled": lambda n: tasks.scaled(model, ids[:, :n]),
        "decays": lambda n: tasks.decays(model, ids[:, :n]),
        "norms": lambda n: tasks.norms(model, ids[:, :n]),
        "long norms": lambda n: tasks.long_norms(model, ids[:, :n], SHORT_TOKENS, partial(memory_mb, "VmHWM")),
        "gradient": lambda n: tasks.gradient(model, ids[:, : n + 1]),
        "logits": logits,
        "linear products": of_machine("linear_products", "by block"),
        "bare scan": of_machine("bare_scan", "by block"),
        "square product": of_machine("square_product"),
        "torch exp2": of_machine("torch_exp2"),
        "polynomial exp2": of_machine("polynomial_exp2"),
    }


def peer_tasks(name, arch, length):
    make, in_blocks, _ = PEERS[name]
    peer, ids = make(random_model(arch), in_blocks), random_ids(length)

    def forward(n):
        for _ in peer.logits(ids[:, :n]):
            pass

    without_graph = torch.no_grad()
    return peer.version, {
        "forward": lambda n: Task(partial(without_graph(forward), n), n),
        "gradient": lambda n: Task(partial(peer.loss_gradient, ids[:, : n + 1]), n),
        "logits": lambda n: Task(without_graph(lambda: torch.cat(list(peer.logits(ids[:, :n])), dim=1)), n),
    }


class Runner:
    """Runs tasks; the first run of each is warmed up by a short one, whose time is the first call's cost."""

    def __init__(self, makers, length):
        self.makers, self.length = makers, length
        self.ready, self.first_call = {}, {}
        self.loaded_mb = memory_mb("VmRSS")
        self.warm_mb = self.loaded_mb

    def run(self, name):
        if name not in self.ready:
            start = time.perf_counter()
            self.makers[name](min(self.length, WARM_UP_TOKENS)).run()
            self.first_call[name] = time.perf_counter() - start
            self.ready[name] = self.makers[name](self.length)
            self.warm_mb = memory_mb("VmRSS")
        task = self.ready[name]
        forget_the_peak()
        cpu, start = time.process_time(), time.perf_counter()
        made = task.run()
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        peak = memory_mb("VmHWM")
        answer = {
            "seconds": seconds, "cpu_seconds": cpu_seconds, "amount": task.amount, "unit": task.unit,
            "first_call_s": self.first_call[name], "growth_mb": peak - self.loaded_mb,
            "growth_warm_mb": peak - self.warm_mb,
        }  # fmt: skip
        answer |= {key: value - self.loaded_mb for key, value in task.passed().items()}
        if name == "logits":
            answer["logits"] = made[0, ::7, ::5].tolist()
        return answer


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer):
        print(json.dumps(answer), file=answers, flush=True)

    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    if asked["contestant"] != "ours" and not asked["contestant"].startswith("transformers"):
        sys.path.append(asked["peers"])  # transformers would take mamba_ssm for working kernels
    try:
        if asked["contestant"] == "ours":
            version, makers = our_tasks(asked["arch"], asked["length"])
        else:
            version, makers = peer_tasks(asked["contestant"], asked["arch"], asked["length"])
    except AbsentError as why:
        say({"absent": str(why)})
        return
    runner = Runner(makers, asked["length"])
    say({"version": version, "loaded_mb": runner.loaded_mb})
    for line in sys.stdin:
        try:
            say(runner.run(line.strip()))
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, RuntimeError) and not is_lack_of_memory(error):
                raise
            say({"error": f"out of memory ({error})"})


if __name__ == "__main__":
    main()
