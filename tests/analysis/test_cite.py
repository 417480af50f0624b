"""Test ``analysis/cite.py``: what a run used is cited, and nothing else."""

import json
import re
from dataclasses import dataclass, field

import numpy as np
import pytest

from mambascope.analysis.cite import arch_of, cite_core, cite_methods, cite_run, fitted_on, together
from mambascope.analysis.methods import METHODS, Task, find_method, fit
from mambascope.analysis.methods.citations import CITATIONS
from mambascope.analysis.runs import InputFile, RunFolder
from mambascope.analysis.study import Texts
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.foreign.families import FAMILY_ARCHITECTURES
from mambascope.spectra.tokens import Document
from mambascope.spectra.zoo import FOLDER, text_files
from tests.spectra.tiny import tiny_model

PAPER, MAMBA, MAMBA2 = "lu2025mambamodulation", "gu2023mamba", "dao2024transformers"
OURS, TORCH = "mambascope", "ansel2024pytorch"


@pytest.fixture
def made(tmp_path):
    def make(command, *, cells=(), inputs=(), device="cpu"):
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        with RunFolder.open(folder, command=command, seed=0, inputs=list(inputs), device=device) as run:
            for cell in cells:
                run.cell(cell, dict)
        return folder

    return make


def keys(found):
    names = [each.citation.key for each in found]
    assert len(names) == len(set(names))
    return names


def test_an_evaluation_cites_model_and_methods(made):
    command = {"verb": "evaluate", "task": "perplexity", "model": "mamba-tiny"}
    folder = made(command | {"methods": ["none", "longmamba", "winsorize", "scales", "fresh-window"]})
    assert set(keys(cite_run(folder))) == {OURS, PAPER, MAMBA, TORCH, "ye2025longmamba", "fars2026winsorization"}
    used = {each.citation.key: each.used_for for each in cite_run(folder)}
    assert used["ye2025longmamba"] == ("method longmamba",)
    assert used[MAMBA] == ("the architecture of mamba-tiny",)
    assert used[TORCH][0].startswith("torch 2.")


@pytest.mark.parametrize(
    ("command", "cited"),
    [
        ({"verb": "verify", "claims": ["eq-6"], "trials": 9}, set()),
        ({"verb": "simulate", "law": "uniform:0,0.9", "kind": "diagonal"}, set()),
        ({"verb": "simulate", "law": "model:mamba2-tiny/1"}, {MAMBA2}),
        ({"verb": "spectrum", "model": "state-spaces/mamba2-130m"}, {MAMBA2, TORCH}),
        ({"verb": "spectrum", "model": "state-spaces/mamba-130m"}, {MAMBA, TORCH}),
        ({"verb": "spectrum", "model": "/gone"}, {MAMBA, MAMBA2, TORCH}),
        ({"verb": "evaluate", "task": "passkey", "model": "mamba-tiny"}, {MAMBA, TORCH, "benkish2024decimamba"}),
        ({"verb": "evaluate", "task": "longbench", "model": "mamba-tiny"}, {MAMBA, TORCH, "bai2023longbench"}),
        (
            {"verb": "calibrate", "model": "mamba-tiny", "plan": {"method": "spsa", "kind": "dt"}},
            {MAMBA, TORCH, "spall1992spsa", "azizi2025mambaextend"},
        ),
        (
            {"verb": "calibrate", "model": "mamba-tiny", "plan": {"method": "backprop", "kind": "a"}},
            {MAMBA, TORCH, "kingma2015adam"},
        ),
        (
            {"verb": "starts", "model": "mamba-tiny", "plan": {"methods": ["spsa"], "layer_methods": ["backprop"]}},
            {MAMBA, TORCH, "spall1992spsa", "kingma2015adam"},
        ),
        ({"verb": "propose", "model": "mamba-tiny", "rule": "soft-clip"}, {MAMBA, TORCH}),
        (
            {"verb": "propose", "model": "mamba-tiny", "rule": "winsorize-static:8"},
            {MAMBA, TORCH, "fars2026winsorization"},
        ),
        (
            {"verb": "report", "models": ["mamba-tiny", "mamba2-tiny"], "rules": False, "calibration": None},
            {MAMBA, MAMBA2, TORCH},
        ),
        (
            {"verb": "report", "models": ["mamba-tiny"], "rules": True, "calibration": [{"method": "backprop"}]},
            {MAMBA, TORCH, "fars2026winsorization", "azizi2025mambaextend", "kingma2015adam"},
        ),
        ({"verb": "train", "recipe": {"name": "mine", "arch": "mamba2"}}, {MAMBA2, TORCH}),
    ],
)
def test_every_command_cites_what_it_used(made, command, cited):
    assert set(keys(cite_run(made(command)))) == cited | {OURS, PAPER}


def test_methods_of_a_comparison_are_those_that_its_journal_has_fitted(made):
    folder = made(
        {"verb": "compare", "models": ["mamba2-tiny"]}, cells=["a/fit/decimamba", "a/fit/none", "a/constant/2"]
    )
    assert set(keys(cite_run(folder))) == {OURS, PAPER, MAMBA2, TORCH, "benkish2024decimamba"}
    with open(folder / "journal.jsonl", "ab") as journal:
        journal.write(b"torn off \xff")  # as a kill leaves it
    assert "benkish2024decimamba" in keys(cite_run(folder))


def test_methods_of_a_sweep_are_those_of_its_cells(made):
    folder = made({"verb": "sweep"})
    (folder / "cells").mkdir()
    (folder / "cells" / "ab.json").write_text(json.dumps({"facts": {"method": "longmamba:norm"}}))
    assert "ye2025longmamba" in keys(cite_run(folder))


def test_bundled_texts_are_cited_with_author_and_year_and_other_files_are_not(made, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("my own")
    bundled = next(path for path in text_files("test") if path.name.startswith("pg10321"))
    folder = made(
        {"verb": "norms", "model": "mamba-tiny"}, inputs=[InputFile.of("text", bundled), InputFile.of("text", mine)]
    )
    texts = [each for each in cite_run(folder) if each.citation.key not in {OURS, PAPER, MAMBA, TORCH}]
    (text,) = texts
    assert text.citation.key == "pg10321"
    assert dict(text.citation.fields) == {
        "author": "Henry Milner Rideout",
        "title": "Dragon's blood",
        "year": "1909",
        "howpublished": "Project Gutenberg, header and footer removed",
    }
    assert text.used_for == ("text text, the excerpt that mambascope bundles",)


def test_every_bundled_text_makes_an_entry_of_its_own(made):
    files = [path for corpus in ("books", "gov") for part in ("calibration", "validation", "test")
             for path in text_files(part, corpus)]  # fmt: skip
    folder = made({"verb": "compare", "models": []}, inputs=[InputFile.of("text", path) for path in files])
    found = [each for each in cite_run(folder) if "bundles" in each.used_for[0]]
    assert len(keys(found)) == len(files)
    for each in found:
        assert dict(each.citation.fields)["title"]
        assert not re.search(r"(?<!\\)[&%#_$]", each.citation.bibtex().partition(",")[2])


@pytest.mark.parametrize(
    ("methods", "roles"),
    [
        (["none", "constant:a:2", "winsorize", "scales:/gone/scales.json", "decimamba:1"], set()),
        (["none", "spectrum"], {"calibration"}),
        (["constant:a:best"], {"validation"}),
        (["decimamba", "longmamba"], {"calibration", "validation"}),
        (["mambaextend"], {"calibration", "validation"}),
    ],
)
def test_texts_for_methods_are_cited_where_a_method_was_fitted_on_them(made, methods, roles):
    """LongBench and passkey runs name them in any case: a folder takes more methods later."""
    inputs = [InputFile.of(role, text_files(role)[0]) for role in ("calibration", "validation")]
    inputs += [InputFile.of("noise", text_files("test")[0])]
    for task in ("longbench", "passkey"):
        command = {"verb": "evaluate", "task": task, "model": "mamba-tiny"}
        folder = made(command, cells=[f"fit/{name}" for name in methods], inputs=inputs)
        used = " ".join(why for each in cite_run(folder) for why in each.used_for if "bundles" in why)
        assert {role for role in ("calibration", "validation") if f"{role} text" in used} == roles
        assert "noise text" in used
    named = made({"verb": "evaluate", "task": "perplexity", "methods": methods}, inputs=inputs)
    used = [why for each in cite_run(named) for why in each.used_for if "bundles" in why]
    assert len(used) == 1 + len(roles)


@dataclass
class WatchedTexts:
    """Says which sets were looked at."""

    texts: Texts
    seen: set = field(default_factory=set)

    def __getattr__(self, role):
        self.seen |= {role} & {"calibration", "validation"}
        return getattr(self.texts, role)


def test_methods_are_fitted_on_what_is_cited(tmp_path):
    model = tiny_model("mamba2", vocab_size=264, ngroups=1)
    texts = {
        role: tuple(Document(path.name, np.frombuffer(path.read_bytes()[:4000], np.uint8)) for path in text_files(role))
        for role in ("calibration", "validation")
    }
    names = [name for name in METHODS if not name.startswith("passkey:")]
    for name in [*names, "constant:dt:best", "constant:2", "rule:soft-clip", "decimamba:1", "winsorize:5"]:
        watched = WatchedTexts(Texts(**texts, test=()))
        with RunFolder.open(tmp_path / "run", command={"fit": name}, seed=0, fresh=True) as run:
            fit(find_method(name), Task(model, watched, 64, (64, 128), 128, steps=1, run=run))
        assert watched.seen == fitted_on(name), name


def test_kernels_are_cited_on_a_gpu_alone(made, monkeypatch):
    monkeypatch.setattr("mambascope.analysis.manifest.version_of", lambda name: "2.3.2" if name == "mamba-ssm" else "9")
    command = {"verb": "norms", "model": "mamba2-tiny"}
    on_gpu = {each.citation.key: each.used_for for each in cite_run(made(command, device="cuda"))}
    assert on_gpu[MAMBA2][1] == "the kernels of mamba-ssm 2.3.2, which run on a GPU where they can"
    assert len({each.citation.key: each.used_for for each in cite_run(made(command))}[MAMBA2]) == 1


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RefusedInputError, match=r"holds no manifest.json, so it is no run folder"):
        cite_run(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(RefusedInputError, match="manifest"):
        cite_run(tmp_path)


def test_architectures_are_read_from_config_json_alone(tmp_path):
    for config, arch in (
        ({"model_type": "mamba2"}, "mamba2"),
        ({"model_type": "mamba"}, "mamba"),
        ({"ssm_cfg": {"layer": "Mamba2"}}, "mamba2"),
        ({"ssm_cfg": {}}, "mamba"),
        ({"ssm_cfg": None}, "mamba"),
        *(({"model_type": family}, arch) for family, arch in FAMILY_ARCHITECTURES.items()),
        ({"model_type": "llama"}, None),
        ([], None),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert arch_of(str(tmp_path)) == arch
    assert all(arch_of(path.parent.name) for path in FOLDER.glob("*/config.json"))


def test_a_source_is_printed_once_with_all_it_was_used_for():
    found = together([*cite_methods(["longmamba", "longmamba:norm", "none"]), *cite_core("1.0")])
    assert keys(found) == ["ye2025longmamba", OURS, PAPER]
    text = found[0].bibtex()
    assert text.startswith("% method longmamba; method longmamba:norm\n@inproceedings{ye2025longmamba,\n")
    assert found[0].to_dict()["fields"]["year"] == "2025"


def test_entries_are_whole():
    for key, citation in CITATIONS.items():
        fields = dict(citation.fields)
        assert citation.key == key
        assert fields["year"].isdecimal()
        assert fields["author"]
        assert fields["title"]
        text = citation.bibtex()
        assert text.count("{") == text.count("}")
