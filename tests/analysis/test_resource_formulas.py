"""Test ``mambascope.analysis.resource_formulas`` against peaks of memory measured in processes of their own."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
import torch
from mambascope.analysis import resource_formulas as formulas
from mambascope.analysis.calibration.backprop import loss_and_gradient
from mambascope.analysis.costs import measured
from mambascope.spectra.config import Config
from mambascope.spectra.model import Model
from mambascope.spectra.scales import scaling

torch.set_num_threads(1)
arch, d_model, tokens, rows, what = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
dtype = torch.float64 if what == "gradient in float64" else torch.float32
sizes = {"d_state": 16, "dt_rank": d_model // 16} if arch == "mamba" else {"d_state": 128, "headdim": 64}
config = Config(arch, d_model, 3, 512, 2 * d_model, **sizes)
torch.manual_seed(0)
model = Model(config).to(dtype).requires_grad_(False)
for layer in model.layers():
    (layer.mixer.dt_proj.bias if arch == "mamba" else layer.mixer.dt_bias).fill_(-5)
ids = torch.randint(0, 512, (rows, tokens // rows))
states = rows * formulas.state_bytes(config, dtype)

def forward(_):
    with torch.no_grad():
        model(ids, state)

def gradient(_):
    ones = [torch.ones(3, dtype=torch.float64)]
    loss_and_gradient(model, ids, ones, lambda v: scaling("a", v[0][:, None].expand(3, config.dt_width)),
                      block_length=tokens // rows)

with torch.no_grad():
    state = model(ids[:, :16]).state
if what.startswith("gradient"):
    gradient(None)
    predicted = formulas.graph_bytes(config, dtype, tokens) + 3 * states
else:
    # the states before the block are held already
    predicted = formulas.pass_bytes(config, torch.float32, tokens, rows=rows) + states
found = measured(gradient if what.startswith("gradient") else forward)[1].peak_bytes
print(json.dumps([predicted, found]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
@pytest.mark.parametrize(
    ("d_model", "tokens", "rows", "what"),
    [
        (256, 512, 1, "pass"),
        (512, 2048, 32, "pass"),
        (512, 2048, 32, "pass in plain torch"),
        pytest.param(256, 8192, 1, "pass", marks=pytest.mark.soak),
        (256, 2048, 4, "gradient"),
        (128, 512, 2, "gradient in plain torch"),
        (128, 256, 1, "gradient in float64"),
    ],
)
def test_a_block_takes_what_the_formula_says(arch, d_model, tokens, rows, what):
    words = [sys.executable, "-c", SCRIPT, arch, str(d_model), str(tokens), str(rows), what]
    environment = os.environ | ({"MAMBASCOPE_KERNELS": "off"} if what.endswith("plain torch") else {})
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    predicted, found = json.loads(done.stdout)
    print(f"{arch} {d_model} {tokens} {rows} {what}: {predicted / 1e6:.0f} MB predicted, {found / 1e6:.0f} measured")
    assert 0.75 < predicted / found < 1.6
