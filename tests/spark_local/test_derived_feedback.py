import datetime as dt

import pytest
from pyspark.sql import DataFrame, SparkSession

from cesrec_core.config import IngestSection
from cesrec_core.frames.derived_feedback import derived_rows, feedback_of_interactions
from cesrec_core.frames.ingest import judge_interactions, split_interactions
from cesrec_core.frames.raw import conform
from cesrec_core.schemas import FEEDBACK

RUN_END = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
ITEMS = [("a", "Alpha (1999)"), ("b", "Beta"), ("c", "Gamma 100 %")]
ROWS = [
    ("u", "a", "2026-02-01T10:00:00Z", "5.0", "Loved every\n minute.", "1"),
    ("u", "b", "2026-02-02T10:00:00Z", "2.0", None, "2"),
    ("u", "c", "2026-02-03T10:00:00Z", "3.5", "  ", "3"),
    ("v", "c", "2026-02-04T10:00:00Z", None, "Broke after a day", "4"),
    ("v", "a", "2026-02-05T10:00:00Z", "1.0", None, "5"),
    ("v", "b", "2026-03-02T00:00:00Z", "5.0", "from the day after", "6"),  # later than the run
]
NAMES = ["reviewerID", "asin", "unixReviewTime", "overall", "reviewText", "position"]


@pytest.fixture(scope="module")
def feedback(spark: SparkSession) -> DataFrame:
    """Reviews as Amazon's dumps name them, cleaned and made into feedback."""
    items = spark.createDataFrame(ITEMS, "item_id string, title string")
    raw = conform(spark.createDataFrame(ROWS, ", ".join(f"{name} string" for name in NAMES)), "interactions", "reviews")
    clean, _ = split_interactions(judge_interactions(raw, items, RUN_END))
    return feedback_of_interactions(clean, items, IngestSection(feedback_from=["rating", "review"])).cache()


def test_ratings_and_reviews_become_words_about_what_was_had_then(feedback: DataFrame) -> None:
    found = {(row["user_id"], row["recommended_item_ids"][0], row["source"]): row for row in feedback.collect()}
    assert {key: row["utterance"] for key, row in found.items()} == {
        ("u", "a", "rating"): "I liked Alpha (1999)",
        ("u", "a", "review"): "Loved every minute.",
        ("u", "b", "rating"): "I did not like Beta",
        ("v", "a", "rating"): "I did not like Alpha (1999)",
        ("v", "c", "review"): "Broke after a day",
    }
    assert feedback.columns == FEEDBACK.column_names
    said_at = found["v", "a", "rating"]["created_at"].astimezone(dt.UTC)
    assert said_at == dt.datetime(2026, 2, 5, 10, tzinfo=dt.UTC)


def test_rows_keep_their_names_and_are_told_from_those_that_others_bring(feedback: DataFrame, spark: SparkSession) -> None:
    ids = [row["feedback_id"] for row in feedback.collect()]
    assert len(set(ids)) == len(ids) == 5
    assert derived_rows(feedback).count() == 5
    others = spark.createDataFrame([("rating-17",), ("review-of-mine",)], "feedback_id string")
    assert derived_rows(others).isEmpty()


def test_thresholds_decide_and_nothing_is_made_unless_asked_for(spark: SparkSession) -> None:
    items = spark.createDataFrame(ITEMS, "item_id string, title string")
    schema = "user_id string, item_id string, interacted_at timestamp, rating double, review string"
    rows = [("u", item, RUN_END, rating, "words") for item, rating in (("a", 8.0), ("b", 7.9), ("c", 3.0))]
    interactions = spark.createDataFrame(rows, schema)
    section = IngestSection(feedback_from=["rating"], disliked_rating=3.0, liked_rating=8.0)
    found = feedback_of_interactions(interactions, items, section).collect()
    assert sorted(row["utterance"] for row in found) == ["I did not like Gamma 100 %", "I liked Alpha (1999)"]
    assert feedback_of_interactions(interactions, items, IngestSection()).isEmpty()
