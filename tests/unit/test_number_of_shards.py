import pytest

from cesrec_core.delta_io.shards import number_of_shards


@pytest.mark.parametrize(
    ("num_rows", "rows_per_shard", "num_workers", "expected"),
    [
        (0, 50_000, 1, 1),
        (50_001, 50_000, 1, 2),
        (50_000, 50_000, 8, 32),  # four for each worker
        (10_000_000, 50_000, 8, 200),  # more rows than that allows
        (2_500, 50_000, 8, 3),  # no shards of a few rows
        (40, 40, 2, 1),
    ],
)
def test_all_workers_have_work_and_no_shard_is_too_large(
    num_rows: int, rows_per_shard: int, num_workers: int, expected: int
) -> None:
    assert number_of_shards(num_rows, rows_per_shard, num_workers) == expected
