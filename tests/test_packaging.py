"""Test the project itself: what is packaged, what may import what, and that every example in a docstring runs."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("spectra", "simulate", "analysis", "figures")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def source_files():
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def test_every_folder_with_code_is_packaged():
    folders = {"mambascope." + ".".join(path.parent.relative_to(ROOT).parts) for path in source_files()}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders


def test_the_top_level_is_as_fixed():
    known = {*PACKAGES, "tests", "README.md", "pyproject.toml", "Makefile", "LICENSE", "constraints.txt"}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    found = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    assert {name for name in found if not name.startswith(".")} <= known


def test_nothing_imports_the_folders_by_their_plain_names():
    """``import spectra`` would make a second copy of every class."""
    files = source_files() + sorted((ROOT / "tests").rglob("*.py"))
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert not [n for n in names if n.split(".")[0] in PACKAGES], path


def modules():
    found = []
    for package in PACKAGES:
        root = importlib.import_module(f"mambascope.{package}")
        found += [root.__name__] + [m.name for m in pkgutil.walk_packages(root.__path__, f"{root.__name__}.")]
    return found


def test_docstring_examples_run():
    attempted = 0
    for name in modules():
        failed, tried = doctest.testmod(importlib.import_module(name))
        assert not failed, name
        attempted += tried
    assert attempted >= 4


def test_every_module_says_what_it_is():
    for path in source_files():
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_files_stay_small():
    lines = sorted((len(path.read_text().splitlines()), path.name) for path in source_files())
    assert lines[-1][0] <= 400, lines[-1]
    assert lines[len(lines) // 2][0] <= 180


def test_the_command_line_starts_without_torch():
    code = (
        "import sys; from mambascope.figures.cli import build_parser; build_parser();"
        "heavy = {'torch', 'matplotlib', 'numba', 'scipy', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_a_package_loads_no_torch():
    code = "import sys, mambascope.spectra, mambascope.analysis, mambascope.simulate; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_promised_names_are_there():
    for package in ("spectra", "simulate", "analysis"):
        module = importlib.import_module(f"mambascope.{package}")
        for name in modules():  # importing a submodule puts it into its package: it must hide no promised name
            importlib.import_module(name)
        for name in module.__all__:
            assert not isinstance(getattr(module, name), types.ModuleType), name
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = module.nothing


def test_the_readme_shows_commands_that_exist():
    from mambascope.figures.cli import COMMANDS

    readme = (ROOT / "README.md").read_text()
    assert "make report" in readme
    assert "make test" in readme
    shown = set(re.findall(r"^\$? ?mambascope ([a-z]+)", readme, flags=re.MULTILINE))
    assert shown
    assert shown <= set(COMMANDS)


def test_the_readme_examples_run(tmp_path, monkeypatch, capsys):
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    assert len(examples) == 2
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "fresh-window" in out
    assert "'covered':" in out
    assert (tmp_path / "scales.json").stat().st_size > 100
