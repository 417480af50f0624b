"""What could be handed to compiled loops by mistake: refused, or done right, never read or written out of bounds."""

import os
import subprocess
import sys
import types

import numba
import pytest
import torch

from mambascope.spectra.compiled import jit
from mambascope.spectra.compiled.rms_norm import rms_norm
from mambascope.spectra.dynamics import Dynamics
from mambascope.spectra.errors import DerivativeError, ScaleError, ShapeError
from mambascope.spectra.loading import load
from mambascope.spectra.scan import blocked, compiled_scalar_identity

NAMES = ["mamba-tiny", "mamba2-tiny"]


class Rule:
    def __init__(self, change):
        self.change = change

    def boundaries(self):
        return ()

    def __call__(self, layer, position, dynamics):
        return self.change(dynamics)


def ids(rows, length):
    return torch.randint(0, 256, (rows, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_other_rows_or_of_another_model_is_refused(name):
    model, other = load(name), load(next(each for each in NAMES if each != name))
    one = model(ids(1, 4)).state
    with pytest.raises(ShapeError, match="repeated"):
        model(ids(3, 8), one)
    assert torch.equal(model(ids(3, 8), one.repeated(3)).hidden.isfinite().all(), torch.tensor(True))
    with pytest.raises(ShapeError):
        model(ids(1, 8), other(ids(1, 4)).state)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["dt", "gain"])
def test_dynamics_of_another_shape_are_refused(name, part):
    def narrow(d):
        parts = {"dt": d.dt, "gain": d.gain} | {part: getattr(d, part)[:, :1]}
        return Dynamics(parts["dt"], d.A, parts["gain"])

    with pytest.raises(ShapeError, match=part):
        load(name)(ids(2, 8), intervention=Rule(narrow))


@pytest.mark.parametrize("name", NAMES)
def test_expanded_dynamics_are_as_good_as_whole_ones(name):
    def spread(d):
        return Dynamics(d.dt[:, :1].expand_as(d.dt), d.A, d.gain[:1].expand_as(d.gain))

    def whole(d):
        return Dynamics(*(v.contiguous() for v in (spread(d).dt, d.A, spread(d).gain)))

    model = load(name)
    found, same = (model(ids(2, 8), intervention=Rule(change)).hidden for change in (spread, whole))
    assert torch.equal(found, same)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [lambda d: Dynamics(-d.dt, d.A, d.gain), lambda d: Dynamics(d.dt, -d.A, d.gain)])
def test_states_that_would_grow_by_themselves_are_refused(name, change):
    with pytest.raises(ScaleError, match="layer 0"):
        load(name)(ids(1, 8), intervention=Rule(change))


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_block_changes_nothing(name):
    model = load(name)
    before = model(ids(1, 4)).state
    block = model(ids(1, 0), before)
    assert block.hidden.shape[1] == 0
    for mine, same in zip(block.state.layers, before.layers, strict=True):
        assert torch.equal(mine.ssm, same.ssm)
        assert torch.equal(mine.conv, same.conv)


@pytest.mark.parametrize("name", NAMES)
def test_the_residual_stream_that_a_hook_keeps_stays_what_it_was(name):
    model, kept = load(name), []
    for layer in model.layers():
        layer.norm.register_forward_pre_hook(lambda module, args: kept.append((args[0], args[0].clone())))
    with torch.no_grad():
        model(ids(1, 20))
    assert len(kept) == len(model.layers())
    assert all(torch.equal(now, then) for now, then in kept)


def test_a_hook_on_the_gated_norm_is_called_and_changes_no_bit_but_rounding():
    model, calls = load("mamba2-tiny"), []
    with torch.no_grad():
        plain = model(ids(1, 50)).hidden
        model.layers()[0].mixer.norm.register_forward_pre_hook(lambda module, args: calls.append(args[0].shape))
        watched = model(ids(1, 50)).hidden
    assert calls == [torch.Size([1, 50, model.config.d_inner])]
    torch.testing.assert_close(watched, plain, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_refused_and_not_zero():
    x, weight = torch.randn(2, 5, requires_grad=True), torch.ones(5)
    with pytest.raises(DerivativeError, match="float64"):
        torch.autograd.grad(rms_norm(x, weight, 1e-5).pow(3).sum(), x, create_graph=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_of_torch_has_no_say(dtype):
    model = load("mamba2-tiny")
    truth = model(ids(1, 20)).hidden
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(model(ids(1, 20)).hidden, truth)
    finally:
        torch.set_default_dtype(torch.float32)


def test_nan_in_one_row_leaves_the_gradients_of_another():
    rng = torch.Generator().manual_seed(1)
    x, B, C = (torch.randn(*s, generator=rng) for s in ((2, 20, 2, 6), (2, 20, 1, 5), (2, 20, 1, 5)))
    dt, A, state = torch.rand(2, 20, 2, generator=rng), -torch.ones(2), torch.zeros(2, 2, 6, 5)
    dt[0, 3] = torch.nan
    for engine in (blocked, compiled_scalar_identity):
        leaves = [v.clone().requires_grad_() for v in (x, dt, B, C)]
        y, _ = engine.scalar_identity_scan(leaves[0], leaves[1], dt.nan_to_num(0.1), A, leaves[2], leaves[3], state)
        for gradient in torch.autograd.grad(y[1].sum(), leaves):
            assert torch.isfinite(gradient[1]).all()


def test_other_peoples_functions_without_a_module_still_compile():
    function = types.FunctionType(compile("lambda v: v + 1", "x", "eval").co_consts[0], {})
    assert function.__module__ is None
    assert numba.njit(function)(1) == 2


def test_a_change_in_any_source_makes_the_loops_anew(monkeypatch):
    before = jit._sources()
    monkeypatch.setattr(jit.Path, "read_bytes", lambda self: self.name.encode())
    jit._sources.cache_clear()
    assert jit._sources() != before
    monkeypatch.undo()
    jit._sources.cache_clear()
    assert jit._sources() == before


def test_loops_run_where_nothing_can_be_written():
    """numba finds no folder for its cache: the loops are compiled in memory."""
    code = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"
        "import torch; from mambascope.spectra.compiled.rms_norm import rms_norm\n"
        "print(rms_norm(torch.ones(2, 3), torch.ones(3), 0.0).sum().item())"
    )
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert float(done.stdout) == pytest.approx(6.0)


ONES = """
import torch
from mambascope.spectra.compiled.rms_norm import rms_norm
{}print(rms_norm(torch.ones(2, 3), torch.ones(3), 0.0).sum().item())
"""


def run_with_cache(folder, before=""):
    words = [sys.executable, "-c", ONES.format(before)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(6.0)


@pytest.mark.skipif(sys.platform == "win32", reason="file-size limits are POSIX's")
def test_a_disk_that_fills_up_while_loops_are_kept_ends_no_run(tmp_path):
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    run_with_cache(tmp_path, f"{limit}resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n")
    assert not [file for file in tmp_path.rglob("*.nb[ic]") if file.stat().st_size > 100]


def test_damaged_kept_loops_are_made_anew(tmp_path):
    run_with_cache(tmp_path)
    kept = [file for file in tmp_path.rglob("*.nb[ic]") if "rms" in file.name]
    assert {file.suffix for file in kept} == {".nbi", ".nbc"}
    for ending in (".nbc", ".nbi"):  # an index that is whole leads to a loop that is not; then no index is whole
        for file in (each for each in kept if each.suffix == ending):
            whole = file.read_bytes()
            file.write_bytes(whole[: len(whole) // 2])
        run_with_cache(tmp_path)


def test_a_numba_that_cannot_be_imported_is_no_end():
    """Plain torch runs, ``choose`` says why, and the numbers stay."""
    code = (
        "import sys\n{}import torch\nfrom mambascope.spectra import load\nfrom mambascope.spectra.scan import choose\n"
        "ids = torch.arange(40)[None]\nprint(*(load(name)(ids).logits().abs().sum().item() for name in {}))\n"
        "print(choose('mamba', torch.device('cpu'), torch.float32))"
    )
    told = []
    for first in ("", "sys.modules['numba'] = None\n"):
        words = [sys.executable, "-c", code.format(first, NAMES)]
        told.append(subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines())
    (with_numba, compiled), (without, plain) = told
    assert [float(v) for v in without.split()] == pytest.approx([float(v) for v in with_numba.split()], rel=1e-5)
    assert compiled.startswith("compiled: ")
    assert plain.startswith("blocked: numba cannot be imported (")
    assert "install" in plain
