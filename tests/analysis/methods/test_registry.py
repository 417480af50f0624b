"""analysis/methods/registry.py: every name finds its method, and a typo is told the nearest."""

import pytest

from mambascope.analysis.methods import METHODS, SETS, chosen_methods, find_method
from mambascope.analysis.methods.citations import CITATIONS
from mambascope.spectra.errors import RefusedInputError


@pytest.mark.parametrize("name", [*SETS["all"], *METHODS, "constant:dt:0.25", "rule:hard-clip:4"])
def test_a_name_finds_the_method_of_that_name(name):
    assert find_method(name).name == name


def test_a_constant_without_a_kind_is_one_on_A():
    assert find_method("constant:2").name == "constant:a:2"
    assert find_method("constant:best").name == "constant:a:best"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("spektrum", "did you mean spectrum?"),
        ("mambaextent", "did you mean mambaextend?"),
        ("fresh_window", "did you mean fresh-window?"),
        ("constant:apower:2", "did you mean constant:a_power:2?"),
        ("constant:a:two", "a number above 0 or best"),
        ("constant:a:-1", "a number above 0 or best"),
        ("constant:a:inf", "a number above 0 or best"),
        ("constant", "constant:KIND:S"),
        ("rule:soft", "soft-clip"),
        ("scales:not-there.json", "no file not-there.json"),
    ],
)
def test_what_is_no_method_is_refused_with_a_hint(name, told):
    with pytest.raises(RefusedInputError, match=told.replace("?", r"\?")):
        find_method(name)


def test_sets_and_names_mix_and_each_method_comes_once():
    names = [method.name for method in chosen_methods(["spectrum", "constants", "constant:a:2", "calibrated"])]
    assert names[0] == "spectrum"
    assert len(names) == len(set(names)) == 1 + len(SETS["constants"]) + len(SETS["calibrated"])
    with pytest.raises(RefusedInputError, match="no method"):
        chosen_methods([])


@pytest.mark.parametrize("name", [*SETS["all"], "rule:winsorize"])
def test_a_method_says_what_it_does_and_where_each_number_is_from(name):
    method = find_method(name)
    described = method.describe()
    assert described.words
    assert all(setting.value and setting.origin for setting in described.settings)
    for citation in method.cite():
        assert CITATIONS[citation.key] is citation
        assert citation.bibtex().startswith(f"@{citation.kind}{{{citation.key},")
        assert citation.bibtex().count("{") == citation.bibtex().count("}")


def test_published_methods_name_their_source():
    assert find_method("mambaextend").cite()[0].key == "azizi2025mambaextend"
    for name in ("mamba-modulation", "mamba-modulation:a", "constant:a:2"):
        assert find_method(name).cite()[0].key == "lu2025mambamodulation"
    assert not find_method("none").cite()
