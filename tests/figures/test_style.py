"""figures/style.py: the same look everywhere, and equal bytes for equal inputs."""

import re
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure

from mambascope.figures import style
from mambascope.figures.style import METHODS, method_style, new_figure, plain, save, slugs, styled, svg_bytes


@styled
def line():
    figure = new_figure("a $name$", "title", 2)
    axes = figure.subplots()
    axes.plot([1, 2], [3, 4], label="x")
    axes.legend()
    return figure


def test_methods_differ_in_colour_marker_and_name():
    for field in ("colour", "marker", "label"):
        assert len({getattr(style, field) for style in METHODS.values()}) == len(METHODS)
    assert method_style("other$").label == r"other\$"


def test_hostile_names_are_drawn_as_they_are():
    assert plain("a$x^{") == r"a\$x^{"
    assert plain("\x00\n語") == "???"
    assert len(plain("x" * 500)) == 60
    assert isinstance(line(), Figure)  # an unescaped $ would be taken for a formula


def test_slugs_never_collide_or_leave_the_folder():
    names = ["../../etc", "etc", "ETC", "", "a b", "a-b", "...", "x" * 300]
    made = slugs(names)
    assert len({name.lower() for name in made}) == len(names)
    assert all("/" not in name and not name.startswith(".") and 0 < len(name) < 70 for name in made)


def test_equal_figures_have_equal_bytes(run):
    figure = line()
    assert svg_bytes(figure) == svg_bytes(line())
    first = [path.read_bytes() for path in save(line(), run, "a")]
    second = [path.read_bytes() for path in save(figure, run, "a")]  # already laid out for another format
    assert first == second
    assert first[0].startswith(b"\x89PNG")
    assert first[1].startswith(b"%PDF")
    assert b"CreationDate" not in first[1]
    assert {"figures/a.png", "figures/a.pdf"} <= set(run.manifest.outputs)


def test_the_users_matplotlibrc_changes_nothing():
    import matplotlib as mpl

    before = svg_bytes(line())
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        assert svg_bytes(line()) == before


def test_the_package_itself_is_light():
    code = "import sys, mambascope.figures; sys.exit(bool({'matplotlib', 'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_pyplot():
    sources = list(Path(style.__file__).parent.rglob("*.py"))
    assert len(sources) > 10
    assert not [path for path in sources if re.search(r"import.*(pyplot|pylab)", path.read_text())]
