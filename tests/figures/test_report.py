"""figures/report.py: one file, offline, its numbers those of the rows, the same bytes each time."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from mambascope.analysis.rules import find_rule
from mambascope.figures.cli import build_parser
from mambascope.figures.gallery import drawings
from mambascope.figures.report import report_html, write_report
from mambascope.figures.verdict import harm_text, judge, signed

MADE_BY = {
    "mambascope": "9.9",
    "command": {"verb": "report", "models": ["<b>x</b>"]},
    "seed": 7,
    "device": "cpu",
    "dtype": "float32",
    "inputs": [{"role": "text", "name": "<i>.txt", "bytes": 3, "sha256": "ab" * 32}],
    "versions": {"torch": "2.0"},
    "changes": ["torch: 1 -> 2"],
}
REST = ("horizons", "norms", "vector-norms", "curves", "tail", "scales", "constants")
HOSTILE = "<script>alert('x')</script>\" onload=\"$title${"


class Page(HTMLParser):
    """Collects what a browser would load, text, ids, and tags that stay open."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.ids, self.open, self.tags, self.texts, self.alts = [], [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.loads += [attrs[name] for name in ("src", "href", "data", "srcset", "action") if name in attrs]
        if tag == "img":
            self.alts.append(attrs.get("alt", ""))
        assert not [name for name in attrs if name.startswith("on")], "no inline handlers"
        if tag not in {"meta", "img", "br", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def shown(studies, rules_of, refined_of, forecast_of):
    """With rules and calibrated scales, left alone, and with neither; forecasts of the first two."""
    whole = refined_of(dataclasses.replace(studies["mamba2"], rules=rules_of(studies["mamba2"])))
    return {"mamba2": forecast_of(whole), "alone": forecast_of(studies["alone"]), "single": studies["single"]}


@pytest.fixture(scope="module")
def html(shown):
    return report_html(list(shown.values()), MADE_BY)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def text_of(page):
    return re.sub(r"\s+", " ", "".join(page.texts))


def test_it_is_one_file_that_loads_nothing(html, page):
    assert all(each.startswith(("data:image/svg+xml;base64,", "#")) for each in page.loads)
    assert "link" not in page.tags
    assert not re.search(r"url\(|@import|https?://", html)
    assert len(html.encode()) < 4e6


def test_it_is_well_formed(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {each[1:] for each in page.loads if each.startswith("#")} <= set(page.ids)
    assert page.tags.count("h1") == 1


def test_every_figure_has_a_text_for_those_who_cannot_see_it(page, shown):
    # of all models one; rules, calibration, forecasts; no factors where there are none
    assert len(page.alts) == 1 + 8 * len(shown) + 2 + 2 - 1
    assert all(re.search(r"\d", alt) for alt in page.alts)


def test_numbers_are_those_of_the_rows(html, page, shown):
    text = text_of(page)
    for study in shown.values():
        assert judge(study).word in text
        for row in study.rows:
            if row.method == "fresh-window" or (row.method == "spectrum" and not study.proposal.acts):
                continue
            assert harm_text(row) in text
            assert f'data-value="{row.harm!r}"' in html
        for row in study.rows:
            if row.length == study.target_length:
                assert f'data-value="{row.tail_bits_per_token!r}">{row.tail_bits_per_token:.4f}<' in html
                assert f'data-value="{row.perplexity!r}"' in html
        for row in study.proposal.rows():
            assert f'data-value="{row["horizon_max_after_tokens"]!r}"' in html
        assert study.proposal.reason[1:] in text


def test_it_tells_what_was_left_alone_and_what_the_grid_leaves_open(page):
    text = text_of(page)
    assert "Nothing. Left alone: at 16 times the training length" in text
    assert text.count("So no rules were compared and no scales were refined on text.") == 1
    assert "It is the largest of the grid tried" in text
    assert "one document: no interval" in text


def test_commands_can_be_typed(page):
    text = "".join(page.texts)
    for line in (
        "propose two/tiny --target-length 1k -o scales-two-tiny",
        "calibrate two/tiny --method backprop --start scales-two-tiny/scales.json --target-length 1k "
        "-o calibrated-two-tiny",
        "evaluate two/tiny --scales calibrated-two-tiny/scales.json --methods none,spectrum,scales,fresh-window "
        "--lengths 64,256,1k",
        "bake two/tiny --scales scales-two-tiny/scales.json -o baked-two-tiny",
        "norms two/tiny --lengths 64,256,1k",
        "evaluate alone --lengths 64,256,1k",
    ):
        assert f"mambascope {line}" in text
        build_parser().parse_args(line.split())  # as the program takes it
    assert "calibrate alone" not in text


def test_rules_are_judged_in_words_and_in_full(html, page, shown):
    text, found = text_of(page), shown["mamba2"].rules
    assert "books (4 documents), gov (3 documents), the first 256, 1k tokens" in text
    assert "math was left out: none of its 2 documents reaches 1,024." in text
    assert "The default, soft-clip, has the least worst harm of these." in text
    for row in found.summary():
        assert f'data-value="{row["harm_worst"]!r}"' in html
        assert f'data-value="{100 * row["energy_older"]!r}"' in html
        assert f'data-value="{row["saved_at_52"]!r}"' in html
    for row in found.texts:
        assert f'data-value="{row["harm"]!r}"' in html
    assert "rules" not in page.ids  # one model has no table over all models


def test_over_models_the_worst_counts(studies, rules_of):
    one, two = (dataclasses.replace(studies[n], rules=rules_of(studies[n])) for n in ("mamba2", "mamba"))
    two.rules.texts[0]["harm"] = 0.75
    page = Page(report_html([one, two], MADE_BY))
    assert "rules" in page.ids
    assert "#rules" in page.loads
    text = text_of(page)
    assert "Rules on two/tiny, one-tiny: worst over models" in text
    assert "The default, soft-clip, is not the first of these" in text
    assert "A rule may be the default if it can be baked into all 2 models" in text


def test_calibration_is_told_with_its_paired_interval(html, page, shown):
    text, refined = text_of(page), shown["mamba2"].refined
    row = refined.gain(1024)
    assert f"at 1k tokens {signed(row.harm)} [{signed(row.harm_ci_low)}, {signed(row.harm_ci_high)}]" in text
    assert "Calibration gained: the whole interval lies below zero." in text
    assert refined.memory.sentence() in text
    assert f'data-value="{shown["mamba2"].harm("calibrated")!r}"' in html


def test_the_forecast_stands_between_the_breakdown_and_the_proposal(html, page, shown):
    text = text_of(page)
    assert text.count("Could it have been known?") == 2  # nothing was foretold for the third
    first = text[: text.index("Could it have been known?")]
    assert "Beyond the training length" in first
    assert "What was proposed, and why" not in first
    for name in ("mamba2", "alone"):
        found = shown[name].forecast
        assert found.forecast.sentence() in text
        for row in found.measured[1:]:
            assert f'data-value="{row.harm!r}"' in html
            assert f'data-value="{found.forecast.harm(row.length)!r}"' in html


def test_how_it_was_made(page):
    text = text_of(page)
    for fact in ("9.9", "ab" * 32, "versions.torch", "2.0", "torch: 1 -> 2", 'models = ["<b>x</b>"]', "<i>.txt"):
        assert fact in text


def test_what_nobody_reads_at_first_is_folded_and_what_is_not_known_left_out(html, shown):
    for folded in ("Command, as it was understood", "Files read: 1"):
        assert f"<details><summary>{folded}</summary>" in html
    assert "<dt>seed</dt><dd>7</dd>" in html
    assert "<dt>seed</dt>" not in report_html([shown["single"]], MADE_BY | {"seed": None})


def test_terms_are_explained_before_they_are_used(html):
    start = html[: html.index("In short</h2>")]
    for term in ("T, L", "mode", "horizon", "energy", "fresh-window control", "harm", "best constant", "calibrated"):
        assert f"<dt>{term}</dt>" in start
    assert "<em>gov</em>" in start


def test_a_rule_is_told_with_its_formula(page, shown):
    rule = find_rule(shown["mamba2"].proposal.rule)
    assert f"Rule: {rule.name} ({rule.description})." in text_of(page)


def test_hostile_names_stay_text(make):
    study = make(HOSTILE)
    page = Page(report_html([study], MADE_BY | {"seed": HOSTILE}))
    assert page.tags.count("script") == 2  # the page's own, and the numbers of a map, which is no program
    assert "b" not in page.tags
    assert "i" not in page.tags
    assert HOSTILE in "".join(page.texts)
    assert "-o scales-script-alert-x-script-onload-title" in "".join(page.texts)


def test_the_script_asks_for_nothing_and_makes_no_html(html):
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert "querySelector" in script
    assert not re.search(r"fetch|XMLHttp|WebSocket|import|eval|Function|innerHTML|outerHTML|document\.write", script)


def test_the_five_answers_stand_before_everything_else(html, page):
    assert html.index("Where does it break?") < html.index("In numbers") < html.index('id="model-1"')
    assert "models" in html
    assert 'id="model-1-map"' in html
    assert page.tags.count("canvas") == 3


def test_equal_studies_give_equal_bytes_and_files_belong_to_the_run(make, run):
    path = write_report(run, [make()], run.made_by())
    first = {name: (run.folder / name).read_bytes() for name in run.manifest.outputs}
    assert path == run.folder / "report.html"
    assert set(first) >= {"report.html", "figures/tiny-curves.pdf", "figures/tiny-spectrum.png"}
    assert first["report.html"].decode() == report_html([make()], run.made_by())
    for volatile in (run.manifest.host, run.manifest.started_utc, str(run.folder)):
        assert volatile not in first["report.html"].decode()


def test_two_models_of_one_name_do_not_meet(make):
    study = make()
    drawn = dict.fromkeys(("spectrum", *REST), drawings(study)["constants"])
    page = Page(report_html([study, dataclasses.replace(study, name="TINY")], MADE_BY, [drawn, drawn]))
    assert {"model-1", "model-2"} <= set(page.ids)
    assert "-o scales-TINY-2" in "".join(page.texts)
