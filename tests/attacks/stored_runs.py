"""Write the run folders of this version that later versions must read: ``python -m tests.attacks.stored_runs FOLDER``.

Done once for each format; ``stored/format-1`` is what the first one wrote. Figures, which are only drawn, are left out.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import torch

from mambascope.spectra.checkpoint import save_checkpoint
from mambascope.spectra.scales import scaling
from tests.attacks.commands import told
from tests.spectra.tiny import tiny_model

AIM = ["--target-length", "32", "--steps", "4", "--batch", "1", "--selection-windows", "1", "--select-every", "2"]
TEXTS = ["--calibration", "calibration.jsonl", "--validation", "validation.jsonl", "--text", "test.jsonl"]
COMMANDS = {
    "calibrated": ["calibrate", "model", *AIM, *TEXTS],
    "interrupted": ["calibrate", "model", *AIM, *TEXTS, "--seed", "1"],
    "evaluated": ["evaluate", "model", "--text", "test.jsonl", "--lengths", "8,32", "--methods", "none,constant:2"],
    "proposed": ["propose", "model", "--text", "calibration.jsonl", "--target-length", "32"],
    "simulated": ["simulate", "--law", "uniform:0,0.9", "--times", "4,16", "--trials", "64", "--engine", "sequential"],
}
"""Folder, and the command that made it and goes on in it; paths are relative, as they are part of what a run is."""
LEFT_OUT = {".png", ".pdf", ".svg", ".html"}


def write(folder):
    """Write the model, its texts, the runs and two files of scales."""
    folder.mkdir(parents=True)
    os.chdir(folder)
    model = tiny_model("mamba2", d_model=8, d_inner=8, n_layer=1, d_state=2, headdim=4, ngroups=1, vocab_size=16)
    tensors = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    save_checkpoint(Path("model"), model.config, tensors, "transformers")
    Path("model/mambascope.json").write_text('{"format": 1, "name": "stored", "train_length": 8}\n')
    rng = torch.Generator().manual_seed(0)
    for role in ("calibration", "validation", "test"):
        rows = torch.randint(0, 16, (2, 64), generator=rng).tolist()
        Path(f"{role}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, words in COMMANDS.items():
        found = told(*words, "-o", name)
        assert found.code == 0, found
    _stop_early(Path("interrupted"))
    scaling("a", [1.5]).then(scaling("dt", 0.5, onset_tokens=8)).save("scales.json")
    for path in sorted(Path().rglob("*")):
        if path.suffix in LEFT_OUT or path.name == ".lock":
            path.unlink()
    for path in sorted(Path().rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _stop_early(run):
    """Leave what a kill after the second step leaves: its line is there, its state is not yet."""
    with_four = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    steps = [k for k, line in enumerate(with_four) if b'"kind":"step"' in line]
    shutil.rmtree(run)
    from mambascope.analysis.calibration import record

    whole = record.write_state
    written = []

    def until_two(path, arrays, about=None):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        whole(path, arrays, about)

    record.write_state = until_two
    try:
        assert told(*COMMANDS["interrupted"], "-o", run).code == 130
    finally:
        record.write_state = whole
    left = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert left == with_four[: steps[2] + 1]


if __name__ == "__main__":
    write(Path(sys.argv[1]).absolute())
