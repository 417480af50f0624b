"""Test ``mambascope.analysis.longbench.samples`` and ``files``: strict reading, folders, zip files and the hub."""

import zipfile

import pytest

from mambascope.analysis.longbench.files import DataFiles
from mambascope.analysis.longbench.samples import read_samples
from mambascope.analysis.longbench.tasks import TASKS
from mambascope.spectra.errors import RefusedInputError, TextError
from tests.analysis.longbench.made_up import CLASSES, fill, jsonl, line

QASPER, TREC = TASKS["qasper"], TASKS["trec"]
READY = {"task": "qasper", "id": "r1", "prompt": "Read: x\nQuestion: y?", "answers": ["z"]}


def read(task, *lines):
    return read_samples(jsonl(*lines), task, "made/up.jsonl")


def test_a_sample_of_the_official_schema():
    (first, second) = read(QASPER, line("qasper"), line("qasper", 1))
    assert (first.index, first.id, second.index, second.id) == (0, "qasper-0", 1, "qasper-1")
    assert first.prompt == QASPER.filled(line("qasper")["context"], "Which colour is the box?")
    assert first.answers == ("blue", "dark blue")
    assert first.words == line("qasper")["length"]
    assert not first.ready_made
    assert read(TREC, line("trec"))[0].classes == tuple(CLASSES)


def test_longbench_e_and_ready_made_prompts():
    assert len(read(QASPER, line("qasper", dataset="qasper_e"))) == 1
    (sample,) = read(QASPER, READY)
    assert (sample.prompt, sample.answers, sample.words, sample.ready_made) == (READY["prompt"], ("z",), 4, True)


def test_letters_of_any_script_and_signs_that_end_lines_elsewhere():
    text = "Zürich 東京\u2028\x85 “x”"
    (sample,) = read(QASPER, line("qasper", context=text, answers=["東京"]))
    assert text in sample.prompt
    windows = jsonl(line("qasper"), line("qasper", 1)).replace(b"\n", b"\r\n") + b"\r\n"
    assert len(read_samples(windows, QASPER, "w")) == 2


def without(name):
    return {key: value for key, value in line("qasper").items() if key != name}


@pytest.mark.parametrize(
    ("task", "bad", "told"),
    [
        ("qasper", without("answers"), "missing required field `answers`"),
        ("qasper", without("_id"), "missing required field `_id`"),
        ("qasper", line("qasper", extra=1), "unknown field `extra`"),
        ("qasper", line("qasper", answers="blue"), r"Expected `array`, got `str` - at `\$.answers`"),
        ("qasper", line("qasper", length="9"), r"Expected `int`, got `str` - at `\$.length`"),
        ("qasper", line("qasper", answers=[]), "has no answer"),
        ("qasper", line("hotpotqa"), "is of the data set 'hotpotqa'"),
        ("trec", line("trec", all_classes=None), "has an answer that is not among all_classes"),
        ("trec", line("trec", answers=["Colour"]), "has an answer that is not among all_classes"),
        ("trec", READY | {"task": "trec"}, "has an answer that is not among all_classes"),
        ("qasper", READY | {"prompt": ""}, "has an empty prompt"),
        ("qasper", READY | {"context": "x"}, "unknown field `context`"),
        ("qasper", ["a list"], "Expected `object`, got `array`"),
    ],
)
def test_a_bad_line_is_named(task, bad, told):
    good = line(task, 7)
    with pytest.raises(TextError, match=rf"^made/up\.jsonl: line 2: .*{told}"):
        read(TASKS[task], good, bad)


DEEP = pytest.param(b'{"x": ' + b"[" * 100_000, id="deep")


@pytest.mark.parametrize("bad", [b"{", b'{"input": "\xff"}', b"null", b'{"input": "\\ud800"}', DEEP])
def test_what_is_no_json_is_named(bad):
    with pytest.raises(TextError, match=r"^x: line 3: "):
        read_samples(jsonl(line("qasper")) + b"\n" + bad + b"\n", QASPER, "x")


def test_a_sample_given_twice_and_an_empty_file_are_refused():
    with pytest.raises(TextError, match=r"line 3: has the same _id as line 1 \(qasper-0\)"):
        read(QASPER, line("qasper"), line("qasper", 1), line("qasper"))
    with pytest.raises(TextError, match="x: empty; expected one sample a line"):
        read_samples(b"\n \n", QASPER, "x")


def test_a_folder_may_hold_some_of_the_tasks(tmp_path):
    data = DataFiles.find(fill(tmp_path / "some", ["lcc", "qasper"]))
    assert [task.name for task in data.chosen()] == ["qasper", "lcc"]
    assert data.read(QASPER).startswith(b'{"input"')
    assert [path.name for path in data.paths(data.chosen())] == ["qasper.jsonl", "lcc.jsonl"]
    with pytest.raises(RefusedInputError, match=r"holds no trec\.jsonl"):
        data.chosen(["qasper", "trec"])
    with pytest.raises(RefusedInputError, match=r"holds no qasper_e\.jsonl, "):
        DataFiles.find(tmp_path / "some", extended=True).chosen()


def test_longbench_e_has_files_of_its_own(tmp_path):
    data = DataFiles.find(fill(tmp_path / "e", ["trec"], suffix="_e"), extended=True)
    assert [task.name for task in data.chosen()] == ["trec"]
    assert data.name_of(TREC) == "trec_e.jsonl"


def zipped(folder, place, prefix="data/"):
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, prefix + path.name)
    return place


@pytest.mark.parametrize("prefix", ["data/", ""])
def test_a_zip_file_reads_like_a_folder(tmp_path, prefix):
    folder = fill(tmp_path / "data", ["qasper", "trec"])
    data = DataFiles.find(zipped(folder, tmp_path / "data.zip", prefix))
    assert data.read(TREC) == (folder / "trec.jsonl").read_bytes()
    assert data.paths(data.chosen()) == [tmp_path / "data.zip"]
    assert DataFiles.find(tmp_path).read(TREC) == data.read(TREC)  # a folder that has `data` in it


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
    with pytest.raises(RefusedInputError, match="there is no such folder or zip file"):
        DataFiles.find(tmp_path / "none")
    (tmp_path / "text").write_text("x")
    with pytest.raises(RefusedInputError, match="neither a folder nor a zip file"):
        DataFiles.find(tmp_path / "text")
    place = zipped(fill(tmp_path / "data", ["qasper"]), tmp_path / "data.zip")
    broken = bytearray(place.read_bytes())
    at = broken.index(b"qasper.jsonl") + 40
    broken[at] ^= 255
    (tmp_path / "broken.zip").write_bytes(broken)
    with pytest.raises(TextError, match=r"broken\.zip/qasper\.jsonl: cannot be unpacked"):
        DataFiles.find(tmp_path / "broken.zip").read(QASPER)
    monkeypatch.setattr("mambascope.analysis.longbench.files.LARGEST_BYTES", 100)
    for where in (tmp_path / "data.zip", tmp_path / "data"):
        with pytest.raises(TextError, match="more than 100 bytes"):
            DataFiles.find(where).read(QASPER)


def test_the_hub_gives_the_official_zip_file(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    place, asked = zipped(fill(tmp_path / "data", ["qasper"]), tmp_path / "data.zip"), []
    monkeypatch.setattr(hub, "hf_hub_download", lambda *a, **k: asked.append((a, k)) or str(place))
    assert DataFiles.find("hub").read(QASPER)
    assert asked == [(("THUDM/LongBench", "data.zip"), {"repo_type": "dataset"})]

    def unreachable(*_, **__):
        raise OSError("no way there")

    monkeypatch.setattr(hub, "hf_hub_download", unreachable)
    with pytest.raises(TextError, match=r"the hub gave OSError: 'no way there'; check the network"):
        DataFiles.find("hub")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(TextError, match=r"mambascope\[hub\]"):
        DataFiles.find("hub")
