"""Test ``mambascope.analysis.calibration.windows``: which text a step reads."""

import numpy as np
import pytest

from mambascope.analysis.calibration.windows import draw_windows, spread_windows
from mambascope.spectra.errors import TextError

DOCUMENTS = [np.arange(1000, 1300), np.arange(2000, 2100), np.arange(3000, 3050)]


def test_draws_are_windows_of_the_documents_in_proportion_and_depend_on_seed_and_step():
    windows = draw_windows(DOCUMENTS, 100, 4000, seed=0, step=0)
    assert np.all(np.diff(windows) == 1)  # no window spans two documents
    share = (windows[:, 0] == 2000).mean()  # 1 place of 202, the third document is too short
    assert share == pytest.approx(1 / 202, abs=5 * np.sqrt(1 / 202 / 4000))
    assert set(windows[:, 0]) == {*range(1000, 1201), 2000}
    assert np.array_equal(windows, draw_windows(DOCUMENTS, 100, 4000, seed=0, step=0))
    assert not np.array_equal(windows, draw_windows(DOCUMENTS, 100, 4000, seed=0, step=1))
    assert not np.array_equal(windows, draw_windows(DOCUMENTS, 100, 4000, seed=1, step=0))


def test_spread_windows_do_not_overlap_and_begin_with_the_documents():
    assert spread_windows(DOCUMENTS, 50, 3, "x")[:, 0].tolist() == [1000, 2000, 3000]
    assert spread_windows(DOCUMENTS, 50, 2, "x")[:, 0].tolist() == [1000, 2000]
    starts = spread_windows(DOCUMENTS, 50, 9, "x")[:, 0].tolist()
    assert starts == [1000, 1125, 1250, 2000, 2050, 3000]  # 3 wanted of each
    starts = spread_windows(DOCUMENTS[:1], 50, 99, "x")[:, 0]
    assert np.all(np.diff(starts) >= 50)
    assert len(starts) == 6


def test_texts_that_are_too_short_are_refused():
    with pytest.raises(TextError, match="0 of 3 selection documents reach 301 tokens"):
        spread_windows(DOCUMENTS, 301, 2, "selection")
    with pytest.raises(TextError, match="0 of 3 calibration documents"):
        draw_windows(DOCUMENTS, 301, 2, 0, 0)
