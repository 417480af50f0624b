"""Test ``mambascope.analysis.evaluate.passages``: where passages start, what is left out, what stands before them."""

import numpy as np
import pytest
import torch

from mambascope.analysis.evaluate.passages import Passages, cut_passages, stack_documents
from mambascope.spectra.errors import RefusedInputError, TextError
from mambascope.spectra.tokens import Document


def document(name, length):
    return Document(name, np.arange(length).astype(np.uint8))


def test_the_first_passage_of_a_document_is_its_start():
    found = cut_passages([document("a", 10), document("b", 7), document("c", 12)], 8)
    assert found.tokens.tolist() == [list(range(8)), list(range(8))]
    assert found.document.tolist() == [0, 1]
    assert found.names == ("a", "c")
    assert (len(found), found.documents, found.length) == (2, 2, 8)


def test_passages_are_spread_evenly_and_never_overlap():
    found = cut_passages([document("a", 100), document("b", 40)], 30, starts=5)
    assert found.document.tolist() == [0, 0, 0, 1]  # 100 // 30 = 3 of the first, 1 of the second
    assert found.tokens[:, 0].tolist() == [0, 35, 70, 0]
    assert found.documents == 2
    for length in (60, 61, 89, 90, 119):
        first = cut_passages([document("a", length)], 30, starts=9).tokens[:, 0].astype(int)
        assert len(first) == length // 30
        assert all(np.diff(first) >= 30)
        assert first[-1] + 30 == length if len(first) > 1 else first.tolist() == [0]


def test_a_beginning_of_text_id_takes_the_place_of_the_last_token():
    found = cut_passages([document("a", 10)], 5, starts=2, bos=256)
    assert found.tokens.tolist() == [[256, 0, 1, 2, 3], [256, 5, 6, 7, 8]]


def test_short_documents_fall_back_to_the_longest_length_that_fits():
    short = [document("a", 100), document("b", 70), document("c", 20), document("d", 5)]
    found = cut_passages(short, 80, starts=3, shorter=[10, 30, 80])
    assert found.names == ("a", "b", "c")
    assert found.reaches.tolist() == [80, 30, 30, 10, 10]
    assert found.document.tolist() == [0, 1, 1, 2, 2]
    assert found.tokens[2, :30].tolist() == list(range(40, 70))
    groups = found.batches(1)
    assert [rows.tolist() for rows in groups] == [[0], [1], [2], [3], [4]]
    part = found.part(np.array([1, 2]))
    assert (part.length, len(part), part.documents) == (30, 2, 1)
    assert [rows.tolist() for rows in Passages.of_tokens(np.zeros((5, 9), int)).batches(2)] == [[0, 1], [2, 3], [4]]


def test_nothing_long_enough_and_no_passage_at_all_are_refused():
    for cut in (lambda: cut_passages([document("a", 9)], 10, shorter=[5]), lambda: stack_documents([np.arange(9)], 10)):
        with pytest.raises(TextError, match=r"0 of 1 documents reach 10 tokens \(the longest has 9\)"):
            cut()
    with pytest.raises(RefusedInputError, match="at least 1 passage"):
        cut_passages([document("a", 9)], 5, starts=0)
    with pytest.raises(RefusedInputError, match="0 or above"):
        cut_passages([document("a", 9)], 5, bos=-1)


def test_rows_of_a_tensor_are_documents_of_their_own():
    found = Passages.of_tokens(torch.arange(6).view(2, 3))
    assert found.tokens.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found.documents == 2
    assert "2 of up to 3 tokens" in repr(found)
