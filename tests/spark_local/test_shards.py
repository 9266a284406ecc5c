from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from cesrec_core.delta_io.shards import export_shards, import_shards
from cesrec_core.errors import StageError
from cesrec_core.schemas import CLARIFICATIONS


def frame_of(spark: SparkSession, num_rows: int, num_partitions: int = 3) -> DataFrame:
    rows = [(f"u{number:05d}", number) for number in range(num_rows)]
    return spark.createDataFrame(rows, "user_id string, number int").repartition(num_partitions)


def answered(spark: SparkSession, tmp_path: Path, num_rows: int, rows_per_shard: int) -> tuple[Path, Path]:
    """An export, and a folder with an answer to it."""
    folder, answers = tmp_path / "in", tmp_path / "out"
    export_shards(frame_of(spark, num_rows), folder, "user_id", rows_per_shard, 1, answers)
    answers.mkdir()
    (answers / "part-0.parquet").touch()
    return folder, answers


def shards(folder: Path) -> list[list[str]]:
    return [pq.read_table(path)["user_id"].to_pylist() for path in sorted(folder.glob("*.parquet"))]


@pytest.mark.parametrize(("num_rows", "num_shards"), [(20, 1), (21, 2), (60, 3)])
def test_rows_are_counted_and_sorted_within_shards(spark: SparkSession, tmp_path: Path, num_rows: int, num_shards: int) -> None:
    assert export_shards(frame_of(spark, num_rows), tmp_path / "in", "user_id", 20) == num_rows
    found = shards(tmp_path / "in")
    assert len(found) == num_shards
    assert sorted(user for shard in found for user in shard) == [f"u{number:05d}" for number in range(num_rows)]
    assert all(shard == sorted(shard) for shard in found)


def test_the_same_rows_fall_into_the_same_shards(spark: SparkSession, tmp_path: Path) -> None:
    for name, num_partitions in (("one", 1), ("two", 3)):
        export_shards(frame_of(spark, 5000, num_partitions), tmp_path / name, "user_id", 1250)
    assert shards(tmp_path / "one") == shards(tmp_path / "two")


def test_a_finished_export_is_kept_and_an_unfinished_one_is_not(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    export_shards(frame_of(spark, 5), folder, "user_id", 20)
    assert export_shards(frame_of(spark, 9), folder, "user_id", 20) == 5
    (folder / "_SUCCESS").unlink()
    assert export_shards(frame_of(spark, 9), folder, "user_id", 20) == 9
    assert sum(len(shard) for shard in shards(folder)) == 9


def test_a_damaged_export_is_written_again_and_its_answers_go(spark: SparkSession, tmp_path: Path) -> None:
    folder, answers = answered(spark, tmp_path, 5, 20)
    assert export_shards(frame_of(spark, 9), folder, "user_id", 20, 1, answers) == 5
    (shard,) = folder.glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:-1])
    assert export_shards(frame_of(spark, 9), folder, "user_id", 20, 1, answers) == 9
    assert not answers.exists()


def test_an_export_that_lacks_a_shard_is_written_again(spark: SparkSession, tmp_path: Path) -> None:
    """As after the advice for one that a disk does not give: nobody else would miss its rows."""
    folder, answers = answered(spark, tmp_path, 40, 10)
    min(folder.glob("*.parquet")).unlink()
    assert export_shards(frame_of(spark, 40), folder, "user_id", 10, 1, answers) == 40
    assert not answers.exists()
    (folder / "_shards.txt").write_bytes(b"\xff")
    assert export_shards(frame_of(spark, 41), folder, "user_id", 10, 1, answers) == 41


def test_an_export_of_a_version_before_keeps_its_answers(spark: SparkSession, tmp_path: Path) -> None:
    folder, answers = answered(spark, tmp_path, 5, 20)
    (folder / "_shards.txt").unlink()
    assert export_shards(frame_of(spark, 9), folder, "user_id", 20, 1, answers) == 5
    assert answers.exists()


def test_an_export_that_was_cut_off_is_written_anew_and_its_answers_go(spark: SparkSession, tmp_path: Path) -> None:
    """Its shards get other names: rows of old and of new ones would stand side by side."""
    folder, answers = answered(spark, tmp_path, 5, 20)
    (folder / "_SUCCESS").unlink()
    assert export_shards(frame_of(spark, 9), folder, "user_id", 20, 1, answers) == 9
    assert not answers.exists()


def test_no_rows(spark: SparkSession, tmp_path: Path) -> None:
    assert export_shards(frame_of(spark, 0), tmp_path / "in", "user_id", 20) == 0


def test_answers_come_back_with_the_types_of_their_table(spark: SparkSession, tmp_path: Path) -> None:
    schema = CLARIFICATIONS.arrow_schema()
    row = {
        "run_id": "r",
        "user_id": "u",
        "feedback_id": "f",
        "reason": "vague_feedback",
        "question": "Red or blue?",
        "question_attributes": ["Red", "Blue"],
        "information_gain": 0.5,  # exact in every width of a float
    }
    pq.write_table(schema.empty_table().from_pylist([row], schema=schema), tmp_path / "part-0.parquet")
    (tmp_path / ".part-1.parquet.unfinished").write_bytes(b"half a file")
    answer = import_shards(spark, tmp_path, CLARIFICATIONS)
    assert answer.dtypes == [(column.name, column.type) for column in CLARIFICATIONS.columns]
    assert [found.asDict() for found in answer.collect()] == [row]


def test_missing_answers(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"holds no shards\. Run the stage that writes clarifications again"):
        import_shards(spark, tmp_path, CLARIFICATIONS)
