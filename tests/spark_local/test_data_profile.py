"""Distributions of a dataset that is small enough to count."""

import datetime as dt

import pytest
from pyspark.sql import DataFrame, SparkSession

from cesrec_core.frames.data_profile import (
    attribute_use,
    feedback_by_source,
    history_lengths,
    interactions_by_day,
    item_popularity,
    pairs_by_size,
    times_recommended,
)

FIRST, SECOND = dt.datetime(2026, 3, 1, 23, 59), dt.datetime(2026, 3, 2, 0, 0)
# a: four times, by two people; b: once; c: never; d: twice, and not in the catalogue any more.
ROWS = [
    ("u", "a", FIRST),
    ("u", "a", SECOND),
    ("u", "b", SECOND),
    ("u", "d", SECOND),
    ("v", "a", FIRST),
    ("v", "a", SECOND),
    ("v", "d", SECOND),
]


@pytest.fixture(scope="module")
def interactions(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(ROWS, "user_id string, item_id string, interacted_at timestamp").cache()


@pytest.fixture(scope="module")
def items(spark: SparkSession) -> DataFrame:
    rows = [("a", ["red", "round"], True), ("b", ["red"], True), ("c", ["blue"], True), ("d", ["blue"], False)]
    return spark.createDataFrame(rows, "item_id string, attributes array<string>, is_active boolean").cache()


@pytest.fixture(scope="module")
def sequences(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([("u", 4), ("v", 3), ("w", 4)], "user_id string, num_items int")


def counted(frame: DataFrame) -> list[tuple]:
    return sorted(tuple(row) for row in frame.collect())


def test_people_by_length(sequences: DataFrame) -> None:
    assert counted(history_lengths(sequences)) == [(3, 1), (4, 2)]


def test_active_items_by_interactions_and_those_that_nobody_had(interactions: DataFrame, items: DataFrame) -> None:
    assert counted(item_popularity(interactions, items)) == [(0, 1), (1, 1), (4, 1)]


def test_days_end_at_midnight_utc(interactions: DataFrame) -> None:
    assert counted(interactions_by_day(interactions)) == [(dt.date(2026, 3, 1), 2), (dt.date(2026, 3, 2), 5)]


def test_attributes_by_items_and_by_what_people_took(interactions: DataFrame, items: DataFrame) -> None:
    """Red is on a and b, blue on c, which nobody had, and round on a."""
    frame = attribute_use(interactions, items, 3)
    assert [tuple(row) for row in frame.collect()] == [("red", 2, 5), ("blue", 1, 0), ("round", 1, 4)]
    assert [row[0] for row in attribute_use(interactions, items, 1).collect()] == ["red"]


def test_pairs_are_different_ones_by_binary_logarithms(interactions: DataFrame, sequences: DataFrame, items: DataFrame) -> None:
    """u has 4 items (2) and met a, taken 4 times (2), and b, taken once (0); v has 3 (1) and met a."""
    assert counted(pairs_by_size(interactions, sequences, items)) == [(1, 2, 1), (2, 0, 1), (2, 2, 1)]


def test_lists_by_interactions(spark: SparkSession, interactions: DataFrame, items: DataFrame) -> None:
    listed = spark.createDataFrame([("u", "a"), ("v", "a"), ("v", "c")], "user_id string, item_id string")
    assert counted(times_recommended(listed, interactions, items)) == [(0, 1, 1), (1, 0, 1), (4, 2, 1)]


def test_feedback_by_source(spark: SparkSession) -> None:
    said = spark.createDataFrame([("human",), ("rating",), ("human",)], "source string")
    assert counted(feedback_by_source(said)) == [("human", 2), ("rating", 1)]
