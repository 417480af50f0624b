"""Test ``mambascope.figures.cli`` and its commands: the words, the JSON that scripts rely on, the exit codes."""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mambascope.figures.arguments import length, lengths
from mambascope.figures.cli import COMMANDS, main
from mambascope.spectra.zoo import text_files


def run(capsys, *words):
    code = main([str(w) for w in words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def rows_of(capsys, *words, key="rows"):
    code, out, err = run(capsys, *words, "--json")
    assert code == 0, err
    document = json.loads(out)  # exactly one JSON document on stdout
    return document[key]


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes(text_files("test")[0].read_bytes()[:3000])
    return path


def test_lengths_in_words():
    assert length("2048") == 2048
    assert length("2k") == 2048
    assert length("1M") == 2**20
    assert lengths("2k..8k") == [2048, 4096, 8192]
    assert lengths("3,1,2k..5k") == [1, 3, 2048, 4096]
    for wrong in ("", "0", "-1", "2kk", "8k..2k", "1.5k", "1,,2", "99999999999999"):
        with pytest.raises(argparse.ArgumentTypeError):
            lengths(wrong)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "usage: mambascope " + command in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["nothing"], ["norms"], ["norms", "mamba2-tiny", "--lengths", "x"]])
def test_wrong_usage_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_models_lists_what_is_bundled(capsys):
    models = rows_of(capsys, "models", key="models")
    lengths = {m["model"]: m["train_length"] for m in models}
    assert lengths == dict.fromkeys(("mamba-tiny", "mamba2-tiny", "mamba2-tiny-usual"), 256) | {"mamba2-recall": 512}
    assert all(m["parameters"] > 500_000 for m in models)


def test_evaluate_gives_the_promised_rows(capsys, book):
    rows = rows_of(
        capsys, "evaluate", "mamba2-tiny", "--task", "perplexity", "--text", book, "--lengths", "256,2048",
        "--methods", "none,spectrum,fresh-window,constant:8",
    )  # fmt: skip
    assert [(r["method"], r["length"]) for r in rows] == [
        (m, n) for m in ("none", "spectrum", "fresh-window", "constant:8") for n in (256, 2048)
    ]
    for r in rows:
        assert {"bits_per_token", "tail_bits_per_token", "perplexity", "tokens", "ci_low", "ci_high"} <= set(r)
        assert r["perplexity"] == pytest.approx(2 ** r["bits_per_token"])
        assert r["tokens"] == r["length"] - 1
    control = {r["length"]: r["tail_bits_per_token"] for r in rows if r["method"] == "fresh-window"}
    for r in rows:
        assert r["harm"] == pytest.approx(r["tail_bits_per_token"] - control[r["length"]], abs=1e-9)


def test_propose_writes_scales_that_evaluate_takes(capsys, tmp_path, book):
    out = tmp_path / "out"
    document = json.loads(run(capsys, "propose", "mamba2-tiny", "--target-length", "4k", "-o", out, "--json")[1])
    assert document["acts"] is True
    assert json.loads((out / "scales.json").read_text())["factors"][0]["kind"] == "a"
    assert json.loads((out / "manifest.json").read_text())["status"] == "finished"
    words = ["evaluate", "mamba2-tiny", "--text", book, "--lengths", "2048", "--scales", out / "scales.json"]
    by_file, by_name = rows_of(capsys, *words, "--methods", "scales,spectrum")
    assert by_file["bits_per_token"] == pytest.approx(by_name["bits_per_token"], abs=1e-3)
    code, _, err = run(capsys, "evaluate", "mamba-tiny", *words[2:])
    assert code == 3
    assert "were they made for another model?" in err


def test_a_stopped_evaluation_resumes_and_another_one_is_refused(capsys, tmp_path, book):
    words = ["evaluate", "mamba2-tiny", "--text", book, "--lengths", "512", "--methods", "none", "-o", tmp_path / "r"]
    first = rows_of(capsys, *words)
    table = (tmp_path / "r/tables/perplexity.csv").read_bytes()
    assert rows_of(capsys, *words) == first
    assert (tmp_path / "r/tables/perplexity.csv").read_bytes() == table
    words[words.index("512")] = "1024"
    code, _, err = run(capsys, *words)
    assert code == 3
    assert "--fresh" in err
    assert run(capsys, *words, "--fresh")[0] == 0


def test_norms_and_table_1(capsys, book):
    rows = rows_of(capsys, "norms", "mamba-tiny", "--text", book, "--lengths", "64,2k")
    assert len(rows) == 8
    assert all({"layer", "length", "max", "min", "mean"} <= set(r) and r["max"] >= r["mean"] >= r["min"] for r in rows)
    cells = rows_of(capsys, "norms", "mamba2-tiny", "--text", book, "--lengths", "64,2k", "--protocol", "table1")
    assert [c["length_tokens"] for c in cells] == [64, 2048]


def test_spectrum_static_and_effective(capsys, book):
    rows = rows_of(capsys, "spectrum", "mamba2-tiny")
    assert {r["kind"] for r in rows} == {"static"}
    rows = rows_of(capsys, "spectrum", "mamba2-tiny", "--text", book)
    assert [r["kind"] for r in rows] == ["static"] * 4 + ["effective"] * 4
    assert all(0 <= r["q0"] <= r["q50"] <= r["q100"] <= 1 for r in rows)


def test_figures_come_with_a_run_folder(capsys, tmp_path, book):
    assert run(capsys, "spectrum", "mamba2-tiny", "--text", book, "-o", tmp_path / "s")[0] == 0
    assert run(capsys, "norms", "mamba2-tiny", "--text", book, "--lengths", "64..2k", "-o", tmp_path / "n")[0] == 0
    for path in ("s/figures/spectrum.png", "s/figures/spectrum.pdf", "n/figures/norms.png", "n/tables/norms.csv"):
        assert (tmp_path / path).stat().st_size > 1000 or path.endswith("csv")


def bad_inputs(tmp_path):
    """Words, and what the one line on stderr must say."""
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "short.txt").write_bytes(b"too short")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 20)
    np.save(tmp_path / "far.npy", np.array([1, 5, 9999]))
    (tmp_path / "nothing").mkdir()
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "thesis.tex").write_text("mine")
    short, zoo_text = tmp_path / "short.txt", text_files("calibration")[0]
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "huge.json").write_text('{"format": 1, "factors": [{"kind": "a", "onset_tokens": 0, "values": 1e400}]}')
    np.savez(tmp_path / "many.npz", a=np.ones(3))
    (tmp_path / "late.json").write_text('{"format": 1, "factors": [{"kind": "a", "onset_tokens": -1, "values": 2}]}')
    return [
        (["spectrum", "mamba2-tinny"], "mamba2-tiny"),
        (["spectrum", tmp_path / "none"], "none"),
        (["spectrum", tmp_path / "nothing"], "config.json"),
        (["norms", "mamba2-tiny", "--text", tmp_path / "none.txt"], "none.txt"),
        (["norms", "mamba2-tiny", "--text", tmp_path / "empty.txt"], "empty"),
        (["norms", "mamba2-tiny", "--text", tmp_path / "binary.txt"], "zero bytes"),
        (["norms", "mamba2-tiny", "--text", tmp_path / "far.npy"], "token id 9999"),
        (["norms", "mamba2-tiny", "--text", short, "--lengths", "64"], "0 of 1 documents reach 64 tokens"),
        (["evaluate", "mamba2-tiny", "--methods", "magic"], "'magic'"),
        (["evaluate", "mamba2-tiny", "--methods", "constant:x"], "constant:a:2"),
        (["evaluate", "mamba2-tiny", "--methods", "constant:-1", "--lengths", "64"], "above 0"),
        (["evaluate", "mamba2-tiny", "--methods", "scales", "--lengths", "64"], "--scales"),
        (["evaluate", "mamba2-tiny", "--lengths", "1"], "at least 2 tokens"),
        (["evaluate", "mamba2-tiny", "--text", text_files("calibration")[0]], "same content"),
        (["evaluate", "mamba2-tiny", "--scales", tmp_path / "none.json"], "none.json"),
        (["propose", "mamba2-tiny", "--text", short], "twice the training length"),
        (["norms", "mamba2-tiny", "--text", tmp_path / "empty.npy"], "empty.npy"),
        (["evaluate", "mamba2-tiny", "--methods", "constant:1e300"], "from 1.26e-29 to 7.92e+28"),
        (["evaluate", "mamba2-tiny", "--train-length", "1"], "at least 2"),
        (["evaluate", "mamba2-tiny", "--threads", "-3"], "--threads"),
        (["evaluate", "mamba2-tiny", "--scales", tmp_path / "huge.json"], "huge.json"),
        (["evaluate", "mamba2-tiny", "--scales", tmp_path / "late.json"], "onset_tokens"),
        (["evaluate", "mamba2-tiny", "--text", zoo_text, zoo_text, "--methods", "none"], "give it once"),
        (["report", "mamba2-tiny", "--target-length", "300", "-o", tmp_path / "r"], "twice the training length"),
        (["report", "mamba2-tiny", "--target-length", "1m", "-o", tmp_path / "r"], "documents reach 1048576"),
        (["train", "mamba2-tiny", "--data", tmp_path / "none.txt", "-o", tmp_path / "t"], "none.txt"),
        (["train", "mamba2-tiny", "--data", short, "--steps", "0", "-o", tmp_path / "t"], "--steps 0"),
        (["propose", "mamba2-tiny", "--device", "tpu"], "'tpu'"),
        (["spectrum", "mamba2-tiny", "-o", stranger], "thesis.tex"),
        (["train", "no-recipe", "--data", short, "-o", tmp_path / "t"], "no-recipe"),
        (["verify", "theorem-42"], "did you mean theorem-4.2"),
        (["verify", "--trials", "10"], "expected 4096 to"),
        (["verify", "eq-6", "--engine", "spark"], "'spark'"),
        (["verify", "eq-6", "--jobs", "0"], "--jobs 0"),
        (["simulate", "--law", "uniform:0,2"], "uniform:0,2"),
        (["simulate", "--law", "cauchy:1"], "cauchy"),
        (["simulate", "--law", "point:nan"], "point:nan"),
        (["simulate", "--law", "model:mamba2-tiny/9"], "layer 9 of 4"),
        (["simulate", "--law", "model:mamba3-tiny"], "mamba3-tiny"),
        (["simulate", "--steps", "gamma:1"], "gamma:1"),
        (["simulate", "--steps", f"trace:{tmp_path / 'empty.npy'}"], "empty.npy"),
        (["simulate", "--steps", "markov:1,2/0.5,0.4/0.5,0.5"], "sum to 1"),
        (["simulate", "--trials", "1"], "at least 2"),
        (["simulate", "--channels", "0"], "at least 1"),
        (["simulate", "--law", "twopoint:0.5,0.9,nan"], "nan"),
        (["simulate", "--law", "uniform:0,0.5,0.9"], "uniform:LOW,HIGH"),
        (["simulate", "--law", "model:" + "x" * 5000], "model:xxx"),
        (["simulate", "--law-step", "inf"], "step inf"),
        (["simulate", "--variance", "inf"], "finite variance"),
        (["simulate", "--steps", "softplus:nan,1"], "nan"),
        (["simulate", "--steps", "markov:0.1,1/1,0/0,1"], "irreducible"),
        (["simulate", "--steps", f"trace:{tmp_path / 'many.npz'}"], "several arrays"),
        (["simulate", "--times", "2148m"], "2147483648"),
        (["simulate", "--trials", "1000000000000"], "134217728"),
        (["simulate", "--steps", "gamma:1,1", "--rho", "0.5", "--qmc", "64"], "--qmc needs a closed form"),
        (["verify", "--trials", "1000000000000"], "16777216"),
        (["verify", "eq-6", "--latex"], "--explain"),
        (["report", "mamba2-tiny", "--trials", "0", "-o", tmp_path / "r"], "--trials 0"),
        (["report", "mamba2-tiny", "--engine", "bogus", "-o", tmp_path / "r"], "'bogus'"),
        (["simulate", "--rho", "1"], "rho"),
        (["calibrate", "mamba2-tiny", "--method", "adam"], "expected one of spsa, spsa-paper"),
        (["calibrate", "mamba2-tiny", "--kind", "A"], "a_power"),
        (["calibrate", "mamba2-tiny", "--start", "nowhere"], "no such file"),
        (["calibrate", "mamba2-tiny", "--start", "random:1,0"], "random:0.75,1"),
        (["calibrate", "mamba2-tiny", "--steps", "0"], "--steps 0"),
        (["calibrate", "mamba2-tiny", "--target-length", "300"], "twice the training length"),
        (["calibrate", "mamba2-tiny", "--target-length", "1m", "--start", "ones"], "documents reach 1048576"),
        (["calibrate", "mamba2-tiny", "--validation", zoo_text], "same content"),
        (["calibrate", "mamba2-tiny", "--text", zoo_text], "same content"),
        (["calibrate", "mamba-tiny", "--kind", "dt", "--granularity", "state"], "belongs to a channel"),
        (["bake", "mamba2-tiny", "--scales", onset_scales(tmp_path), "-o", tmp_path / "b"], "an onset cannot be baked"),
    ]


def onset_scales(folder):
    (folder / "onset.json").write_text('{"format": 1, "factors": [{"kind": "a", "onset_tokens": 256, "values": 2}]}')
    return folder / "onset.json"


def test_bad_input_gives_one_line_and_exit_code_3(capsys, tmp_path):
    for words, message in bad_inputs(tmp_path):
        code, out, err = run(capsys, *words)
        told = [line for line in err.splitlines() if line.startswith("mambascope: ")]
        assert code == 3, (words, err)
        assert not out, words
        assert len(told) == 1, (words, err)
        assert message in told[0], (words, told)
        assert "Traceback" not in err
    assert (tmp_path / "stranger/thesis.tex").read_text() == "mine"


def test_verify_tells_people_and_scripts_what_it_found(capsys):
    words = ["verify", "theorem-4.2", "eq-6", "--trials", "16384", "--engine", "sequential"]
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert "theorem-4.2" in out
    assert "is true instead: E||h||^2 = (artanh lmax - artanh lmin)" in out
    assert "chance that a true form was rejected anywhere: at most 1e-06" in err
    verdicts = rows_of(capsys, *words, key="verdicts")
    assert [v["printed_holds"] for v in verdicts] == [True, False]
    assert all(v["corrected_holds"] for v in verdicts)


def test_verify_exits_with_4_when_a_claim_is_not_settled(capsys, monkeypatch):
    monkeypatch.setattr("mambascope.analysis.verification.derivation_failures", lambda key: ["an integral"])
    code, out, err = run(capsys, "verify", "eq-6", "--trials", "16384", "--engine", "sequential")
    assert code == 4
    assert "NO" in out
    assert "eq-6 (" in err
    assert "an integral" in err


def test_verify_explains_and_simulates_nothing(capsys, monkeypatch):
    monkeypatch.setattr("mambascope.analysis.verification.run_jobs", lambda *_, **__: pytest.fail("simulated"))
    code, out, _ = run(capsys, "verify", "--explain", "theorem-4.2")
    assert code == 0
    assert "as printed: E||h||^2 = log(" in out
    assert "(1)" in out
    assert "Therefore:" in out
    assert "⌠" in out
    _, latex, _ = run(capsys, "verify", "--explain", "theorem-4.2", "--latex")
    assert r"\begin{enumerate}" in latex
    (told,) = rows_of(capsys, "verify", "--explain", "theorem-4.2", key="claims")
    assert len(told["steps"]) > 5
    assert told["concludes"]


def test_verify_and_simulate_keep_a_run(capsys, tmp_path):
    for command, table in (
        (["verify", "theorem-4.2", "--trials", "8192"], "comparisons.csv"),
        (["simulate", "--law", "uniform:0,1-1e-8", "--times", "64,1k", "--trials", "500"], "simulation.csv"),
    ):
        out = tmp_path / command[0]
        words = [*command, "--engine", "sequential", "-o", out]
        assert run(capsys, *words)[0] == 0
        first = (out / "journal.jsonl").read_bytes()
        assert run(capsys, *words)[0] == 0  # the same command resumes: nothing is done again
        assert (out / "journal.jsonl").read_bytes() == first
        assert (out / "tables" / table).stat().st_size > 100
        code, _, err = run(capsys, *words, "--seed", "5")
        assert code == 3
        assert "different run" in err
    assert (tmp_path / "verify/figures/theory-claims.pdf").stat().st_size > 5000


def test_simulate_prints_exact_values_and_flags(capsys):
    words = ["simulate", "--law", "uniform:0,1-1e-8", "--times", "16,1k", "--trials", "1000", "--qmc", "256"]
    rows = rows_of(capsys, *words, "--engine", "sequential")
    assert [row["steps"] for row in rows] == [16, 1024]
    assert all(abs(row["z"]) < 5.5 for row in rows)
    assert not rows[1]["covered"]
    assert rows[0]["qmc"] == pytest.approx(rows[0]["exact"], rel=0.01)
    for law, steps in (("beta:2,2,0.1,0.9", "softplus:-2,1"), ("model:mamba2-tiny/1", "markov:.1,.9/.9,.1/.2,.8")):
        (row,) = rows_of(capsys, "simulate", "--law", law, "--steps", steps, "--times", "64", "--trials", "4000")
        assert abs(row["z"]) < 5.5
    (row,) = rows_of(
        capsys, "simulate", "--kind", "scalar_identity", "--law", "twopoint:0.3,0.95,0.25", "--mixing", "3",
        "--discretisation", "zoh", "--mean", "0.2", "--times", "64", "--trials", "4000",
    )  # fmt: skip
    assert abs(row["z"]) < 5.5


def test_a_recording_that_changed_is_another_run(capsys, tmp_path):
    np.save(tmp_path / "dt.npy", np.full(10, 0.1))
    words = ["simulate", "--steps", f"trace:{tmp_path / 'dt.npy'}", "--trials", "64", "-o", tmp_path / "run"]
    assert run(capsys, *words)[0] == 0
    assert run(capsys, *words)[0] == 0
    np.save(tmp_path / "dt.npy", np.full(10, 0.7))
    code, _, err = run(capsys, *words)
    assert code == 3
    assert "different run" in err


def test_what_overflows_is_a_numerical_failure_not_a_traceback(capsys):
    for words in (["--steps", "constant:1e200"], ["--variance", "1e300"]):
        code, out, err = run(capsys, "simulate", "--trials", "64", *words)
        assert code == 4
        assert not out
        assert "could not be computed" in err or "is inf" in err or "is nan" in err


def test_a_deterministic_recurrence_has_no_distance_in_standard_errors(capsys):
    (row,) = rows_of(capsys, "simulate", "--variance", "0", "--mean", "1", "--law", "point:0.5", "--trials", "300")
    assert row["z"] is None
    assert row["se"] == 0
    assert row["mean"] == pytest.approx(row["exact"])


def test_simulate_reads_recorded_steps(capsys, tmp_path):
    np.save(tmp_path / "dt.npy", np.full((2, 10), 0.1, dtype=np.float32))
    rows = rows_of(capsys, "simulate", "--law", "point:0.9", "--steps", f"trace:{tmp_path / 'dt.npy'}", "--times", "50")
    constant = rows_of(capsys, "simulate", "--law", "point:0.9", "--steps", "constant:0.1", "--times", "50")
    assert rows[0]["exact"] is None
    assert rows[0]["mean"] == pytest.approx(constant[0]["mean"], rel=1e-6)  # the same noise, steps rounded to float32


def test_what_a_run_depends_on_is_in_its_manifest(capsys, tmp_path, book):
    out = tmp_path / "run"
    words = ["norms", "mamba2-tiny", "--text", book, "--lengths", "64", "--threads", "1", "-o", out]
    assert run(capsys, *words, "--dtype", "float64")[0] == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["dtype"], manifest["threads"], manifest["device"]) == ("float64", 1, "cpu")
    assert sorted(i["role"] for i in manifest["inputs"]) == ["checkpoint", "checkpoint", "text", "tokenizer"]
    code, _, err = run(capsys, *words, "--dtype", "float32")
    assert code == 3
    assert "dtype" in err


def test_another_tokenizer_is_another_run(capsys, tmp_path, book):
    tokenizers = pytest.importorskip("tokenizers", reason="needs the tokenizers package")
    from mambascope.spectra.tokens import byte_level_tokenizer

    assert tokenizers
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for k, path in enumerate(files):
        document = json.loads(byte_level_tokenizer())
        document["model"]["vocab"] |= {"he": 250} if k else {}
        document["model"]["merges"] = [["h", "e"]] if k else []
        path.write_text(json.dumps(document))
    words = ["evaluate", "mamba2-tiny", "--text", book, "--lengths", "64", "--methods", "none", "-o", tmp_path / "r"]
    assert run(capsys, *words, "--tokenizer", files[0])[0] == 0
    code, _, err = run(capsys, *words, "--tokenizer", files[1])
    assert code == 3
    assert "different run" in err


def test_the_proposal_does_not_depend_on_the_lengths_asked_for(capsys, tmp_path):
    found = [
        rows_of(capsys, "evaluate", "mamba2-tiny", "--lengths", lengths, "--methods", "spectrum", "--batch", "4")[0]
        for lengths in ("512", "512,1k")
    ]
    assert found[0]["bits_per_token"] == pytest.approx(found[1]["bits_per_token"], abs=1e-6)
    code, out, _ = run(capsys, "evaluate", "mamba2-tiny", "--lengths", "64", "--methods", "spectrum", "--json")
    assert code == 0
    assert "remember more than the 256 tokens" in json.loads(out)["notes"][0]


def test_documents_left_out_are_told(capsys, tmp_path, book):
    other = tmp_path / "other.txt"
    other.write_bytes(text_files("test")[1].read_bytes()[:300])
    code, out, err = run(
        capsys, "evaluate", "mamba2-tiny", "--text", book, other, "--lengths", "64,2k", "--methods", " none"
    )
    assert code == 0
    assert "1 of 2 documents reach 2048 tokens" in err
    assert "documents" in out


def test_a_full_disk_behind_stdout_is_exit_code_5():
    code = "from mambascope.figures.cli import main; raise SystemExit(main(['models']))"
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_stops_early_is_no_error():
    command = f"{sys.executable} -c 'from mambascope.figures.cli import main; raise SystemExit(main())'"
    piped = f"{command} spectrum mamba-tiny | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_the_main_job_on_a_checkpoint_of_ones_own(capsys, tmp_path, monkeypatch, arch):
    import importlib.util
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "spectra" / "tiny.py")
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    folder = tiny.save_tiny(tmp_path / "my-model", arch)
    words = ["report", folder, "--target-length", "128", "-o", tmp_path / "out", "--engine", "sequential"]
    words += ["--calibration-steps", "2"]
    words += ["--trials", "16384"] if arch == "mamba2" else ["--no-theory"]
    monkeypatch.setattr("mambascope.analysis.verification.KEYS", ("theorem-4.2",))
    for role, split in (("text", "test"), ("calibration", "calibration"), ("validation", "validation")):
        path = tmp_path / f"{role}.txt"
        path.write_bytes(text_files(split)[0].read_bytes()[:700])
        words += [f"--{role}", path]
    (row,) = rows_of(capsys, *words)
    assert (row["model"], row["T"], row["L"]) == ("my-model", 16, 128)
    assert row["harm none"] is not None
    page = (tmp_path / "out/report.html").read_text()
    assert "my-model" in page
    assert ("What theory says" in page) == (arch == "mamba2")
    assert json.loads((tmp_path / "out/manifest.json").read_text())["status"] == "finished"
    names = {path.name for path in (tmp_path / "out/tables").iterdir()}
    assert {"perplexity.csv", "spectrum.csv", "norms.csv", "diagnosis.csv", "proposal.csv", "constants.csv"} <= names
    words[words.index("--calibration") + 1] = tmp_path / "text.txt"
    code, _, err = run(capsys, *words[:-1], words[-1], "--fresh")
    assert code == 3
    assert "same content" in err


def test_a_proposal_is_baked_and_the_result_is_a_model_and_a_run(capsys, tmp_path, book):
    assert run(capsys, "propose", "mamba2-tiny", "--target-length", "4k", "-o", tmp_path / "p")[0] == 0
    scales = tmp_path / "p/scales.json"
    for layout in ("transformers", "state-spaces"):
        out = tmp_path / layout
        words = ["bake", "mamba2-tiny", "--scales", scales, "--layout", layout, "-o", out]
        code, shown, err = run(capsys, *words, "--json")
        assert code == 0, err
        document = json.loads(shown)
        assert [(f["kind"], f["exactness"]) for f in document["folds"]] == [("a", "exact")]
        assert document["check"]["error"] <= 1e-5
        assert len(document["tensors"]) == 4
        names = {f["file"] for f in document["files"]}
        assert {"config.json", "README.md", "scales.json", "tokenizer.json", "mambascope.json"} < names
        assert (out / "scales.json").read_bytes() == scales.read_bytes()
        assert run(capsys, *words, "--json")[1] == shown  # the same command does nothing
        code, _, err = run(capsys, *words, "--no-check")
        assert code == 3
        assert "different run" in err
        evaluated = ["--text", book, "--lengths", "2k"]
        (plain,) = rows_of(capsys, "evaluate", "mamba2-tiny", *evaluated, "--methods", "scales", "--scales", scales)
        (baked,) = rows_of(capsys, "evaluate", out, *evaluated, "--methods", "none")
        assert baked["tail_bits_per_token"] == pytest.approx(plain["tail_bits_per_token"], abs=1e-5)
    code, shown, err = run(capsys, *words)
    assert code == 0
    assert "logits differ by" in err
    code, _, err = run(capsys, "bake", "mamba2-tiny", "--scales", scales, "-o", tmp_path / "p", "--fresh")
    assert code == 3
    assert "which is read" in err


def test_a_calibration_is_kept_resumed_and_evaluated(capsys, tmp_path):
    out, files = tmp_path / "c", text_files("validation")[:2]
    words = ["calibrate", "mamba2-tiny", "--start", "constant:100", "--target-length", "1k", "--steps", "3"]
    words += ["--batch", "1", "--selection-windows", "2", "--granularity", "layer", "--validation", *files, "-o", out]
    code, shown, err = run(capsys, *words, "--json")
    assert code == 0, err
    document = json.loads(shown)
    assert [row["step"] for row in document["rows"]] == [0, 1, 2, 3]
    assert document["selection"]["result"]["tail"] <= document["selection"]["start"]["tail"]
    assert document["provenance"] == json.loads((out / "scales.json").read_text())["provenance"]
    journal = (out / "journal.jsonl").read_bytes()
    code, shown, err = run(capsys, *words)  # the same command resumes: nothing is done again
    assert code == 0, err
    assert "selection_tail_bits" in shown
    assert "bits per token on selection windows of 1024 tokens" in err
    assert (out / "journal.jsonl").read_bytes() == journal
    code, _, err = run(capsys, *words, "--seed", "1")
    assert code == 3
    assert "different run" in err
    scored = ["evaluate", "mamba2-tiny", "--text", *files, "--lengths", "1k", "--methods", "scales", "--scales"]
    code, _, err = run(capsys, *scored, out / "scales.json")
    assert code == 3
    assert "fitted on or chosen by" in err
    stored = json.loads((out / "scales.json").read_text())
    del stored["provenance"]["texts_sha256"]  # only so can the two numbers be of one text
    (tmp_path / "forgetful.json").write_text(json.dumps(stored))
    (row,) = rows_of(capsys, *scored, tmp_path / "forgetful.json")
    assert row["tail_bits_per_token"] == document["selection"]["result"]["tail"]  # to the last digit
    words[words.index("constant:100")] = out / "scales.json"
    code, shown, err = run(capsys, *words[:-1], tmp_path / "again", "--method", "backprop", "--json")
    assert code == 0, err
    again = json.loads(shown)
    assert again["plan"]["start"] == "file"
    assert again["selection"]["start"] == document["selection"]["result"]


def test_diagnose_tells_people_and_scripts_which_layers_break(capsys, tmp_path, book):
    words = ("diagnose", "mamba2-tiny", "--text", book, "--target-length", "2k", "-o", tmp_path / "d")
    layers = rows_of(capsys, *words, key="layers")
    assert [row["layer"] for row in layers] == [0, 1, 2, 3]
    assert all(row["growth_predicted"] > 1.5 and row["modes_beyond_T"] >= 0.8 for row in layers)
    assert max(row["growth_measured"] for row in layers) > 3  # of one short text: a layer's last one is noisy
    heads = rows_of(capsys, *words, key="heads")  # the same command on the same folder reads what it kept
    assert len(heads) == 40
    assert {"rate", "horizon_tokens", "decay_second_per_token", "kappa", "norm_at_64", "norm_at_2048"} <= set(heads[0])
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert out.startswith("Breaks: at 2,048 tokens (8 times training)")
    assert max(len(line) for line in out.splitlines()) <= 80
    assert {p.name for p in (tmp_path / "d/tables").iterdir()} >= {"layers.csv", "heads.json"}
    told = rows_of(capsys, "diagnose", "mamba2-tiny-usual", "--text", book, "--target-length", "2k", key="words")
    assert told[0].startswith("Stays in range")


def test_propose_by_rule_and_goal_says_what_it_gives_up(capsys, tmp_path, book):
    ask = ("propose", "mamba-tiny", "--text", book, "--target-length", "2k")
    kept = {}
    for goal in ("perplexity", "balanced", "retrieval"):
        rows = rows_of(capsys, *ask, "--goal", goal, key="memory_rows")
        kept[goal] = np.mean([row["energy_older_after"] for row in rows])
    assert kept["perplexity"] < kept["balanced"] < kept["retrieval"]
    code, out, err = run(capsys, *ask, "--rule", "onset", "-o", tmp_path / "p")
    assert code == 0
    assert "memory: 256 tokens back" in err
    assert "cannot be baked" in err
    assert max(len(line) for line in out.splitlines()) <= 80
    stored = json.loads((tmp_path / "p/scales.json").read_text())
    assert stored["factors"][0]["onset_tokens"] == 256
    assert stored["provenance"]["rule"] == "onset"
    for wrong in (("--rule", "hard-clip:x"), ("--goal", "speed")):
        code, _, err = run(capsys, *ask, *wrong)
        assert (code, err.count("\n")) == (3, 1)


def test_the_rules_are_listed_without_a_model(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["propose", "--rules"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("soft-clip", "onset", "head-dt", "--goal retrieval is hard-clip:4"))
    assert max(len(line) for line in shown.splitlines()) <= 80
