import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cesrec_core.arrow import is_readable, lists_of, matrix
from cesrec_core.errors import StageError


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


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shard.parquet"
    pq.write_table(pa.table({"text": ["Puzzle set"] * 1000}), path, write_page_checksum=True)
    return path


@pytest.mark.parametrize("is_whole", [False, True])
def test_what_is_cut_off_or_gone_cannot_be_read(file: Path, is_whole: bool) -> None:
    assert is_readable(file, is_whole)
    file.write_bytes(file.read_bytes()[:-20])
    assert not is_readable(file, is_whole)
    file.unlink()
    assert not is_readable(file, is_whole)


def test_a_bit_that_has_flipped_is_seen_by_who_reads_all(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)
    assert (is_readable(file), is_readable(file, is_whole=True)) == (True, False)


def test_a_name_that_is_no_text_is_damage(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"text", b"\xff\xfe\xff\xfe"))
    assert not is_readable(file, is_whole=True)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(24, "Too many open files"), "Too many open files"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (pa.ArrowMemoryError("malloc of size 64 failed"), "no memory is left"),
    ],
)
def test_a_disk_that_does_not_answer_says_nothing_of_a_file(
    file: Path, error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken for damage, all that was done would be removed and made again."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(
        StageError, match=rf"shard\.parquet cannot be read now \({reason}\)\. Start again: what is done is kept"
    ):
        is_readable(file)


def test_no_descriptor_left_is_such_a_disk(file: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                opened.append(file.open("rb"))
        with pytest.raises(StageError, match="Too many open files"):
            is_readable(file)
    finally:
        for stream in opened:
            stream.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert is_readable(file)
