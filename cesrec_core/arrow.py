"""Arrow columns as arrays."""

import numpy as np
import pyarrow as pa


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of one length, float32 [rows, width]. The array is the caller's to write to."""
    array = column.combine_chunks()
    return np.array(array.flatten().to_numpy(zero_copy_only=False), dtype=np.float32).reshape(len(array), -1)
