import numpy as np
import pyarrow as pa
import pytest

from cesrec_core.arrow import lists_of, matrix


def test_rows_become_lists_and_rows_again() -> None:
    rows = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)
    column = lists_of(rows)
    assert column.to_pylist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert column.type == pa.list_(pa.float32())
    assert np.array_equal(matrix(pa.chunked_array([column])), rows)
    assert lists_of(rows.T).to_pylist() == [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]
    assert lists_of(np.empty((0, 3), np.float32)).to_pylist() == []


def test_more_numbers_than_a_column_counts_are_refused() -> None:
    huge = np.broadcast_to(np.float32(1.0), (2**16, 2**15))
    with pytest.raises(pa.ArrowInvalid):
        lists_of(huge)
