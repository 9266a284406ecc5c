import datetime as dt

from pyspark.sql import SparkSession

from cesrec_core.frames.sequences import build_sequences, explode_sequences
from cesrec_core.schemas import INTERACTIONS, USER_SEQUENCES

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
