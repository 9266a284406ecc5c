import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from cesrec_core.config import Config
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.frames.sequences import build_sequences, explode_sequences
from cesrec_core.schemas import INTERACTIONS, USER_SEQUENCES
from cesrec_core.stages import build_sequences as stage
from cesrec_core.stages.context import RunContext
from cesrec_core.stages.runner import run_stage

SCHEMA = ", ".join(f"{column.name} {column.type}" for column in INTERACTIONS.columns)


def day(number: int) -> dt.datetime:
    return dt.datetime(2024, 1, number, tzinfo=dt.UTC)


ROWS = [
    ("u", "late", day(3), None, 0),
    ("u", "b", day(1), None, 7),
    ("u", "a", day(1), None, 7),
    ("u", "c", day(1), None, 2),
    ("u", "c", day(2), None, 1),
    ("v", "x", day(1), 5.0, 0),
]


def test_order_is_time_then_source_then_item(spark: SparkSession) -> None:
    sequences = build_sequences(spark.createDataFrame(ROWS, SCHEMA), 1000)
    assert sequences.dtypes == [(column.name, column.type) for column in USER_SEQUENCES.columns]
    found = {row["user_id"]: row for row in sequences.collect()}
    assert found["u"]["item_ids"] == ["c", "a", "b", "c", "late"]
    assert found["u"]["num_items"] == len(found["u"]["interacted_at"]) == 5
    assert found["u"]["updated_at"] == found["u"]["interacted_at"][-1]
    assert found["v"]["item_ids"] == ["x"]


def test_the_newest_items_are_kept(spark: SparkSession) -> None:
    kept = build_sequences(spark.createDataFrame(ROWS, SCHEMA), 2)
    assert {row["user_id"]: (row["item_ids"], row["num_items"], row["older_item_ids"]) for row in kept.collect()} == {
        "u": (["c", "late"], 2, ["a", "b", "c"]),
        "v": (["x"], 1, None),
    }


def test_the_order_of_rows_does_not_matter(spark: SparkSession) -> None:
    forwards = build_sequences(spark.createDataFrame(ROWS, SCHEMA), 4).orderBy("user_id").collect()
    backwards = build_sequences(spark.createDataFrame(ROWS[::-1], SCHEMA), 4).orderBy("user_id").collect()
    assert forwards == backwards


def test_explode_gives_back_one_row_per_place(spark: SparkSession) -> None:
    exploded = explode_sequences(build_sequences(spark.createDataFrame(ROWS, SCHEMA), 1000))
    assert exploded.columns == ["user_id", "item_id", "timestamp", "position"]
    assert exploded.count() == len(ROWS)
    of_user = exploded.where("user_id = 'u'").orderBy("position")
    assert [(row["position"], row["item_id"]) for row in of_user.collect()] == [
        (0, "c"),
        (1, "a"),
        (2, "b"),
        (3, "c"),
        (4, "late"),
    ]


def test_histories_are_built_once_and_then_those_that_changed(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of u, v and w, u gets an item more and w loses its only one."""
    num_built = spark.sparkContext.accumulator(0)

    def counting(interactions: DataFrame, max_history_items: int) -> DataFrame:
        def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                num_built.add(batch.num_rows)
                yield batch

        built = build_sequences(interactions, max_history_items)
        return built.mapInArrow(count, built.schema)

    monkeypatch.setattr(stage, "build_sequences", counting)
    config = Config.model_validate({"warehouse": {"path": str(tmp_path)}})
    warehouse = Warehouse(spark, config.warehouse)
    warehouse.create(INTERACTIONS)

    def build(run_id: str, rows: list[tuple[object, ...]]) -> tuple[dict[str, int], dict[str, list[str]]]:
        warehouse.merge(INTERACTIONS, spark.createDataFrame(rows, SCHEMA), delete_missing=True)
        context = RunContext(config, spark, warehouse, None, run_id, day(9).date(), {}, {})  # type: ignore[arg-type]
        run_stage(stage.STAGE, context)
        histories = {row["user_id"]: row["item_ids"] for row in warehouse.read(USER_SEQUENCES).collect()}
        return dict(context.results["build_sequences"].counts), histories

    first = [*ROWS, ("w", "y", day(1), None, 0)]
    histories = {"u": ["c", "a", "b", "c", "late"], "v": ["x"], "w": ["y"]}
    assert build("first", first) == ({"users": 3, "users_rebuilt": 3}, histories)
    assert num_built.value == 3
    second = [*ROWS, ("u", "later", day(4), None, 0)]
    histories = {"u": ["c", "a", "b", "c", "late", "later"], "v": ["x"]}
    assert build("second", second) == ({"users": 2, "users_rebuilt": 1}, histories)
    assert num_built.value == 3 + 1
