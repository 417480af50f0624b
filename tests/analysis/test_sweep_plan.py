"""Test ``mambascope.analysis.sweep_plan``: what is written wrong is refused, with its line and what was meant."""

import pytest

from mambascope.analysis.sweep_plan import read_plan
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.scales import scaling

PLAN = """\
models = ["mamba-tiny", "x/y"]
lengths = ["T", 4096]
methods = ["none", "constants"]

[fit]
steps = 3

[train_length]
"x/y" = "2k"
"""


def read(tmp_path, text):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    return read_plan(path)


def test_a_plan_is_read_with_its_defaults(tmp_path):
    plan = read(tmp_path, PLAN)
    assert plan.lengths == ("T", 4096)
    assert (plan.corpora, plan.seeds, plan.tasks, plan.threads) == (("books",), (0,), ("perplexity",), 1)
    assert (plan.fit.steps, plan.fit.length, plan.fit.target) == (3, "16T", None)
    assert plan.train_length == {"x/y": "2k"}
    chosen = plan.chosen(tmp_path)
    assert list(chosen)[:2] == ["none", "constant:a:2"]
    assert chosen["constant:dt:best"].kind == "dt"


def test_files_of_scales_are_named_from_the_folder_of_the_plan(tmp_path, monkeypatch):
    scaling("a", 2.0).save(tmp_path / "mine.json")
    monkeypatch.chdir("/")
    plan = read(tmp_path, PLAN.replace('"constants"', '"scales:mine.json"'))
    assert plan.chosen(tmp_path)["scales:mine.json"].path == (tmp_path / "mine.json").resolve()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("lengths", "lenghts", r"plan.toml, line 2: unknown key 'lenghts': did you mean lengths\? "),
        ("steps", "step", r"line 6: unknown key 'step' in \[fit\]: did you mean steps\? Expected some of corpus"),
        ("[fit]", "[fits]", r"line 5: unknown key 'fits': did you mean fit\? "),
        ("steps = 3", "steps = 0", r"line 6: fit.steps: expected `int` >= 1"),
        ("steps = 3", 'steps = "3"', r"line 6: fit.steps: expected `int \| null`, got `str`"),
        ('["T", 4096]', '"T"', r"line 2: lengths: expected `array`, got `str`"),
        ('["T", 4096]', '["T", 1.5]', r"line 2: lengths\[1\]: expected `int \| str`, got `float`"),
        ('["T", 4096]', '["T", "T"]', r"line 2: lengths: 'T' is named twice"),
        ('["T", 4096]', "[]", "line 2: lengths: expected at least one"),
        ('"constants"', '"spectrom"', r"line 3: methods: method 'spectrom': did you mean spectrum\? "),
        ('"constants"', '"passkey:full"', "line 3: methods: 'passkey:full' is trained on prompts"),
        ('"x/y" = "2k"', '"x/z" = "2k"', "line 8: train_length: 'x/z' is none of the models"),
        ("models = ", "models == ", "is not TOML: .*line 1"),
        ('models = ["mamba-tiny", "x/y"]', "", "the plan: object missing required field `models`"),
    ],
)
def test_what_is_written_wrong_is_refused(tmp_path, old, new, told):
    assert old in PLAN
    with pytest.raises(RefusedInputError, match=told):
        read(tmp_path, PLAN.replace(old, new, 1))


def test_more_that_cannot_be_a_plan(tmp_path):
    with pytest.raises(RefusedInputError, match="cannot read the plan"):
        read_plan(tmp_path / "nothing.toml")
    with pytest.raises(RefusedInputError, match=r"tasks\[0\]: invalid enum value 'recall'"):
        read(tmp_path, 'tasks = ["recall"]\n' + PLAN)
    with pytest.raises(RefusedInputError, match=r"passkey.depths\[0\]: expected `float` <= 1"):
        read(tmp_path, PLAN + "[passkey]\ndepths = [2.0]\n")
    with pytest.raises(RefusedInputError, match=r"line 12: passkey.depths: 0.5 is named twice"):
        read(tmp_path, PLAN + "\n[passkey]\ndepths = [0.5, 1, 0.50]\n")
    with pytest.raises(RefusedInputError, match=r"line 12: passkey.depths: expected at least one"):
        read(tmp_path, PLAN + "\n[passkey]\ndepths = []\n")
    with pytest.raises(RefusedInputError, match=r"plan.toml, line 1: models: one is empty"):
        read(tmp_path, PLAN.replace("mamba-tiny", ""))
    with pytest.raises(RefusedInputError, match=r"plan.toml: brackets within brackets"):
        read(tmp_path, f"models = {'[' * 5000}{']' * 5000}\n")
    with pytest.raises(RefusedInputError, match=r"seeds\[0\]: expected `int` >= 0"):
        read(tmp_path, "seeds = [-1]\n" + PLAN)
