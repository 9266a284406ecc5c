"""Arrow columns as arrays, and Parquet files that a machine may have left damaged."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cesrec_core.errors import StageError, is_no_answer
from cesrec_core.item_lists import ItemLists


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of one length, float32 [rows, width]. The array is the caller's to write to."""
    array = column.combine_chunks()
    return np.array(array.flatten().to_numpy(zero_copy_only=False), dtype=np.float32).reshape(len(array), -1)


def lists_of(rows: np.ndarray) -> pa.ListArray:
    """The rows of a matrix [rows, width] as a column of lists; raises ArrowInvalid above 2**31 numbers."""
    offsets = np.arange(len(rows) + 1) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), rows.ravel())


def places_in(lists: pa.ListArray | pa.ChunkedArray, value_set: pa.Array) -> ItemLists:
    """B lists of strings as the places of these in `value_set`, from 0; strings that it lacks are left out, null is empty."""
    array = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    places = pc.fill_null(pc.index_in(array.flatten(), value_set=value_set), -1).to_numpy(zero_copy_only=False)
    return ItemLists(places.astype(np.int64), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)).without(-1)


def is_readable(file: Path, is_whole: bool = False, advice: str = "remove the file") -> bool:
    """Whether a Parquet file is there and whole: its footer, or with `is_whole` all of it, by its checksums where it has any.

    Args:
        advice: what to do where a disk does not answer for long.

    Raises:
        StageError: it could not be looked at; see `is_no_answer`.
    """
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            for _ in opened.iter_batches() if is_whole else ():
                pass
    except (pa.ArrowException, OSError, ValueError) as error:  # the last of names that are no text
        if not is_no_answer(error):
            return False
        reason = getattr(error, "strerror", None) or "no memory is left"
        raise StageError(
            f"{file} cannot be read now ({reason}). Start again: what is done is kept. If it stays so, {advice}."
        ) from error
    return True
