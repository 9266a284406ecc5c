import datetime as dt
import hashlib
from collections import Counter

import pytest
from pyspark.sql import DataFrame, SparkSession

from cesrec_core.config import IngestSection
from cesrec_core.frames.ingest import clean_feedback, clean_items, judge_interactions, split_interactions
from cesrec_core.frames.raw import conform
from cesrec_core.schemas import FEEDBACK, INTERACTIONS, ITEMS

RUN_END = dt.datetime(2024, 6, 2, tzinfo=dt.UTC)
KNOWN_ITEMS = ["a", "b"]


def interactions(
    spark: SparkSession, rows: list[tuple], schema: str = "user_id string, item_id string, timestamp string"
) -> DataFrame:
    return conform(spark.createDataFrame(rows, schema), "interactions", "rows")


def items_with(spark: SparkSession, rows: list[tuple]) -> DataFrame:
    schema = "item_id string, title string, attributes array<string>, description string"
    return conform(spark.createDataFrame(rows, schema), "items", "rows")


def known(spark: SparkSession, column: str, values: list[str]) -> DataFrame:
    return spark.createDataFrame([(value,) for value in values], f"{column} string")


def reasons(refused: DataFrame) -> Counter:
    assert refused.columns == ["source", "reason", "record"]
    collected = refused.collect()
    assert all(row["record"] for row in collected)
    return Counter(row["reason"] for row in collected)


def test_every_interaction_is_clean_or_refused_with_its_reason(spark: SparkSession) -> None:
    raw = interactions(
        spark,
        [
            ("u", "a", "2024-01-01T00:00:00Z"),
            ("u", "a", "1704067200"),  # the same moment as the row above
            ("u", "a", "1704067200000"),  # and in milliseconds
            ("u", "a", "2024-01-02"),
            (" u ", "b ", "2024-01-01 00:00:00"),
            (None, "a", "1"),
            ("  ", "a", "1"),
            ("u", None, "1"),
            ("u", "a", None),
            ("u", "a", " "),
            ("u", "a", "yesterday"),
            ("u", "a", "-5"),
            ("u", "a", "NaN"),
            ("u", "a", "2024-06-02T00:00:00Z"),
            ("u", "zzz", "1"),
        ],
    )
    clean, refused = split_interactions(judge_interactions(raw, known(spark, "item_id", KNOWN_ITEMS), RUN_END))
    assert clean.columns == [*INTERACTIONS.column_names, "review"]
    assert {(row["user_id"], row["item_id"]) for row in clean.collect()} == {("u", "a"), ("u", "b")}
    assert reasons(refused) == {
        "duplicate_interaction": 2,
        "missing_user_id": 2,
        "missing_item_id": 1,
        "missing_timestamp": 2,
        "unreadable_timestamp": 3,
        "future_timestamp": 1,
        "unknown_item": 1,
    }
    assert clean.count() + refused.count() == raw.count() == 15


def test_the_last_moment_of_the_run_date_is_not_the_future(spark: SparkSession) -> None:
    raw = interactions(spark, [("u", "a", "2024-06-01T23:59:59.999999Z")])
    clean, refused = split_interactions(judge_interactions(raw, known(spark, "item_id", KNOWN_ITEMS), RUN_END))
    assert (clean.count(), refused.count()) == (1, 0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bigint", 1704067200),
        ("double", 1704067200.0),
        ("bigint", 1704067200000),
        ("date", dt.date(2024, 1, 1)),
        ("timestamp", dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        ("string", "2024-01-01T01:00:00+01:00"),
        ("string", "1.7040672E9"),
    ],
)
def test_moments_in_every_form(spark: SparkSession, kind: str, value: object) -> None:
    raw = interactions(spark, [("u", "a", value)], f"user_id string, item_id string, timestamp {kind}")
    clean, _ = split_interactions(judge_interactions(raw, known(spark, "item_id", KNOWN_ITEMS), RUN_END))
    assert clean.selectExpr("unix_micros(interacted_at)").first()[0] == 1704067200 * 1_000_000


def test_of_duplicates_the_first_in_the_source_stays(spark: SparkSession) -> None:
    schema = "user_id string, item_id string, timestamp bigint, rating double, position int"
    raw = interactions(spark, [("u", "a", 1, 1.0, 9), ("u", "a", 1, 2.0, 3), ("u", "a", 1, 3.0, 4)], schema)
    clean, refused = split_interactions(judge_interactions(raw, known(spark, "item_id", KNOWN_ITEMS), RUN_END))
    assert [(row["rating"], row["source_position"]) for row in clean.collect()] == [(2.0, 3)]
    assert reasons(refused) == {"duplicate_interaction": 2}


def test_malformed_lines_are_refused_before_anything_else(spark: SparkSession) -> None:
    schema = "user_id string, item_id string, timestamp string, is_malformed boolean, record string"
    raw = interactions(spark, [(None, None, None, True, '{"line":"?"}'), ("u", "a", "1", None, "{}")], schema)
    clean, refused = split_interactions(judge_interactions(raw, known(spark, "item_id", KNOWN_ITEMS), RUN_END))
    assert clean.count() == 1
    assert [tuple(row) for row in refused.collect()] == [("interactions", "malformed_record", '{"line":"?"}')]


def test_an_empty_source_gives_empty_frames(spark: SparkSession) -> None:
    judged = judge_interactions(interactions(spark, []), known(spark, "item_id", KNOWN_ITEMS), RUN_END)
    clean, refused = split_interactions(judged)
    assert (clean.count(), refused.count()) == (0, 0)


def test_items_are_cleaned_and_described(spark: SparkSession) -> None:
    raw = items_with(
        spark,
        [
            ("1", " Toy\tStory\x07 (1995) ", ["Comedy", " comedy", "", "Animation ", None], "Long\ntext\u200b"),
            ("1", "Another", [], None),
            ("1", "Another", [], None),
            (None, "No id", [], None),
            ("2", " \x00 ", [], None),
            ("3", "Bare", None, " "),
        ],
    )
    clean, refused = clean_items(raw, IngestSection())
    assert clean.columns == ITEMS.column_names
    first, bare = clean.orderBy("item_id").collect()
    text = "Toy Story (1995); Animation, Comedy; Long text"
    assert (first["title"], first["attributes"], first["description"]) == (
        "Toy Story (1995)",
        ["Animation", "Comedy"],
        "Long text",
    )
    assert (first["item_text"], first["text_hash"]) == (text, hashlib.sha256(text.encode()).hexdigest())
    assert (first["is_derived_attributes"], first["is_active"]) == (False, True)
    assert (bare["attributes"], bare["description"], bare["item_text"]) == ([], None, "Bare")
    assert reasons(refused) == {"duplicate_item": 2, "missing_item_id": 1, "missing_title": 1}
    assert clean.count() + refused.count() == raw.count()


def test_what_web_pages_make_of_text_is_undone(spark: SparkSession) -> None:
    prose = (
        "<P class='x'>Long&nbsp;text<br/>of <b>H<sub>2</sub>O</b> and &lt;tag&gt;</p><li>fits a waist <Medium. if x <b and c> 3"
    )
    clean, _ = clean_items(items_with(spark, [("1", "One", ["Film &amp; TV", None], prose + ", I <3 it <")]), IngestSection())
    item = clean.first()
    assert item["attributes"] == ["Film & TV"]
    assert item["description"] == "Long text of H2O and <tag> fits a waist <Medium. if x <b and c> 3, I <3 it <"


def test_prose_made_to_be_slow_to_clean_is_not(spark: SparkSession) -> None:
    bombs = ["<p " + "=" * 100_000, "<p =" * 25_000, "</b " * 25_000, "&" * 100_000, "&amp" * 25_000]
    rows = [(str(number), "One", [], bomb) for number, bomb in enumerate(bombs)]
    clean, _ = clean_items(items_with(spark, rows), IngestSection())
    found = {row["item_id"]: row["description"] for row in clean.collect()}
    assert [found[str(number)] for number in range(len(bombs))] == [bomb.strip() for bomb in bombs]


def test_attributes_that_are_text_are_split_where_no_character_ends(spark: SparkSession) -> None:
    schema = "item_id string, title string, attributes string"
    rows = [
        ("1", "One", "Film &amp; TV|Drama"),
        ("2", "Two", "Arts&Crafts;Sci-Fi &amp; Fantasy"),
        ("3", "Three", '["a &quot;b&quot;"]'),
    ]
    clean, _ = clean_items(conform(spark.createDataFrame(rows, schema), "items", "rows"), IngestSection())
    found = [row["attributes"] for row in clean.orderBy("item_id").collect()]
    assert found == [["Drama", "Film & TV"], ["Arts&Crafts", "Sci-Fi & Fantasy"], ['a "b"']]
    said = [("f", "u", "2026-01-01", "no", "a&amp;b;c")]
    feedback = conform(
        spark.createDataFrame(
            said, "feedback_id string, user_id string, created_at string, utterance string, recommended_item_ids string"
        ),
        "feedback",
        "rows",
    )
    assert feedback.first()["recommended_item_ids"] == ["a&amp", "b", "c"]


@pytest.mark.parametrize(
    ("title", "cleaned"),
    [
        ("\u00a0Heat\u00a0", "Heat"),
        ("one\u2028two\u2029three\u3000four\x85five", "one two three four five"),
        ("mother \U0001f469\u200d\U0001f467 and child", "mother \U0001f469\u200d\U0001f467 and child"),
        ("\u202eright to left\u202c", "right to left"),
        *((nothing, None) for nothing in ("\u00a0", "\u3000", "\u2028", "\ufe0f", "\u200d", "\u200b \u200c")),
        ("?!", "?!"),
        ("one \u200b two", "one two"),
        ("Et Dieu&#8230;cr&eacute;a &quot;la femme&#x22;&nbsp;", 'Et Dieu…créa "la femme"'),
        ("AT&T, R&D; Fire&regal; &timestamp; &amp;lt; &#0; &#146;", "AT&T, R&D; Fire&regal; &timestamp; < \ufffd ’"),
        ("I <3 <b>", "I <3 <b>"),
        ("千と千尋の神隠し", "千と千尋の神隠し"),
    ],
)
def test_titles_of_all_scripts_are_one_line(spark: SparkSession, title: str, cleaned: str | None) -> None:
    clean, refused = clean_items(items_with(spark, [("1", title, [], None)]), IngestSection())
    assert [row["title"] for row in clean.collect()] == ([] if cleaned is None else [cleaned])
    assert reasons(refused) == ({"missing_title": 1} if cleaned is None else {})


def test_item_text_by_a_template(spark: SparkSession) -> None:
    rows = [("1", "Alien", ["Horror", "Sci-Fi"], "In space."), ("2", "Bare", [], None)]
    section = IngestSection(item_text=["A film of {attributes}", "called {title}!", "{description}"])
    clean, _ = clean_items(items_with(spark, rows), section)
    texts = {row["item_id"]: row["item_text"] for row in clean.collect()}
    assert texts == {"1": "A film of Horror, Sci-Fi; called Alien!; In space.", "2": "called Bare!"}


def test_item_text_is_capped(spark: SparkSession) -> None:
    raw = items_with(spark, [("1", "Title", ["A"], "x" * 500)])
    clean, _ = clean_items(raw, IngestSection(max_text_characters=20))
    assert clean.first()["item_text"] == "Title; A; xxxxxxxxxx"


def test_attributes_come_from_titles_only_where_no_item_has_any(spark: SparkSession) -> None:
    titles = ["Halo - Xbox One", "Forza: Xbox One", "Call of Duty (Wii)", "Call of Duty 2 - Wii", "The Sims 3"]
    rows = [(str(number), title, [], None) for number, title in enumerate(titles)]
    section = IngestSection(min_items_per_derived_attribute=2)
    clean, refused = clean_items(items_with(spark, rows), section)
    found = {row["item_id"]: row for row in clean.collect()}
    assert {key: row["attributes"] for key, row in found.items()} == {
        "0": ["xbox one"],
        "1": ["xbox one"],
        "2": ["call of duty", "wii"],
        "3": ["call of duty", "wii"],
        "4": [],
    }
    assert all(row["is_derived_attributes"] for row in found.values())
    assert found["0"]["item_text"] == "Halo - Xbox One"
    assert refused.count() == 0

    labelled, _ = clean_items(items_with(spark, [*rows, ("9", "Labelled", ["Puzzle"], None)]), section)
    assert {tuple(row["attributes"]) for row in labelled.collect()} == {(), ("Puzzle",)}
    assert labelled.where("is_derived_attributes").count() == 0


def test_feedback_is_clean_or_refused(spark: SparkSession) -> None:
    schema = (
        "feedback_id string, user_id string, created_at string, utterance string, "
        "recommended_item_ids array<string>, source string"
    )
    ok = "2024-06-01T10:00:00Z"
    raw = conform(
        spark.createDataFrame(
            [
                ("1", "u", ok, " no horror ", ["b", " ", "a "], None),
                ("1", "u", ok, "again", None, None),
                ("2", "u", ok, "more", None, "Review"),
                (None, "u", ok, "x", None, None),
                ("3", None, ok, "x", None, None),
                ("4", "nobody", ok, "x", None, None),
                ("5", "u", ok, " \x00\n", None, None),
                ("6", "u", "2025-01-01", "x", None, None),
                ("7", "u", "soon", "x", None, None),
                ("8", "u", None, "x", None, None),
                ("9", "u", ok, "x", None, "oracle"),
            ],
            schema,
        ),
        "feedback",
        "rows",
    )
    clean, refused = clean_feedback(raw, known(spark, "user_id", ["u"]), RUN_END)
    assert clean.columns == FEEDBACK.column_names
    rows = {row["feedback_id"]: row for row in clean.collect()}
    assert (rows["1"]["utterance"], rows["1"]["recommended_item_ids"], rows["1"]["source"]) == (
        " no horror ",
        ["b", "a"],
        "human",
    )
    assert (rows["2"]["recommended_item_ids"], rows["2"]["source"]) == ([], "review")
    assert reasons(refused) == {
        "duplicate_feedback": 1,
        "missing_feedback_id": 1,
        "missing_user_id": 1,
        "unknown_user": 1,
        "empty_utterance": 1,
        "future_timestamp": 1,
        "unreadable_timestamp": 1,
        "missing_timestamp": 1,
        "unknown_source": 1,
    }
    assert clean.count() + refused.count() == raw.count() == 11


def test_clean_frames_have_the_types_of_their_schema(spark: SparkSession) -> None:
    known_items, users = known(spark, "item_id", KNOWN_ITEMS), known(spark, "user_id", ["u"])
    feedback = spark.createDataFrame(
        [("1", "u", 1, "x")], "feedback_id string, user_id string, created_at bigint, utterance string"
    )
    frames = {
        INTERACTIONS: split_interactions(judge_interactions(interactions(spark, [("u", "a", "1")]), known_items, RUN_END))[
            0
        ].drop("review"),
        ITEMS: clean_items(items_with(spark, [("1", "T", [], None)]), IngestSection())[0],
        FEEDBACK: clean_feedback(conform(feedback, "feedback", "rows"), users, RUN_END)[0],
    }
    for table, frame in frames.items():
        assert frame.dtypes == [(column.name, column.type) for column in table.columns]
