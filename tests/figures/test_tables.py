"""figures/tables.py: every number, tidy, the same bytes each time."""

import csv
import dataclasses
import io
import json

import pytest

from mambascope.analysis.atomic import NotFiniteError
from mambascope.figures.tables import csv_text, table_rows, write_table, write_tables


def test_files_hold_the_rows_of_every_model(studies, run):
    chosen = [studies["mamba2"], studies["single"]]
    paths = write_tables(run, chosen)
    assert {path.name for path in paths} == {
        f"{name}.{kind}"
        for name in ("perplexity", "spectrum", "norms", "diagnosis", "proposal", "constants", "memory")
        for kind in ("csv", "json")
    }
    rows = list(csv.DictReader(io.StringIO((run.folder / "tables/perplexity.csv").read_text())))
    expected = [row for study in chosen for row in study.rows]
    assert [float(row["tail_bits_per_token"]) for row in rows] == [row.tail_bits_per_token for row in expected]
    assert {row["model"] for row in rows} == {"two/tiny", "single"}
    assert all(row["ci_low"] == "" for row in rows if row["model"] == "single")
    stored = json.loads((run.folder / "tables/norms.json").read_text())
    assert stored["made_by"] == run.made_by()
    assert {row["scales"] for row in stored["rows"]} == {"none", "spectrum"}
    assert len(stored["rows"]) == sum(2 * len(s.norms.lengths_tokens) * 2 for s in chosen)


def test_equal_studies_give_equal_bytes(studies, run):
    first = [path.read_bytes() for path in write_tables(run, list(studies.values()))]
    assert first == [path.read_bytes() for path in write_tables(run, list(studies.values()))]


def test_nan_is_refused_before_anything_is_written(run):
    with pytest.raises(NotFiniteError):
        write_table(run, "bad", [{"x": float("nan")}])
    assert not (run.folder / "tables/bad.csv").exists()


def test_best_constant_is_told(studies):
    rows = table_rows([studies["mamba2"]])["constants"]
    assert [(row["factor_a"], row["best"]) for row in rows] == [(1.0, False), (4.0, False), (16.0, True)]


def test_names_with_commas_and_quotes_survive(studies):
    hostile = dataclasses.replace(studies["mamba2"], name='a,"b"\nc')
    text = csv_text(table_rows([hostile])["constants"])
    assert {row["model"] for row in csv.DictReader(io.StringIO(text, newline=""))} == {'a,"b"\nc'}


def test_forecasts_stand_beside_what_was_measured(studies, forecast_of):
    told = forecast_of(studies["mamba2"])
    tables = table_rows([dataclasses.replace(told, name="renamed"), forecast_of(studies["single"]), studies["alone"]])
    rows = tables["forecast"]
    assert {row["model"] for row in rows} == {"renamed", "single"}
    assert [row["length"] for row in rows[:4]] == [128, 256, 512, 1024]
    assert rows[3]["harm_predicted"] == told.forecast.forecast.harm(1024)
    assert rows[3]["harm_measured"] == told.row("none", 1024).harm
    assert (rows[3]["ci_low"], rows[7]["ci_low"]) == (told.row("none", 1024).harm_ci_low, None)
    assert [row["model"] for row in tables["onset"]] == ["renamed", "single"]
