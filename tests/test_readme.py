"""README's map of the code is the code: every folder with Python files is in it, and nothing that is not there."""

from pathlib import Path

ROOT = Path(__file__).parent.parent


def mapped():
    """Return the folders of the map, and what is said of each."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## The code") :]
    block = section[section.index("```\n") + 4 :]
    found, top = {}, ""
    for line in block[: block.index("```")].splitlines():
        name, _, about = line.strip().partition(" ")
        assert name.endswith("/"), f"not a folder: {line}"
        if not line.startswith(" "):
            top = ""
        found[top + name] = about.strip()
        if not line.startswith(" "):
            top = name
    return found


def test_the_map_has_every_package_and_no_other():
    packages = {
        str(path.parent.relative_to(ROOT)) + "/"
        for top in ("spectra", "simulate", "analysis", "figures")
        for path in ROOT.glob(f"{top}/**/__init__.py")
    }
    shown = mapped()
    assert {name for name in shown if not name.startswith("tests/")} == packages
    assert all(shown.values())


def test_the_maps_test_folders_exist():
    shown = [name for name in mapped() if name.startswith("tests/")]
    assert [name for name in shown if not (ROOT / name).is_dir()] == []


def test_paths_named_in_the_readme_exist():
    import re

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:spectra|simulate|analysis|figures|tests)/[\w./]+)`", text))
    to_be_added = {"simulate/claims/mean_square.py", "analysis/third_clip.py", "analysis/methods/halved_steps.py"}
    to_be_added |= {"spectra/foreign/alternating.py"}
    assert named >= to_be_added  # the examples of what to add
    places = (lambda name: ROOT / name, lambda name: ROOT / "tests" / f"{name}.py")  # the promises name tests like that
    assert sorted(n for n in named - to_be_added if not any(place(n).exists() for place in places)) == []
