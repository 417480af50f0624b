"""Test ``spectra/html_table.py``: tables that any notebook can show."""

import html.parser

import numpy as np

from mambascope.spectra import html_table as module


class Reader(html.parser.HTMLParser):
    """Rows of cells, and whether every tag is closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.beside = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert not attrs
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data
        else:
            self.beside.append(data)


ROWS = [
    {"a": 1234567, "b": 0.000123456, "c": None, "d": True},
    {"a": float("nan"), "b": 1.5e9, "e": "<script>&\"'"},
    {"a": np.float64(2.5), "b": np.int64(3)},
]


def test_cells_are_escaped_and_columns_that_a_row_lacks_are_empty():
    found = Reader(module.html_table(ROWS, "of <x> & y"))
    assert found.rows == [
        ["a", "b", "c", "d", "e"],
        ["1,234,567", "0.0001235", "", "True", ""],
        ["nan", "1.500e+09", "", "", "<script>&\"'"],
        ["2.5", "3", "", "", ""],
    ]
    assert found.beside == ["of <x> & y"]


def test_long_results_are_cut_with_a_note():
    rows = [{"k": k} for k in range(1045)]
    found = Reader(module.html_table(rows))
    assert len(found.rows) == 1 + module.MOST_ROWS
    assert found.beside == ["1,005 more rows"]
    assert Reader(module.html_table(rows[:41])).beside == ["1 more row"]
    assert Reader(module.html_table(rows[:40])).beside == []
    assert Reader(module.html_table([])).rows == [[]]
