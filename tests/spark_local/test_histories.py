import datetime as dt

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from cesrec_core.feedback.understanding import Signals
from cesrec_core.feedback.wishes import settled
from cesrec_core.frames.clarifications import with_questions
from cesrec_core.frames.histories import (
    closed_by_user,
    drawn_users,
    feedback_by_user,
    heard_feedback,
    observed_histories,
    past_opinions,
    rejected_items,
    speakers,
    unclear_feedback,
    without_hidden_items,
    words_by_user,
)
from cesrec_core.sequences import MIN_ITEMS_TO_HOLD_OUT, observed_part

HISTORIES = "user_id string, item_ids array<string>"
FEEDBACK = (
    "feedback_id string, user_id string, created_at timestamp, utterance string, "
    "recommended_item_ids array<string>, source string"
)
SIGNALS = (
    "feedback_id string, intents array<string>, wanted_attributes array<string>, unwanted_attributes array<string>, "
    "wanted_item_ids array<string>, unwanted_item_ids array<string>, is_vague boolean, restated string"
)
RUN_END = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)


def said(
    feedback_id: str, user_id: str, before_end: dt.timedelta, source: str = "human", shown: tuple = ("a", "b"), words: str = ""
) -> tuple:
    return (feedback_id, user_id, RUN_END - before_end, words or f"words of {feedback_id}", list(shown), source)


def meant(
    feedback_id: str,
    wanted: tuple = (),
    unwanted: tuple = (),
    wanted_items: tuple = (),
    unwanted_items: tuple = (),
    intent: str = "critique",
    restated: str | None = None,
) -> tuple:
    of_kind = [list(values) for values in (wanted, unwanted, wanted_items, unwanted_items)]
    return (feedback_id, [intent], *of_kind, not any(of_kind), restated)


def with_a_round(heard: DataFrame) -> DataFrame:
    return heard.where(heard["round"].isNotNull())


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
    for user, items in histories.items():
        is_cut = split == "leave_one_out" and len(items) >= MIN_ITEMS_TO_HOLD_OUT
        assert found[user] == (observed_part(items, split), items[-1] if is_cut else None)


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
    active = with_a_round(heard_feedback(spark.createDataFrame(rows, FEEDBACK), RUN_END, window_days=30, max_rounds=3))
    assert dict(active.dtypes)["round"] == "int"
    assert rounds(active) == {
        "edges": ["first-moment", "last-moment"],
        "many": ["day-3", "day-2", "day-1"],
        "ties": ["b", "c", "d"],
    }


def test_speakers_are_people_within_the_window(spark: SparkSession) -> None:
    rows = [
        said("f1", "human", days(1), "human"),
        said("f2", "reviewer", days(29), "review"),
        said("f3", "simulated", days(1), "simulated_aware"),
        said("f4", "long ago", days(31), "human"),
        said("f5", "tomorrow", days(0), "human"),
        said("f6", "human", days(2), "simulated_blind"),
    ]
    found = speakers(spark.createDataFrame(rows, FEEDBACK), RUN_END, window_days=30)
    assert sorted(row["user_id"] for row in found.collect()) == ["human", "reviewer"]


def test_what_is_only_remembered_has_no_round_and_ratings_leave_room_for_words(spark: SparkSession) -> None:
    rows = [
        said("words", "u", days(9)),
        *(said(f"rating-{number}", "u", days(number), "rating") for number in (1, 2, 3, 4)),
        said("remembered", "u", days(31)),
        said("forgotten", "u", days(91)),
    ]
    heard = heard_feedback(spark.createDataFrame(rows, FEEDBACK), RUN_END, window_days=30, max_rounds=3, remembered_days=90)
    assert {row["feedback_id"]: row["round"] for row in heard.collect()} == {
        "words": 1,
        "rating-2": 2,
        "rating-1": 3,
        "rating-3": None,
        "rating-4": None,
        "remembered": None,
    }


def test_ratings_of_held_back_items_are_left_out(spark: SparkSession) -> None:
    rows = [
        said("past", "u", days(3), "rating", ("a",)),
        said("future", "u", days(1), "rating", ("z",)),
        said("future and past", "u", days(1), "rating", ("z", "a")),
        said("told", "u", days(1), "review", ("z",)),
        said("own words", "u", days(1), "human", ("z",)),
        said("of another", "v", days(1), "rating", ("z",)),
    ]
    histories = observed_histories(
        spark.createDataFrame([("u", ["a", "b", "z"]), ("v", ["z", "b", "c"])], HISTORIES), "leave_one_out"
    )
    kept = without_hidden_items(spark.createDataFrame(rows, FEEDBACK), histories)
    assert {row["feedback_id"] for row in kept.collect()} == {"past", "own words", "of another"}
    everything = histories.selectExpr("user_id", "item_ids", "CAST(NULL AS string) AS target_item_id")
    assert without_hidden_items(spark.createDataFrame(rows, FEEDBACK), everything).count() == len(rows)


def test_of_an_item_had_twice_the_held_back_rating_is_left_out(spark: SparkSession) -> None:
    rows = [("u", "a", RUN_END - days(9), 1.0, 0), ("u", "b", RUN_END - days(8), 3.0, 1), ("u", "a", RUN_END - days(2), 5.0, 2)]
    columns = "user_id string, item_id string, interacted_at timestamp, rating double, source_position bigint"
    histories = observed_histories(spark.createDataFrame([("u", ["a", "b", "a"])], HISTORIES), "leave_one_out")
    (row,) = past_opinions(histories, spark.createDataFrame(rows, columns), 5.0, 2.0).collect()
    assert (row["liked_item_ids"], row["disliked_item_ids"]) == (["a", "b"], ["a"])


def test_words_meet_their_meaning_in_order_and_the_newest_decides_what_is_unclear(spark: SparkSession) -> None:
    rows = [
        *(said(f"{user}{number}", user, days(4 - number)) for user in "uvw" for number in (1, 2)),
        said("x1", "x", days(1)),
    ]
    active = with_a_round(heard_feedback(spark.createDataFrame(rows, FEEDBACK), RUN_END, 30, 3))
    meaning = [
        meant("u1"),
        meant("u2", wanted=("Red",), unwanted_items=("a",), restated="I'd like red"),
        meant("v1", wanted=("Blue",), unwanted=("Round",)),
        meant("v2"),
        meant("w1", wanted=("Blue",), unwanted=("Blue",)),
        meant("w2", unwanted_items=("a",), wanted_items=("a",)),
        meant("x1", wanted_items=("a",), unwanted_items=("b",)),
    ]
    signals = spark.createDataFrame(meaning, SIGNALS)
    by_user = {row["user_id"]: row["said"] for row in feedback_by_user(active, signals).collect()}
    assert [(row["feedback_id"], row["is_vague"]) for row in by_user["u"]] == [("u1", True), ("u2", False)]
    assert [row["utterance"] for row in by_user["u"]] == ["words of u1", "I'd like red"]
    assert by_user["u"][1]["unwanted_item_ids"] == ["a"]
    unclear = {row["user_id"]: row for row in unclear_feedback(active, signals).collect()}
    assert set(unclear) == {"v", "w"}
    assert (unclear["v"]["feedback_id"], unclear["v"]["known_attributes"]) == ("v2", ["Blue", "Round"])
    # What was both wanted and unwanted is not known.
    assert (unclear["w"]["feedback_id"], unclear["w"]["known_attributes"]) == ("w2", [])


def test_all_clear_words_count_and_the_later_of_two_on_one_thing(spark: SparkSession) -> None:
    """u takes back blue and a, and says something unclear in the end; v contradicts themselves, and said nothing else."""
    rows = [said(f"u{number}", "u", days(5 - number)) for number in (1, 2, 3)] + [said("v1", "v", days(1))]
    active = with_a_round(heard_feedback(spark.createDataFrame(rows, FEEDBACK), RUN_END, 30, 3))
    meaning = [
        meant("u1", wanted=("Blue",), unwanted=("Round", "Red"), wanted_items=("a", "b"), restated="blue ones"),
        meant("u2", wanted=("Red",), unwanted=("Blue",), unwanted_items=("a",)),
        meant("u3", wanted=("Green",), unwanted=("Green",)),
        meant("v1", wanted=("Blue",), unwanted=("Blue",)),
    ]
    signals = spark.createDataFrame(meaning, SIGNALS)
    (row,) = words_by_user(active, signals).collect()
    assert (row["user_id"], row["utterance"], row["is_vague"]) == ("u", "words of u2", False)
    names = ("wanted_attributes", "unwanted_attributes", "wanted_item_ids", "unwanted_item_ids")
    assert [sorted(row[name]) for name in names] == [["Red"], ["Blue", "Round"], ["b"], ["a"]]
    # The evaluation says the same of one user at a time.
    one_by_one = [
        Signals((), *(tuple(values) for values in of_kind), is_vague=is_vague, confidence=1.0)
        for _, _, *of_kind, is_vague, _ in meaning[:3]
    ]
    assert [sorted(values) for values in settled(one_by_one)] == [sorted(row[name]) for name in names]


def test_rejected_items_are_those_whose_last_mention_turns_them_down(spark: SparkSession) -> None:
    rows = [
        said("u1", "u", days(5)),
        said("u2", "u", days(2)),
        said("v1", "v", days(2), words="None of these"),
        said("v2", "v", days(1), shown=("c",), words="could not put it down"),
        said("w1", "w", days(11)),
        said("x1", "x", days(1)),
        said("y1", "y", days(1)),
        said("no1", "thumb", days(1), words="👎"),
        said("no2", "mark", days(1), words="1/10"),
        said("no3", "hell", days(1), words="Hell no"),
        said("yes1", "agrees", days(1), words="No objections"),
        said("yes2", "mark9", days(1), words="9/10"),
        said("yes3", "not yet", days(1), words="No I haven't but I'd like to"),
    ]
    meaning = [
        *(meant(name, intent="reject") for name in ("no1", "no2", "no3", "yes1", "yes2", "yes3")),
        meant("u1", unwanted_items=("a", "b")),
        meant("u2", wanted_items=("a",), unwanted_items=("c",)),
        meant("v1", intent="reject"),  # all that was shown
        meant("v2", intent="reject"),  # the words do not say so
        meant("w1", unwanted_items=("a",)),  # too long ago
        meant("x1", unwanted=("Red",), intent="reject"),  # of an attribute: nothing is said of the items
        meant("y1", wanted_items=("a",), unwanted_items=("a", "b")),  # contradicts itself
    ]
    feedback, signals = spark.createDataFrame(rows, FEEDBACK), spark.createDataFrame(meaning, SIGNALS)
    found = rejected_items(feedback, signals, RUN_END, rejected_days=10)
    older = "user_id string, older_item_ids array<string>"
    sequences = spark.createDataFrame([("u", None), ("v", ["b", "z"]), ("w", ["y"])], older)
    by_user = {row["user_id"]: row["closed_item_ids"] for row in closed_by_user(found, sequences).collect()}
    all_shown = {user: ["a", "b"] for user in ("thumb", "mark", "hell")}
    assert by_user == all_shown | {"u": ["b", "c"], "v": ["a", "b", "z"], "w": ["y"]}
    moments = {(row["user_id"], row["item_id"]): row["created_at"].astimezone(dt.UTC) for row in found.collect()}
    assert moments["u", "b"] == RUN_END - days(5)
    assert rejected_items(feedback, signals, RUN_END, rejected_days=0).isEmpty()


def test_the_next_words_after_a_published_question_answer_it(spark: SparkSession) -> None:
    rows = [
        said("before", "u", days(8)),
        said("answer", "u", days(5)),
        said("afterwards", "u", days(4)),
        said("rated", "u", days(6), "rating"),
        said("unpublished", "v", days(5)),
        said("open question", "w", days(5)),
        said("two questions", "x", days(1)),
    ]
    asked = [
        ("r1", "u", ["Red", "Blue"]),
        ("r2", "v", ["Red"]),
        ("r1", "w", []),
        ("r1", "x", ["Red"]),
        ("r3", "x", ["Blue"]),
    ]
    runs = [("r1", RUN_END - days(7)), ("r2", None), ("r3", RUN_END - days(2))]
    found = with_questions(
        spark.createDataFrame(rows, FEEDBACK),
        spark.createDataFrame(asked, "run_id string, user_id string, question_attributes array<string>"),
        spark.createDataFrame(runs, "run_id string, published_at timestamp"),
    )
    answers = {row["feedback_id"]: row["question_attributes"] for row in found.collect()}
    assert len(answers) == len(rows)
    assert {name: offered for name, offered in answers.items() if offered} == {
        "answer": ["Red", "Blue"],
        "two questions": ["Blue"],
    }


def test_past_opinions_are_of_what_was_had_before_the_target(spark: SparkSession) -> None:
    histories = observed_histories(
        spark.createDataFrame([("u", ["a", "b", "c", "d", "z"]), ("v", ["a", "b", "z"])], HISTORIES), "leave_one_out"
    )
    rated = [
        ("u", "a", 0, 1.0),
        ("u", "b", 1, 5.0),
        ("u", "c", 2, 3.0),
        ("u", "d", 3, None),
        ("u", "a", 4, 2.0),  # rated again, and still no better
        ("u", "z", 5, 5.0),
        ("v", "a", 0, 1.0),
        ("v", "b", 1, 2.0),
    ]
    rows = [(user, item, RUN_END + days(day), rating, day) for user, item, day, rating in rated]
    schema = "user_id string, item_id string, interacted_at timestamp, rating double, source_position bigint"
    found = past_opinions(histories, spark.createDataFrame(rows, schema), liked_rating=5.0, disliked_rating=2.0)
    assert {row["user_id"]: (row["liked_item_ids"], row["disliked_item_ids"]) for row in found.collect()} == {
        "u": (["b", "d"], ["a"]),
        "v": (["a", "b"], ["a", "b"]),  # nothing was liked: what was chosen has to do
    }
