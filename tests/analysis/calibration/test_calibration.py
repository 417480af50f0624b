"""Test ``mambascope.analysis.calibration``: what is kept, reported, refused and resumed."""

import hashlib
import importlib
import json

import numpy as np
import pytest
import safetensors.numpy

from mambascope.analysis import states
from mambascope.analysis.calibration import METHODS, Calibrated
from mambascope.analysis.calibration.calibration import calibrate
from mambascope.analysis.calibration.objective import window_bits
from mambascope.analysis.calibration.windows import spread_windows
from mambascope.analysis.evaluate.perplexity import perplexity
from mambascope.analysis.runs import RunFolderError
from mambascope.analysis.study import Texts
from mambascope.spectra import load
from mambascope.spectra.errors import RefusedInputError, ScaleError, TextError
from mambascope.spectra.scales import Scales, scaling
from mambascope.spectra.tokens import Document
from mambascope.spectra.zoo import text_files

T, L = 16, 64
KINDS = ("a", "a_power", "dt", "joint")


def run(model, texts, **changes):
    options = {"steps": 6, "batch": 2, "select_every": 2, "selection_windows": 4, "seed": 3, "start": "ones"} | changes
    return calibrate(model, texts, train_length=T, target_length=L, **options)


def hashes(folder):
    kept = {"journal.jsonl", "scales.json", "calibration.safetensors"}
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in kept}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_every_method_gives_scales_with_their_history(make_model, make_texts, arch, method):
    model, texts = make_model(arch), make_texts()
    for kind, granularity in zip(KINDS, ("layer", "head", "model", "head"), strict=True):
        found = run(model, texts, method=method, kind=kind, granularity=granularity)
        assert isinstance(found, Calibrated)
        assert [s.step for s in found.history] == list(range(7))
        assert [s.step for s in found.history if s.selection] == [0, 2, 4, 6]
        assert all(np.diff([s.passes for s in found.history]) >= 4)
        looks = [s.selection.tail for s in found.history if s.selection]
        if method in {"spsa", "backprop"}:
            assert found.bits.tail == min(looks) <= found.start_bits.tail
        else:
            assert found.step == 6
            assert found.bits.tail == looks[-1]
        assert found.scales.check(model.config) is found.scales
        assert found.best_so_far()[-1][1] == min(looks)
        assert repr(found).startswith(f"Calibrated({method}, {kind}, {granularity}: selection ")
        json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("method", ["spsa", "backprop"])
def test_calibration_mends_a_model_that_breaks_down(method):
    """A bundled model whose memory was made 20 times longer: the loss on text that no step reads falls by 0.1 bits."""
    model = load("mamba2-tiny")
    texts = Texts(
        *(
            tuple(Document(path.name, np.frombuffer(path.read_bytes(), np.uint8)) for path in text_files(split)[:2])
            for split in ("calibration", "validation", "test")
        )
    )
    found = calibrate(
        model, texts, train_length=256, target_length=1024, start="constant:0.05", granularity="layer", method=method,
        steps=8, learning_rate=1.0, batch=2, selection_windows=4, select_every=4,
    )  # fmt: skip
    assert found.bits.tail < found.start_bits.tail - 0.1


@pytest.mark.parametrize("method", ["backprop", "spsa-paper"])
@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_the_reported_loss_is_that_of_the_stored_scales(make_model, make_texts, tmp_path, arch, method):
    model, texts = make_model(arch), make_texts()
    options = {"kind": "joint", "selection_windows": 2, "learning_rate": 0.5, "run": tmp_path / "run"}
    found = run(model, texts, method=method, **options)
    stored = Scales.load(tmp_path / "run/scales.json")
    windows = spread_windows([d.ids for d in texts.validation], L, 2, "x")
    assert window_bits(model, windows, stored, T) == found.bits
    assert method == "backprop" or found.bits != found.start_bits  # the published method returns its last point
    (row,) = perplexity(model, np.stack([d.ids[:L] for d in texts.validation]), lengths=[L], scales=stored).rows
    assert (row.tail_bits_per_token, row.bits_per_token) == (found.bits.tail, found.bits.whole)
    assert window_bits(model, windows, stored.then(scaling("a", 1.001)), T) != found.bits  # negative control


def test_the_file_tells_how_the_scales_were_made(make_model, make_texts, tmp_path):
    model, texts = make_model("mamba2"), make_texts()
    found = run(model, texts, run=tmp_path / "run")
    stored = json.loads((tmp_path / "run/scales.json").read_text())
    assert stored["provenance"]["plan"]["method"] == "spsa"
    assert stored["provenance"]["texts_sha256"] == {
        "calibration": [d.sha256 for d in texts.calibration],
        "validation": [d.sha256 for d in texts.validation],
    }
    assert stored["provenance"]["selection"]["result"]["tail"] == found.bits.tail
    assert "bits per token on selection windows" in stored["note"]
    assert Scales.load(tmp_path / "run/scales.json").to_dict() == found.scales.to_dict()
    assert Scales.from_dict(found.scales.to_dict()).to_dict() == found.scales.to_dict()
    with pytest.raises(ScaleError, match="format 9"):
        Scales.from_dict({"format": 9, "factors": []})


def test_the_seed_fixes_everything(make_model, make_texts):
    model, texts = make_model("mamba2"), make_texts()
    for method, start in (("spsa", "ones"), ("backprop", "random"), ("spsa-released", "random:0.75,1")):
        first, again, other = (run(model, texts, method=method, start=start, seed=s) for s in (1, 1, 2))
        assert first.to_dict() == again.to_dict()
        assert first.history != other.history


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop_at", [0, 3, 6])
def test_a_stopped_run_goes_on_to_the_same_bytes(make_model, make_texts, tmp_path, method, stop_at):
    model, texts = make_model("mamba2"), make_texts()

    def stop(step):
        if step.step == stop_at:
            raise KeyboardInterrupt

    options = {"method": method, "start": "spectrum"}
    whole = run(model, texts, run=tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        run(model, texts, run=tmp_path / "cut", watch=stop, **options)
    told = []
    resumed = run(model, texts, run=tmp_path / "cut", watch=told.append, **options)
    assert [s.step for s in told] == list(range(7))
    assert resumed.to_dict() == whole.to_dict()
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")
    before = hashes(tmp_path / "whole")
    run(model, texts, run=tmp_path / "whole", **options)  # finished: nothing is done again
    assert hashes(tmp_path / "whole") == before


def test_death_between_a_journal_line_and_the_state_after_it(make_model, make_texts, tmp_path, monkeypatch):
    model, texts = make_model("mamba2"), make_texts()
    run(model, texts, run=tmp_path / "whole", method="backprop")
    write, calls = states.write_bytes, []

    def die(path, data):
        calls.append(path)
        if len(calls) == 4:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(states, "write_bytes", die)
    with pytest.raises(KeyboardInterrupt):
        run(model, texts, run=tmp_path / "cut", method="backprop")
    monkeypatch.setattr(states, "write_bytes", write)
    run(model, texts, run=tmp_path / "cut", method="backprop")
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_a_damaged_state_is_refused(make_model, make_texts, tmp_path, damage):
    model, texts = make_model("mamba2"), make_texts()
    run(model, texts, run=tmp_path / "run")
    path = tmp_path / "run/calibration.safetensors"
    path.write_bytes(safetensors.numpy.save({"u": np.ones(3)}) if damage is None else damage)
    with pytest.raises(RefusedInputError, match="not the state of this run"):
        run(model, texts, run=tmp_path / "run")


def test_another_calibration_in_the_same_folder_is_refused(make_model, make_texts, tmp_path):
    model, texts = make_model("mamba2"), make_texts()
    run(model, texts, run=tmp_path / "run")
    for changes in ({"steps": 7}, {"kind": "dt"}, {"start": scaling("a", 2.0)}, {"seed": 4}):
        with pytest.raises(RunFolderError, match="different run"):
            run(model, texts, run=tmp_path / "run", **changes)
    with pytest.raises(RunFolderError, match="different run"):
        run(make_model("mamba2", seed=1), texts, run=tmp_path / "run")
    with pytest.raises(RunFolderError, match="different run"):
        run(model, make_texts(seed=1), run=tmp_path / "run")


def test_texts_that_leak_are_refused(make_model, make_texts):
    model, texts = make_model("mamba2"), make_texts()
    calibration, validation, test = texts.calibration, texts.validation, texts.test
    for leaking in (
        Texts(calibration, (*validation, calibration[1]), test),
        Texts((*calibration, test[0]), validation, test),
        Texts(calibration, validation, (validation[0],)),
    ):
        with pytest.raises(RefusedInputError, match="same content"):
            run(model, leaking)


def test_no_step_reads_test_text(make_model, make_texts):
    """Without the test text, or with another, everything is the same."""
    model, texts = make_model("mamba2"), make_texts()
    other = Texts(texts.calibration, texts.validation, make_texts(seed=9).test)
    without = Texts(texts.calibration, texts.validation, ())
    assert run(model, texts).to_dict() == run(model, other).to_dict() == run(model, without).to_dict()
    swapped = Texts(texts.validation, texts.calibration, texts.test)
    assert run(model, texts).history != run(model, swapped).history  # negative control


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "expected one of spsa"),
        ({"kind": "A"}, "expected one of a,"),
        ({"granularity": "heads"}, "expected one of model"),
        ({"start": "nowhere"}, "no such file"),
        ({"steps": 0}, "--steps 0"),
        ({"batch": 0}, "--batch 0"),
        ({"select_every": 0}, "--select-every 0"),
        ({"selection_windows": -1}, "--selection-windows -1"),
        ({"learning_rate": float("nan")}, "--learning-rate"),
        ({"perturbation": 0.0}, "--perturbation"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_bad_plans_are_refused(make_model, make_texts, changes, message):
    with pytest.raises(RefusedInputError, match=message):
        run(make_model("mamba2"), make_texts(), **changes)


def test_lengths_that_mean_nothing_are_refused(make_model, make_texts):
    model, texts = make_model("mamba2"), make_texts()
    with pytest.raises(RefusedInputError, match="twice the training length"):
        calibrate(model, texts, train_length=16, target_length=31)
    with pytest.raises(TextError, match="documents reach 4096"):
        calibrate(model, texts, train_length=16, target_length=4096, start="ones")


def test_the_package_does_not_hide_the_function_of_its_name():
    package = importlib.import_module("mambascope.analysis.calibration")  # offers itself to mambascope.analysis
    from mambascope import analysis

    assert analysis.calibrate is calibrate is package.calibrate
