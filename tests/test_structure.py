"""Test the shape of the code: no circle of imports, no run of lines twice, files of one idea, and the README's map."""

import ast
import io
import re
import statistics
import tokenize
from collections import defaultdict
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("spectra", "simulate", "analysis", "figures")
FILES = {
    ".".join(("mambascope", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for top in TOPS
    for path in sorted((ROOT / top).rglob("*.py"))
}
"""Every module of the product by its name."""
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


# -- imports -----------------------------------------------------------------------------------------------------------


def modules_of(name, node):
    """Modules of the product that an import statement in module ``name`` names; the packages that they are in, whose
    ``__init__`` gathers names of its own modules, do not count as named."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names} & FILES.keys()
    package = name.split(".") if FILES[name].name == "__init__.py" else name.split(".")[:-1]
    base = package[: len(package) - node.level + 1] if node.level else []
    base = ".".join([*base, *([node.module] if node.module else [])])
    inner = {f"{base}.{alias.name}" for alias in node.names} & FILES.keys()
    whole = {base} & FILES.keys() if {f"{base}.{alias.name}" for alias in node.names} - FILES.keys() else set()
    return (inner | whole) - {name}


@cache
def imports(name, *, everywhere):
    """What a module imports as it is loaded; ``everywhere`` adds what its functions import, but not what types need."""
    found, ahead = set(), list(TREES[name].body)
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= modules_of(name, node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not everywhere:
            continue
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            ahead += node.orelse
        else:
            ahead += ast.iter_child_nodes(node)
    return found


def circles(graph):
    """Groups of modules that each can be reached from each other (Tarjan 1972)."""
    number, low, held, found = {}, {}, [], []

    def visit(name):
        number[name] = low[name] = len(number)
        held.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
            if other in held:
                low[name] = min(low[name], low[other])
        if low[name] == number[name]:
            group = held[held.index(name) :]
            del held[held.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in number:
            visit(name)
    return found


@pytest.mark.parametrize("everywhere", [False, True], ids=["loaded", "in functions too"])
def test_no_modules_import_each_other_in_a_circle(everywhere):
    graph = {name: imports(name, everywhere=everywhere) for name in FILES}
    assert sum(map(len, graph.values())) > 500  # imports were found
    assert circles(graph) == []


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


# -- lines -------------------------------------------------------------------------------------------------------------

LONGEST_RUN = 10


def code_lines(text):
    """The lines of a file that are code, as (number, line without indentation).

    Not counted, as alike by rule: empty lines, imports, docstrings and comments (two functions with the same argument
    say the same of it), and signatures (a method and the function below it take the same arguments).
    """
    left_out = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, node.end_lineno + 1))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            left_out |= set(range(first, node.body[0].lineno))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            left_out |= set(range(node.lineno, node.end_lineno + 1))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and token.line.strip().startswith("#"):
            left_out.add(token.start[0])
    lines = enumerate(text.splitlines(), 1)
    return [(number, line.strip()) for number, line in lines if line.strip() and number not in left_out]


def twice(texts, longest=LONGEST_RUN):
    """Places where so many lines of code follow each other in the same way as somewhere else."""
    places = defaultdict(list)
    for name, text in texts.items():
        lines = code_lines(text)
        for first in range(len(lines) - longest + 1):
            run = tuple(line for _, line in lines[first : first + longest])
            places[run].append(f"{name}:{lines[first][0]}")
    return sorted(places_of for places_of in places.values() if len(places_of) > 1)


def test_no_ten_lines_of_code_stand_twice():
    assert twice({str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in FILES.values()}) == []


def test_ten_lines_that_stand_twice_would_be_found():
    body = "".join(f"    x{k} = {k}\n" for k in range(10))
    texts = {"a": f"def f(one):\n{body}", "b": f'def g(\n    other,\n):\n    """Says more."""\n{body}'}
    assert twice(texts) == [["a:2", "b:5"]]
    assert twice(texts, 11) == []


def test_files_are_short():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert statistics.median(lengths.values()) <= 180
    assert max(lengths.values()) <= 400, max(lengths, key=lengths.get)


# -- the README's map --------------------------------------------------------------------------------------------------

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_map_names_folders_that_are_there_and_all_packages():
    block = re.search(r"## The code\n\n```\n(.*?)```", README, re.S)[1]
    here, named = None, set()
    for line in block.splitlines():
        if found := re.match(r"( *)(\w+)/ ", line):
            here = found[2] if not found[1] else here
            place = here if not found[1] else f"{here}/{found[2]}"
            assert (ROOT / place).is_dir(), line
            named.add(place)
    packages = {path.parent.relative_to(ROOT).as_posix() for path in FILES.values() if path.name == "__init__.py"}
    assert packages <= named


@cache
def reached(first):
    """All modules that are loaded, at once or later, by one of some modules."""
    seen, ahead = set(), list(first)
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead += imports(name, everywhere=True)
    return seen


def modules_at(place):
    """Modules of a file or a folder."""
    path = ROOT / place
    found = {name for name, file in FILES.items() if file in {path, path.with_suffix(".py")} or path in file.parents}
    assert found, place
    return frozenset(found)


@cache
def calls_or_defines_update(place):
    """Whether a file tells observers of a block, and whether it has one."""
    nodes = [node for name in modules_at(place) for node in ast.walk(TREES[name])]
    calls = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
    takes = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == "update"]
    return "observer.update" in calls, any("Observation" in ast.unparse(node.args) for node in takes)


def test_one_texts_way_leads_from_each_step_to_the_next():
    """A step imports the one before or behind it; an observer is called by the stream, which need not know its file."""
    places = re.findall(r"`([\w/]+(?:\.py)?)`", re.search(r"One text's way: (.*?)\.\n", README, re.S)[1])
    assert len(places) >= 6
    for earlier, later in pairwise(places):
        one, other = modules_at(earlier), modules_at(later)
        if calls_or_defines_update(earlier)[0]:
            assert calls_or_defines_update(later)[1], later
        else:
            assert one & reached(other) or other & reached(one), (earlier, later)
    assert [calls_or_defines_update(place) for place in places].count((True, False)) == 1
    for place in places:
        assert modules_at(place) & reached(modules_at(places[0])), place  # all of it is run by commands
