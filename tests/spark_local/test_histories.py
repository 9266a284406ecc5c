import datetime as dt

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from cesrec_core.frames.clarifications import clarifications
from cesrec_core.frames.histories import (
    active_feedback,
    drawn_users,
    feedback_by_user,
    observed_histories,
    speakers,
    vague_feedback,
)
from cesrec_core.sequences import hidden_target, observed_part

HISTORIES = "user_id string, item_ids array<string>"
FEEDBACK = "feedback_id string, user_id string, created_at timestamp, utterance string, recommended_item_ids array<string>"
SIGNALS = (
    "feedback_id string, wanted_attributes array<string>, unwanted_attributes array<string>, "
    "unwanted_item_ids array<string>, is_vague boolean"
)
RUN_END = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)


def said(feedback_id: str, user_id: str, before_end: dt.timedelta) -> tuple:
    return (feedback_id, user_id, RUN_END - before_end, f"words of {feedback_id}", ["a", "b"])


def days(number: float) -> dt.timedelta:
    return dt.timedelta(days=number)


def rounds(frame: DataFrame) -> dict[str, list[str]]:
    rows = sorted(frame.collect(), key=lambda row: (row["user_id"], row["round"]))
    users = {row["user_id"] for row in rows}
    assert all(
        [row["round"] for row in rows if row["user_id"] == user] == list(range(1, 1 + sum(r["user_id"] == user for r in rows)))
        for user in users
    )
    return {user: [row["feedback_id"] for row in rows if row["user_id"] == user] for user in sorted(users)}


@pytest.mark.parametrize("split", ["all", "leave_one_out"])
def test_the_cut_is_that_of_the_pure_core(spark: SparkSession, split: str) -> None:
    rng = np.random.default_rng(0)
    histories = {f"u{size}-{draw}": [f"i{i}" for i in rng.integers(0, 5, size)] for size in range(1, 9) for draw in range(3)}
    rows = observed_histories(spark.createDataFrame(list(histories.items()), HISTORIES), split).collect()
    found = {row["user_id"]: (row["item_ids"], row["target_item_id"]) for row in rows}
    assert found == {user: (observed_part(items, split), hidden_target(items, split)) for user, items in histories.items()}


def test_a_draw_depends_on_keys_and_seed_alone(spark: SparkSession) -> None:
    users = [(f"u{number}", ["i"]) for number in range(50)]
    frames = [spark.createDataFrame(users, HISTORIES), spark.createDataFrame(users[::-1], HISTORIES).repartition(3)]
    first, second = (sorted(row["user_id"] for row in drawn_users(frame, 10, 1).collect()) for frame in frames)
    assert first == second
    assert len(first) == 10
    other = sorted(row["user_id"] for row in drawn_users(frames[0], 10, 2).collect())
    assert other != first
    fewer = {row["user_id"] for row in drawn_users(frames[0], 5, 1).collect()}
    assert fewer < set(first)


def test_feedback_counts_within_its_window_newest_three_oldest_first(spark: SparkSession) -> None:
    rows = [
        said("too-late", "edges", days(0)),
        said("last-moment", "edges", dt.timedelta(microseconds=1)),
        said("first-moment", "edges", days(30)),
        said("too-old", "edges", days(30) + dt.timedelta(microseconds=1)),
        *(said(f"day-{number}", "many", days(number)) for number in (5, 1, 4, 2, 3)),
        *(said(name, "ties", days(1)) for name in ("c", "a", "d", "b", "d")),  # d was sent twice
    ]
    active = active_feedback(spark.createDataFrame(rows, FEEDBACK), RUN_END, window_days=30, max_rounds=3)
    assert dict(active.dtypes)["round"] == "int"
    assert rounds(active) == {
        "edges": ["first-moment", "last-moment"],
        "many": ["day-3", "day-2", "day-1"],
        "ties": ["b", "c", "d"],
    }


def test_speakers_are_people_within_the_window(spark: SparkSession) -> None:
    rows = [
        (*said("f1", "human", days(1)), "human"),
        (*said("f2", "reviewer", days(29)), "review"),
        (*said("f3", "simulated", days(1)), "simulated_aware"),
        (*said("f4", "long ago", days(31)), "human"),
        (*said("f5", "tomorrow", days(0)), "human"),
        (*said("f6", "human", days(2)), "simulated_blind"),
    ]
    found = speakers(spark.createDataFrame(rows, FEEDBACK + ", source string"), RUN_END, window_days=30)
    assert sorted(row["user_id"] for row in found.collect()) == ["human", "reviewer"]


def test_words_meet_their_meaning_in_order_and_the_newest_decides_what_is_vague(spark: SparkSession) -> None:
    rows = [said("f1", "u", days(3)), said("f2", "u", days(2)), said("g1", "v", days(3)), said("g2", "v", days(2))]
    active = active_feedback(spark.createDataFrame(rows, FEEDBACK), RUN_END, 30, 3)
    meaning = [
        ("f1", [], [], [], True),
        ("f2", ["Red"], [], ["a"], False),
        ("g1", ["Blue"], [], [], False),
        ("g2", [], [], [], True),
    ]
    signals = spark.createDataFrame(meaning, SIGNALS)
    by_user = {row["user_id"]: row["said"] for row in feedback_by_user(active, signals).collect()}
    assert [(row["feedback_id"], row["is_vague"]) for row in by_user["u"]] == [("f1", True), ("f2", False)]
    assert by_user["u"][1]["unwanted_item_ids"] == ["a"]
    assert [tuple(row) for row in vague_feedback(active, signals).collect()] == [("v", "g2", ["a", "b"])]


def test_the_attributes_that_split_a_list_best_are_offered(spark: SparkSession) -> None:
    """Of four items shown, Red is on 2 (|4 - 4| = 0), Blue on 3 (2), Round on 1 (2), Toy on 4 (4): Red, then Blue by name."""
    items = [
        ("a", ["Toy", "Red", "Blue"]),
        ("b", ["Toy", "Red", "Blue"]),
        ("c", ["Toy", "Blue", "Round"]),
        ("d", ["Toy"]),
        ("lonely", ["Toy"]),
    ]
    vague = [
        ("u", "f1", ["a", "b", "c", "d"]),
        ("one", "f2", ["lonely"]),
        ("none", "f3", []),
        ("gone", "f4", ["no longer sold"]),
    ]
    asked = clarifications(
        spark.createDataFrame(vague, "user_id string, feedback_id string, recommended_item_ids array<string>"),
        spark.createDataFrame(items, "item_id string, attributes array<string>"),
        "r1",
        "vague",
    )
    assert sorted(tuple(row) for row in asked.collect()) == [
        ("r1", "gone", "f4", "vague", "What would you like more of?"),
        ("r1", "none", "f3", "vague", "What would you like more of?"),
        ("r1", "one", "f2", "vague", "What would you like more of?"),
        ("r1", "u", "f1", "vague", "Would you rather have red or blue?"),
    ]
