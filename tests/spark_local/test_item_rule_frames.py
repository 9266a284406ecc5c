"""Rules as Spark judges them, beside the rules that workers recommend by."""

import itertools

import numpy as np
import pytest
from pyspark.sql import SparkSession

from cesrec_core.frames.item_rules import (
    against_rules,
    clean_rules,
    idle_rules,
    segments_by_user,
    unusable_rules,
    unusable_segments,
)
from cesrec_core.ranking.item_rules import ItemRules

RULES = "rule string, segment string, item_id string"
ITEM_IDS = [f"i{number}" for number in range(6)]
IDX_OF = {item_id: idx for idx, item_id in enumerate(ITEM_IDS, start=1)}
SEGMENTS = ["a", "b", "c"]


@pytest.mark.slow
def test_what_is_against_rules_is_what_workers_do_not_allow(spark: SparkSession) -> None:
    """Every item is shown to a user of every set of segments, under ten random sets of rules."""
    rng = np.random.default_rng(0)
    sets = [list(chosen) for size in range(4) for chosen in itertools.combinations(SEGMENTS, size)]
    shown = spark.createDataFrame(
        [(f"u{user}", item) for user in range(len(sets)) for item in ITEM_IDS], "user_id string, item_id string"
    )
    segments = spark.createDataFrame(
        [(f"u{user}", chosen) for user, chosen in enumerate(sets) if chosen], "user_id string, segments array<string>"
    )
    num_faults = []
    for _ in range(10):
        rules = [
            (str(rng.choice(["allow", "block"])), rng.choice([*SEGMENTS, None]), str(rng.choice([*ITEM_IDS, "unheard of"])))
            for _ in range(rng.integers(1, 7))
        ]
        by_worker = ItemRules.from_rows(rules, IDX_OF)
        expected = {
            (f"u{user}", item)
            for user, chosen in enumerate(sets)
            for item, idx in IDX_OF.items()
            if not by_worker.allowed(chosen, len(ITEM_IDS))[idx]
        }
        found = against_rules(shown, spark.createDataFrame(rules, RULES), segments).collect()
        assert {(row["user_id"], row["item_id"]) for row in found} == expected
        assert len(found) == len(expected)
        num_faults.append(len(expected))
    assert len(set(num_faults)) > 3


def test_rules_are_cleaned_and_what_cannot_be_used_is_known(spark: SparkSession) -> None:
    """Ids are cleaned as `ingest` cleans them: a block of an id with a space before it would block nothing."""
    rows = [(" Block ", " ", "i1"), ("allow", " a ", " i2"), ("blok", None, "i3"), (None, None, "i3"), ("allow", "a", None)]
    raw = spark.createDataFrame([*rows, ("block", None, "  ")], RULES)
    assert {tuple(row) for row in clean_rules(raw).collect()} == {("block", None, "i1"), ("allow", "a", "i2")}
    assert unusable_rules(raw).count() == 4
    members = spark.createDataFrame([(" u1", "kids "), ("u1", "a"), (None, "b"), ("u2", " ")], "user_id string, segment string")
    assert [tuple(row) for row in segments_by_user(members).collect()] == [("u1", ["a", "kids"])]
    assert unusable_segments(members).count() == 2


def test_rules_for_items_and_segments_that_there_are_not_are_counted(spark: SparkSession) -> None:
    rows = [("block", None, "i1"), ("block", "a", "misspelt"), ("allow", "mispelt", "i2"), ("allow", "mispelt", "misspelt")]
    members = spark.createDataFrame([("u1", "a"), ("u1", " "), (None, "b")], "user_id string, segment string")
    items = spark.createDataFrame([("i1",), ("i2",)], "item_id string")
    assert idle_rules(spark.createDataFrame(rows, RULES), segments_by_user(members), items) == (1, 1)
    assert idle_rules(spark.createDataFrame(rows[:1], RULES), segments_by_user(members), items) == (0, 0)
