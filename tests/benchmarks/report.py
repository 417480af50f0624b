"""What was measured, as one JSON file, a table in Markdown and a figure."""

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

import torch

from tests.benchmarks import bars as bar
from tests.benchmarks.bars import Speeds
from tests.benchmarks.figure import figure, write_png
from tests.benchmarks.measure import ROOT
from tests.benchmarks.shape import NAMES
from tests.benchmarks.speeds import LENGTHS
from tests.benchmarks.table import markdown


def processor():
    """Return the processor's own name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def about():
    """Return when, where and of what a measurement is."""
    words = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        commit = ""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "date": f"{now:%Y-%m-%d %H:%M} UTC", "processor": processor(), "cores": os.cpu_count(),
        "torch": torch.__version__, "commit": commit,
    }  # fmt: skip


def bars_of(parts, clock):
    """Return all bars that the parts allow."""
    found = []
    for arch, name in NAMES.items():
        short = name.split()[0]
        if arch in parts:
            speeds = Speeds(parts[arch]["entries"], clock)
            found += bar.speed_bars(short, arch, speeds) + bar.memory_and_cost_bars(short, speeds)
        if f"long-{arch}" in parts:
            found.append(bar.long_memory_bar(short, parts[f"long-{arch}"]["growth"]))
        if f"threads-{arch}" in parts:
            found.append(bar.thread_bar(short, parts[f"threads-{arch}"]["seconds"]))
    if "accuracy" in parts:
        found += bar.accuracy_bars(parts["accuracy"]["models"])
    return found


def write(folder, clock="seconds"):
    """Read ``parts/*.json`` of a folder and write bench.json, bench.md and bench.png into it; return the Markdown."""
    parts = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("parts/*.json"))}
    found = bars_of(parts, clock)
    result = {"clock": clock, "bars": [each.to_dict() for each in found], "parts": parts}
    (folder / "bench.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = markdown(parts, found, clock)
    (folder / "bench.md").write_text(text, encoding="utf-8")
    speeds = {arch: Speeds(parts[arch]["entries"], clock) for arch in NAMES if arch in parts}
    if any(found.entry("ours", "forward", length) for found in speeds.values() for length in LENGTHS):
        write_png(figure(speeds, next(iter(parts.values()))["about"]), folder / "bench.png")
    return text
