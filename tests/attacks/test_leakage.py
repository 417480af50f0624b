"""Promise 13: what is reported was seen by nothing that was fitted; the same content in two roles is refused."""

import itertools
import json
import shutil

import numpy as np
import pytest

from tests.attacks.commands import refused, told
from tests.spectra.tiny import save_tiny

PARTS = ("calibration", "validation", "test")
AIM = ["--target-length", "64"]
COMMANDS = {
    "evaluate": ["--lengths", "64", "--methods", "spectrum"],
    "calibrate": [*AIM, "--steps", "1"],
    "starts": [*AIM, "--steps", "1"],
    "report": [*AIM, "--no-theory"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("leaks")
    save_tiny(base / "model", "mamba2")
    for part in PARTS:
        for k in range(2):
            (base / f"{part}{k}.txt").write_text(f"{part} {k}: whatever is in it is in no other text. " * 8)
    return base


def words_of(folder, command, texts):
    words = [command, folder / "model", *COMMANDS[command]]
    for part, paths in texts.items():
        words += ["--text" if part == "test" else f"--{part}", *paths]
    return words


def disguised(path, how, folder):
    """The same content under another name, and as another kind of file."""
    text = path.read_bytes()
    if how == "renamed":
        return shutil.copy(path, folder / "other.txt")
    if how == "ids":
        np.save(folder / "other.npy", np.frombuffer(text, np.uint8).astype(np.int32))
        return folder / "other.npy"
    (folder / "other.jsonl").write_text(json.dumps([1, 2, 3] * 90) + "\n" + json.dumps(list(text)) + "\n")
    return folder / "other.jsonl"


@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize("how", ["renamed", "ids", "second line"])
def test_the_same_content_in_two_roles_is_refused(folder, tmp_path, command, how):
    texts = {part: [folder / f"{part}{k}.txt" for k in range(2)] for part in PARTS}
    for one, other in itertools.permutations(PARTS, 2):
        leaking = texts | {other: [texts[other][0], disguised(texts[one][1], how, tmp_path)]}
        refused([*words_of(folder, command, leaking), "-o", tmp_path / "run"], "same content", one, other)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", list(COMMANDS))
def test_one_text_given_twice_is_not_two_texts(folder, tmp_path, command):
    texts = {part: [folder / f"{part}{k}.txt" for k in range(2)] for part in PARTS}
    for part in PARTS:
        twice = texts | {part: [*texts[part], disguised(texts[part][0], "renamed", tmp_path)]}
        refused([*words_of(folder, command, twice), "-o", tmp_path / "run"], "same content", "give it once")


def test_texts_that_differ_are_taken(folder, tmp_path):
    """Negative control: nothing but the content is looked at."""
    texts = {part: [folder / f"{part}{k}.txt" for k in range(2)] for part in PARTS}
    assert told(*words_of(folder, "evaluate", texts)).code == 0


def test_scales_are_not_scored_on_the_text_that_they_were_fitted_on(folder, tmp_path):
    """By another run, from their file, which says what the steps of the calibration read."""
    texts = {part: [folder / f"{part}{k}.txt" for k in range(2)] for part in PARTS}
    assert told(*words_of(folder, "calibrate", texts), "--start", "ones", "-o", tmp_path / "run").code == 0
    words = ["evaluate", folder / "model", "--lengths", "64", "--methods", "scales"]
    words += ["--scales", tmp_path / "run/scales.json", "--text"]
    for part in ("calibration", "validation"):  # what its steps read, and what the kept point was chosen on
        refused([*words, disguised(texts[part][1], "ids", tmp_path)], "same content", "fitted on or chosen")
    assert told(*words, *texts["test"]).code == 0


def test_a_proposal_is_not_scored_on_the_text_that_it_was_measured_on(folder, tmp_path):
    """Nor is one that leaves the model alone; a text too short to be followed was not read."""
    texts = {part: [folder / f"{part}{k}.txt" for k in range(2)] for part in PARTS}
    (tmp_path / "short.txt").write_text("of fewer tokens. ")
    measured = [*texts["calibration"], tmp_path / "short.txt"]
    for name, how in (("default", []), ("forced", ["--rule", "hard-clip:0.5"])):
        run = tmp_path / name
        assert told("propose", folder / "model", "--text", *measured, *AIM, *how, "-o", run).code == 0
        assert len(json.loads((run / "scales.json").read_text())["provenance"]["texts_sha256"]["calibration"]) == 2
        for given in (["scales", "--scales", run / "scales.json"], [f"scales:{run / 'scales.json'}"]):
            words = ["evaluate", folder / "model", "--lengths", "16", "--methods", *given, "--text"]
            leak = disguised(texts["calibration"][1], "ids", tmp_path)
            refused([*words, *texts["test"], leak], "same content", "fitted on or chosen")
            assert told(*words, *texts["test"], tmp_path / "short.txt").code == 0


def over_corpora(folder, data, methods):
    """The words of the two commands that read a corpus from its folder, and the plan of the second."""
    plan = f'models = ["{folder / "model"}"]\nlengths = [16, 64]\nmethods = ["{methods}"]\ncorpora = ["mine"]\n'
    (data.parent / "plan.toml").write_text(plan + f'data = "{data}"\n')
    aim = ["--corpora", "mine", "--lengths", "16,64", "--calibrate-at", "64", "--passkey-examples", "0", "--jobs", "1"]
    return {
        "compare": ["compare", folder / "model", "--data", data, "--methods", methods, *aim],
        "sweep": ["sweep", data.parent / "plan.toml", "--jobs", "1"],
    }


def corpus(folder, data):
    """The texts as a corpus, in the folders of its parts."""
    for part in PARTS:
        (data / "mine" / part).mkdir(parents=True)
        for k in range(2):
            shutil.copy(folder / f"{part}{k}.txt", data / "mine" / part)
    return data / "mine"


@pytest.mark.parametrize("command", ["compare", "sweep"])
def test_a_corpus_that_leaks_is_refused(folder, tmp_path, command):
    """Its folders hold plain texts, so that only the name can be another."""
    mine = corpus(folder, tmp_path / "data")
    words = [*over_corpora(folder, tmp_path / "data", "spectrum")[command], "-o", tmp_path / "run"]
    for one, other in itertools.permutations(PARTS, 2):
        leak = mine / other / "z.txt"
        shutil.copy(folder / f"{one}1.txt", leak)
        refused(words, "same content", one, other)
        assert not list((tmp_path / "run").glob("cells/*"))
        leak.unlink()
    for part in PARTS:
        shutil.copy(folder / f"{part}0.txt", mine / part / "z.txt")
        refused(words, "same content", "give it once")
        (mine / part / "z.txt").unlink()
    assert told(*words, "--dry-run").code == 0  # negative control: nothing but the content is looked at


@pytest.mark.parametrize("command", ["compare", "sweep", "passkey"])
def test_no_command_scores_scales_on_the_text_that_they_were_made_from(folder, tmp_path, command):
    """Whatever takes a file of scales as a method."""
    mine = corpus(folder, tmp_path / "data")
    made = told("propose", folder / "model", "--text", folder / "test1.txt", *AIM, "-o", tmp_path / "made")
    assert made.code == 0
    scales = f"scales:{tmp_path / 'made/scales.json'}"
    words = over_corpora(folder, tmp_path / "data", scales) | {
        "passkey": ["evaluate", folder / "model", "--task", "passkey", "--lengths", "256", "--methods", scales,
                    "--examples", "1", "--noise", *sorted((mine / "test").iterdir())],
    }  # fmt: skip
    words = words[command]
    refused([*words, "-o", tmp_path / "run"], "same content", "fitted on or chosen")
    assert not list((tmp_path / "run").glob("cells/*"))
    (mine / "test/test1.txt").write_text("another text, of which the scales know nothing. " * 9)
    assert told(*words, "--dry-run").code == 0
