"""Test the commands on models that mambascope has no forward of (``figures.foreign``)."""

import importlib.util
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from mambascope.figures.cli import main
from mambascope.spectra.foreign import forward
from mambascope.spectra.scales import scaling

_path = Path(__file__).parents[1] / "spectra" / "foreign" / "written_layouts.py"
_spec = importlib.util.spec_from_file_location("written_layouts", _path)
written = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(written)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers warns that its kernels are not installed
        yield


def run(capsys, *words):
    code = main([str(w) for w in words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture
def bamba(tmp_path):
    written.write_foreign(tmp_path / "bamba", "bamba", shards=2)
    return tmp_path / "bamba"


@pytest.fixture
def ids(tmp_path):
    np.save(tmp_path / "ids.npy", np.random.default_rng(0).integers(0, written.VOCAB, 100).astype(np.uint16))
    return tmp_path / "ids.npy"


def test_spectrum_from_the_files_alone(capsys, bamba, tmp_path, monkeypatch):
    monkeypatch.setattr(forward.importlib.util, "find_spec", lambda name: None)  # needs no transformers
    code, out, err = run(capsys, "spectrum", bamba, "--json", "-o", tmp_path / "r")
    assert code == 0, err
    document = json.loads(out)
    assert (document["model_type"], document["arch"]) == ("bamba", "mamba2")
    assert document["layers"] == ["mamba", "attention", "mamba", "mamba"]
    assert "forward" not in document
    assert [(row["layer"], row["kind"]) for row in document["rows"]] == [(i, "static") for i in (0, 2, 3)]
    assert all(row["bias_horizon_median_tokens"] > 0 for row in document["rows"])
    assert "Bamba: 4 layers: mamba 0, 2-3; attention 1" in err
    assert (tmp_path / "r/figures/spectrum.png").exists()
    with pytest.raises(SystemExit) as stop:
        main(["spectrum", str(bamba), "--dry-run"])
    assert stop.value.code == 0
    assert "runs no model" in capsys.readouterr().out


def test_spectrum_and_norms_by_watching_transformers_say_so(capsys, bamba, ids, tmp_path):
    pytest.importorskip("transformers")
    words = ["spectrum", bamba, "--text", ids, "--train-length", "16", "-o", tmp_path / "s", "--json"]
    code, out, err = run(capsys, *words)
    assert code == 0, err
    effective = [row for row in json.loads(out)["rows"] if row["kind"] == "effective"]
    assert [row["layer"] for row in effective] == [0, 2, 3]
    assert all(0 < row["q50"] < 1 and row["horizon_max_tokens"] > 0 for row in effective)

    words = ["norms", bamba, "--text", ids, "--lengths", "8,32,100", "-o", tmp_path / "n", "--json"]
    code, out, err = run(capsys, *words)
    assert code == 0, err
    document = json.loads(out)
    assert [(row["layer"], row["length"]) for row in document["rows"]] == [
        (layer, length) for length in (8, 32, 100) for layer in (0, 2, 3)
    ]
    said = "in blocks of 2048 tokens with its cache"
    assert said in err
    assert said in document["forward"]
    for folder in "sn":
        manifest = json.loads((tmp_path / folder / "manifest.json").read_text())
        assert manifest["command"]["forward"] == document["forward"]
        assert manifest["status"] == "finished"
    assert "layer 3" in (tmp_path / "n/figures/norms.csv").read_text()
    assert run(capsys, *words)[1] == out  # the same command resumes


def test_dry_runs_tell_the_memory_and_load_nothing(capsys, bamba, ids, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr(forward.ForeignModel, "load", None)
    words = ["norms", bamba, "--text", ids, "--lengths", "100", "-o", tmp_path / "n", "--dry-run"]
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in [*words, "--json"]])
    assert stop.value.code == 0
    memory = json.loads(capsys.readouterr().out)["memory"]
    assert memory["peak_bytes"] == sum(memory["parts"].values())
    numbers = sum(int(np.prod(shape)) for shape in written.shapes_of("bamba").values())
    assert memory["parts"]["weights"] == 4 * numbers
    assert not (tmp_path / "n").exists()
    code, _, err = run(capsys, "norms", bamba, "--text", ids, "--lengths", "100", "--max-memory", "1M")
    assert code == 5
    assert "needs about" in err


def test_what_is_missing_and_what_cannot_be_is_told(capsys, bamba, ids, tmp_path, monkeypatch):
    scales = tmp_path / "scales.json"
    scaling("a", 2.0).save(scales)
    code, _, err = run(capsys, "norms", bamba, "--text", ids, "--scales", scales)
    assert code == 3
    assert "mambascope bake" in err
    code, _, err = run(capsys, "norms", bamba, "--text", ids, "--protocol", "table1")
    assert code == 3
    for words in (["evaluate"], ["diagnose", "--train-length", "8"], ["calibrate", "-o", tmp_path / "c"]):
        code, _, err = run(capsys, words[0], bamba, *words[1:])
        assert code == 3
        assert "bamba" in err
        assert "what works on it: `mambascope spectrum`" in err
    monkeypatch.setattr(forward.importlib.util, "find_spec", lambda name: None)
    code, _, err = run(capsys, "norms", bamba, "--text", ids)
    assert code == 3
    assert 'pip install "transformers>=5.23"' in err


def test_bake_and_read_back(capsys, bamba, tmp_path):
    scales = tmp_path / "scales.json"
    scaling("a", [1.0, 4.0, 0.5]).save(scales)
    code, out, err = run(capsys, "bake", bamba, "--scales", scales, "-o", tmp_path / "b", "--json")
    assert code == 0, err
    assert json.loads(out)["rates_check"]["layers"] == 3
    rows = [json.loads(run(capsys, "spectrum", f, "--json")[1])["rows"] for f in (bamba, tmp_path / "b")]
    for before, after, s in zip(*rows, (1.0, 4.0, 0.5), strict=True):
        assert after["q100"] == pytest.approx(before["q100"] ** s, rel=1e-6)
        assert after["bias_horizon_max_tokens"] == pytest.approx(before["bias_horizon_max_tokens"] / s, rel=1e-6)
    code, _, err = run(capsys, "bake", bamba, "--scales", scales, "-o", tmp_path / "b")
    assert code == 0
    assert "logits were not compared" in err
    scaling("dt", 2.0).save(scales)
    code, _, err = run(capsys, "bake", bamba, "--scales", scales, "-o", tmp_path / "d")
    assert code == 3
    assert "gated norm" in err


def test_a_proposal_from_watched_states_bakes(capsys, bamba, ids, tmp_path):
    where = ["--train-length", "8", "--target-length", "64", "--text", ids, "--always"]
    code, out, err = run(capsys, "propose", bamba, *where, "-o", tmp_path / "p", "--json")
    assert code == 0, err
    assert "its scans are watched" in err
    document = json.loads(out)
    assert len(document["rows"]) == 3  # a row a Mamba layer
    code, _, err = run(capsys, "bake", bamba, "--scales", tmp_path / "p" / "scales.json", "-o", tmp_path / "b")
    assert code == 0, err
    rows = [json.loads(run(capsys, "spectrum", f, "--json")[1])["rows"] for f in (bamba, tmp_path / "b")]
    assert all(after["q100"] <= before["q100"] for before, after in zip(*rows, strict=True))
    assert any(after["q100"] < before["q100"] for before, after in zip(*rows, strict=True))
    code, _, err = run(capsys, "propose", bamba, *where, "--rule", "solved")
    assert code == 3
    assert "take one of kind 'a'" in err


def test_mamba_3_is_refused_with_the_reason(capsys, tmp_path):
    config = {"d_model": 64, "n_layer": 2, "vocab_size": 9, "ssm_cfg": {"layer": "Mamba3"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for command in ("spectrum", "norms", "evaluate"):
        code, _, err = run(capsys, command, tmp_path)
        assert code == 3
        assert "no static spectrum" in err
