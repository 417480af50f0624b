"""What README says of adding a claim, a rule, a method and a layout is done to a copy, word for word, and works.

Each is one file and one line: the file is put where README says, the line into the list that it names, and a command
is run that uses it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PACKAGES = ("spectra", "simulate", "analysis", "figures")


def steps():
    """Read README's table: what is added, the file, where it goes, the list, and the line in it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("### Adding to it") :]
    rows = re.findall(r"^\| (\w[\w ]*) \| `(\S+)` \| `(\S+)`, `(\w+)`: `(.+?)` \|", section, re.MULTILINE)
    return {what: rest for what, *rest in rows}


@pytest.fixture
def copy(tmp_path):
    """A copy of the packages that can be changed; large data is linked."""
    folder = tmp_path / "mambascope"
    folder.mkdir()
    for package in PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__", "zoo")
        shutil.copytree(ROOT / package, folder / package, ignore=ignore)
    (folder / "spectra" / "zoo").symlink_to(ROOT / "spectra" / "zoo")
    return folder


def add(copy, what):
    target, registry, name, line = steps()[what]
    shutil.copy(HERE / Path(target).name, copy / target)
    path = copy / registry
    text = path.read_text(encoding="utf-8")
    start = text.index(re.search(rf"^{name}\b.*= [({{]", text, re.MULTILINE)[0])
    opening = re.compile(r"[({]\n?").search(text, text.index("=", start)).end()
    module = Path(target).stem
    imported = re.search(rf"\b({module}\.)?(\w+_rule|[A-Z]\w+)\b", line)
    if what != "claim":
        uses = f"from . import {module}\n" if f"{module}." in line else f"from .{module} import {imported[2]}\n"
        at = re.compile(r"^from \.", re.MULTILINE).search(text).start()
        text = text[:at] + uses + text[at:opening] + f"\n    {line}\n    " + text[opening:]
    else:
        text = text[:opening] + f"    {line}\n" + text[opening:]
    path.write_text(text, encoding="utf-8")


def run(copy, *words, code=0):
    env = os.environ | {"PYTHONPATH": str(copy.parent), "OMP_NUM_THREADS": "1"}
    env |= {"MAMBASCOPE_KERNELS": "off"}  # a copy has nothing compiled, and plain torch is there sooner
    program = "import sys, mambascope.simulate as s; from mambascope.figures.cli import main; "
    program += f"assert s.__file__.startswith({str(copy)!r}), s.__file__; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=env, capture_output=True, text=True, cwd=copy.parent
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr


def test_readme_names_every_example():
    assert {Path(target).name for target, *_ in steps().values()} == {
        path.name for path in HERE.glob("*.py") if not path.name.startswith(("test_", "__"))
    }


def test_a_claim(copy):
    add(copy, "claim")
    (verdict,) = run(copy, "verify", "mean-square", "--trials", "4096", "--json")["verdicts"]
    assert verdict["claim"] == "mean-square"
    assert not verdict["printed_holds"]
    assert verdict["corrected_holds"]


def test_a_rule(copy, tmp_path):
    add(copy, "rule")
    where = ["mamba2-tiny", "--target-length", "1k", "--rule", "third-clip", "-o", str(tmp_path / "out"), "--json"]
    run(copy, "propose", *where)
    rows = json.loads((tmp_path / "out" / "tables" / "proposal.json").read_text())["rows"]
    assert max(row["horizon_max_after_tokens"] for row in rows) == pytest.approx(256 / 3, rel=1e-3)


def test_a_method(copy, tmp_path):
    add(copy, "method")
    text = tmp_path / "text.txt"
    text.write_bytes((ROOT / "README.md").read_bytes()[:1200])
    where = ["mamba2-tiny", "--text", str(text), "--lengths", "256,1k", "--methods", "none,halved-steps", "--json"]
    rows = run(copy, "evaluate", *where)["rows"]
    bits = {row["method"]: row["bits_per_token"] for row in rows if row["length"] == 256}
    assert bits["halved-steps"] != bits["none"]


def test_a_layout(copy, tmp_path):
    """A checkpoint in it is read, layer by layer by its true index, and what cannot be done with it says why."""
    add(copy, "layout")
    d_model, d_inner, d_state, rank = 8, 16, 4, 2
    shapes = {
        "in_proj.weight": (2 * d_inner, d_model), "conv1d.weight": (d_inner, 1, 4), "conv1d.bias": (d_inner,),
        "x_proj.weight": (rank + 2 * d_state, d_inner), "dt_proj.weight": (d_inner, rank), "dt_proj.bias": (d_inner,),
        "A_log": (d_inner, d_state), "D": (d_inner,), "out_proj.weight": (d_model, d_inner),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    tensors = {f"blocks.{i}.ssm.{k}": rng.standard_normal(s, np.float32) for i in (0, 2) for k, s in shapes.items()}
    model = tmp_path / "model"
    model.mkdir()
    save_file(tensors | {"blocks.1.attention.weight": np.zeros((8, 8), np.float32)}, model / "model.safetensors")
    config = {"model_type": "alternating", "depth": 3, "width": d_model, "words": 64, "state": d_state, "rank": rank}
    (model / "config.json").write_text(json.dumps(config))
    rows = run(copy, "spectrum", str(model), "--json")["rows"]
    medians = {row["layer"]: row["q50"] for row in rows}
    expected = {i: np.median(np.exp(-np.exp(tensors[f"blocks.{i}.ssm.A_log"].astype(float)))) for i in (0, 2)}
    assert medians == pytest.approx(expected, rel=1e-5)
    for command in (["evaluate", "--lengths", "16"], ["diagnose"]):
        told = run(copy, command[0], str(model), *command[1:], code=3)
        assert "(Alternating)" in told
