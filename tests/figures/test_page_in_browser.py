"""figures/report.css and report.js in a real browser, where one is installed: no page is wider than its window."""

import re
import shutil
import subprocess

import pytest

from mambascope.figures.report import report_html

from .conftest import make_refined, make_study

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
NARROW = 400
ASK = """<!DOCTYPE html><iframe id=page width={width} height=900 srcdoc="{page}"></iframe><pre id=told></pre><script>
document.getElementById("page").onload = (event) => {{
  const page = event.target.contentDocument, root = page.documentElement;
  const open = () => [...page.querySelectorAll("details")].filter((d) => d.open).length;
  const told = [root.scrollWidth, page.querySelectorAll("th button").length, open()];
  page.defaultView.dispatchEvent(new Event("beforeprint"));
  told.push(open());
  page.defaultView.dispatchEvent(new Event("afterprint"));
  told.push(open());
  page.querySelectorAll("details").forEach((d) => {{ d.open = true; }});
  document.getElementById("told").textContent = "told:" + [...told, root.scrollWidth].join(",");
}};</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_narrow_page_is_no_wider_than_its_window_and_is_as_it_was_after_printing(tmp_path):
    study = make_refined(make_study("a-model-with-a-name/as-long-as-those-on-the-hub-sometimes-are-130m-hf"))
    made_by = {"mambascope": "9", "command": {"models": ["x" * 90]}, "inputs": [], "seed": 0}
    html = report_html([study], made_by).replace(
        "</main>", '<details class="long"><summary>x</summary></details></main>'
    )
    short, long = '"name":"horizon tau (tokens)"', '"name":"growth from T to L, predicted from windows of T (times)"'
    assert short in html  # the longest name that a map offers where writes were measured
    html = html.replace(short, long)
    page = html.replace("&", "&amp;").replace('"', "&quot;")
    (tmp_path / "ask.html").write_text(ASK.format(width=NARROW, page=page), encoding="utf-8")
    done = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom",
         (tmp_path / "ask.html").as_uri()],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    found = re.search(r"told:([\d,]+)<", done.stdout)
    assert found, done.stderr[-2000:]
    wide, buttons, before, printed, after, unfolded = map(int, found[1].split(","))
    assert wide <= NARROW
    assert unfolded <= NARROW
    assert buttons > 0  # the page's script ran
    assert before == after == 1
    assert printed == html.count("<details") - 1  # all but the long one
