"""The warehouse in both of its places: under a path, and by name in a catalog."""

import dataclasses
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from cesrec_core.config import WarehouseSection
from cesrec_core.delta_io import warehouse as warehouse_module
from cesrec_core.delta_io.runs import Run, find_run, latest_begun, latest_published, read_published, write_run
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.errors import ConfigError, InputDataError, SchemaError
from cesrec_core.schemas import FEEDBACK, INTERACTIONS, PSEUDO_SEQUENCES, RECOMMENDATIONS, RUNS, TABLES, Column, Table

# Creating a table takes a second; these are one of each kind: change feed, CHECK, partitions, maps, and the views' tables.
CREATED = (INTERACTIONS, FEEDBACK, RECOMMENDATIONS, PSEUDO_SEQUENCES, RUNS)
SECRET = "ada@example.org"
NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
# Digits alone have to be quoted wherever Spark parses a name, as hyphens have, which Spark's own catalog does not take.
DATABASE = "2026"


@pytest.fixture(scope="module", params=["path", pytest.param("schema_name", marks=pytest.mark.slow)])
def warehouse(
    request: pytest.FixtureRequest, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Warehouse]:
    folder = tmp_path_factory.mktemp(request.param)
    section = WarehouseSection(path=str(folder / "warehouse"))
    if request.param == "schema_name":
        spark.sql(f"CREATE DATABASE `{DATABASE}` LOCATION '{folder / 'catalog'}'")
        section = WarehouseSection(path=str(folder / "warehouse"), schema_name=DATABASE)
    opened = Warehouse(spark, section)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warehouse_module, "TABLES", {table.name: table for table in CREATED})
        opened.create_missing_tables()
        opened.create_missing_tables()
        yield opened
    if request.param == "schema_name":
        spark.sql(f"DROP DATABASE `{DATABASE}` CASCADE")


def frame_of(warehouse: Warehouse, table: Table, rows: list[tuple[Any, ...]]) -> DataFrame:
    """Every column nullable: a frame promises nothing, the warehouse has to look."""
    return warehouse.spark.createDataFrame(rows, ", ".join(f"{column.name} {column.type}" for column in table.columns))


def recommendation(run_id: str, user_id: str, rank: int, item_id: str = "item") -> tuple[Any, ...]:
    return (run_id, user_id, rank, item_id, 1.0, 1.0, 0.0, 0.0, 0, 0.0, 0.0)


def interaction(user_id: str, item_id: str, rating: float | None = None) -> tuple[Any, ...]:
    return (user_id, item_id, NOON, rating, 0)


def remark(feedback_id: str, utterance: str) -> tuple[Any, ...]:
    return (feedback_id, "u", NOON, ["a"], utterance, "human")


def a_run(run_id: str, published_at: dt.datetime | None = None) -> Run:
    return Run(
        run_id=run_id,
        run_date=dt.date(2026, 3, 1),
        status="finished" if published_at is None else "published",
        input_versions={"items": "content:1", "interactions": "version:2"},
        config_hash="c",
        code_version="1",
        started_at=NOON,
        published_at=published_at,
    )


def users_and_items(warehouse: Warehouse, run_id: str) -> list[tuple[str, int, str]]:
    rows = warehouse.read_run(RECOMMENDATIONS, run_id).orderBy("user_id", "rank").collect()
    return [(row["user_id"], row["rank"], row["item_id"]) for row in rows]


def num_versions(warehouse: Warehouse) -> list[int]:
    return [warehouse.version(table) for table in CREATED]


def test_tables_carry_their_contract(warehouse: Warehouse) -> None:
    for table in CREATED:
        detail = warehouse.spark.sql(f"DESCRIBE DETAIL {warehouse.location(table)}").first()
        assert detail["partitionColumns"] == list(table.partition_by)
        assert detail["description"] == table.comment
        constraints = {
            name.removeprefix("delta.constraints."): value
            for name, value in detail["properties"].items()
            if name.startswith("delta.constraints.")
        }
        assert constraints == {check.name: check.expression for check in table.checks}
        assert (detail["properties"].get("delta.enableChangeDataFeed") == "true") == table.has_change_feed
        fields = warehouse.spark.sql(f"SELECT * FROM {warehouse.location(table)}").schema.fields
        assert [(field.name, field.dataType.simpleString(), field.nullable, field.metadata["comment"]) for field in fields] == [
            (column.name, column.type, column.nullable, column.comment) for column in table.columns
        ]


def test_creating_again_changes_nothing(warehouse: Warehouse) -> None:
    before = num_versions(warehouse)
    warehouse.create_missing_tables()
    assert num_versions(warehouse) == before


def test_a_table_of_an_earlier_version_gets_the_columns_that_came_since(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = dataclasses.replace(RUNS, name="runs_of_old")
    new = dataclasses.replace(old, columns=(*old.columns, Column("mood", "array<string>", "New", nullable=True)))
    monkeypatch.setattr(warehouse_module, "TABLES", {old.name: old})
    warehouse.create_missing_tables()
    monkeypatch.setattr(warehouse_module, "TABLES", {new.name: new})
    warehouse.create_missing_tables()
    assert warehouse.spark.table(warehouse.location(new)).schema["mood"].dataType.simpleString() == "array<string>"
    assert warehouse.version_by_others(new) == 0
    version = warehouse.version(new)
    warehouse.create_missing_tables()
    assert warehouse.version(new) == version


def test_replacing_a_run_leaves_one_copy_and_other_runs_alone(warehouse: Warehouse) -> None:
    first = [recommendation("r1", "u", 1, "a"), recommendation("r1", "u", 2, "b")]
    assert warehouse.replace_run(RECOMMENDATIONS, frame_of(warehouse, RECOMMENDATIONS, first), "r1") == 2
    other = frame_of(warehouse, RECOMMENDATIONS, [recommendation("r2", "u", 1, "z")])
    assert warehouse.replace_run(RECOMMENDATIONS, other, "r2") == 1
    again = frame_of(warehouse, RECOMMENDATIONS, [recommendation("r1", "u", 1, "c")])
    for _ in range(2):
        assert warehouse.replace_run(RECOMMENDATIONS, again, "r1") == 1
    assert users_and_items(warehouse, "r1") == [("u", 1, "c")]
    assert warehouse.replace_run(RECOMMENDATIONS, again.limit(0), "r1") == 0
    assert users_and_items(warehouse, "r1") == []
    assert users_and_items(warehouse, "r2") == [("u", 1, "z")]
    assert warehouse.slice_sizes(RECOMMENDATIONS) == {"r2": 1}


def test_a_merge_inserts_updates_deletes_and_leaves_unchanged_rows_alone(warehouse: Warehouse) -> None:
    old = [interaction("u", "same"), interaction("u", "changes", 1.0), interaction("u", "goes"), interaction("u", "unrated")]
    warehouse.merge(INTERACTIONS, frame_of(warehouse, INTERACTIONS, old))
    before = warehouse.version(INTERACTIONS)
    new = [
        interaction("u", "same"),
        interaction("u", "changes", 2.0),
        interaction("u", "comes"),
        interaction("u", "unrated", 3.0),
    ]
    assert warehouse.merge(INTERACTIONS, frame_of(warehouse, INTERACTIONS, new), delete_missing=True) == 4

    changes = warehouse.read_changes(INTERACTIONS, before, warehouse.version(INTERACTIONS)).collect()
    assert sorted((row["item_id"], row["_change_type"], row["rating"]) for row in changes if row["rating"] is not None) == [
        ("changes", "update_postimage", 2.0),
        ("changes", "update_preimage", 1.0),
        ("unrated", "update_postimage", 3.0),
    ]
    assert sorted((row["item_id"], row["_change_type"]) for row in changes if row["rating"] is None) == [
        ("comes", "insert"),
        ("goes", "delete"),
        ("unrated", "update_preimage"),
    ]
    found = {row["item_id"]: row["rating"] for row in warehouse.read(INTERACTIONS).collect()}
    assert found == {"same": None, "changes": 2.0, "comes": None, "unrated": 3.0}
    assert {row["item_id"] for row in warehouse.read(INTERACTIONS, version=before).collect()} == {
        "same",
        "changes",
        "goes",
        "unrated",
    }

    before = warehouse.version(INTERACTIONS)
    warehouse.merge(INTERACTIONS, frame_of(warehouse, INTERACTIONS, new), delete_missing=True)
    after = warehouse.version(INTERACTIONS)
    assert after == before or warehouse.read_changes(INTERACTIONS, before, after).isEmpty()

    warehouse.delete_rows(INTERACTIONS, frame_of(warehouse, INTERACTIONS, new[2:]), on=["user_id", "item_id"])
    assert {row["item_id"] for row in warehouse.read(INTERACTIONS).collect()} == {"same", "changes"}


def test_a_feed_that_lost_a_file_is_none(warehouse: Warehouse) -> None:
    """Also where its first rows are still there."""
    versions = [warehouse.version(INTERACTIONS)]
    for rating in (1.0, 2.0, 3.0):
        warehouse.merge(INTERACTIONS, frame_of(warehouse, INTERACTIONS, [interaction("fed", "a", rating)]))
        versions.append(warehouse.version(INTERACTIONS))
    assert warehouse.read_changes(INTERACTIONS, versions[0], versions[-1]).count() == 1 + 2 + 2
    detail = warehouse.spark.sql(f"DESCRIBE DETAIL {warehouse.location(INTERACTIONS)}").first()
    feed = Path(detail["location"].removeprefix("file:")) / "_change_data"
    max(feed.glob("*.parquet"), key=lambda file: file.stat().st_mtime_ns).unlink()
    assert warehouse.read_changes(INTERACTIONS, versions[0], versions[-1]) is None
    assert warehouse.read_changes(INTERACTIONS, versions[0], versions[1]).count() == 1


def test_a_table_tells_since_which_version_it_holds_a_run(warehouse: Warehouse) -> None:
    assert warehouse.versions_holding(INTERACTIONS) == {}
    versions = {}
    for run_id, rating in (("r1", 1.0), ("r2", 2.0), ("r1", 3.0)):
        rows = frame_of(warehouse, INTERACTIONS, [interaction("held", "a", rating)])
        warehouse.merge(INTERACTIONS, rows, holds_run=run_id)
        versions[run_id] = warehouse.version(INTERACTIONS)
    warehouse.merge(INTERACTIONS, frame_of(warehouse, INTERACTIONS, [interaction("held", "b")]))
    held = warehouse.versions_holding(INTERACTIONS)
    assert held == versions and list(held) == ["r1", "r2"]


def test_a_merge_may_leave_known_keys_as_they_are(warehouse: Warehouse) -> None:
    warehouse.merge(FEEDBACK, frame_of(warehouse, FEEDBACK, [remark("f1", "more racing")]))
    both = frame_of(warehouse, FEEDBACK, [remark("f1", "less racing"), remark("f2", "puzzles")])
    warehouse.merge(FEEDBACK, both, update_matched=False)
    found = {row["feedback_id"]: row["utterance"] for row in warehouse.read(FEEDBACK).collect()}
    assert found == {"f1": "more racing", "f2": "puzzles"}


def test_overwriting_keeps_the_contract(warehouse: Warehouse) -> None:
    for rows in ([remark("g1", "old"), remark("g2", "old")], [remark("g3", "new")]):
        assert warehouse.overwrite(FEEDBACK, frame_of(warehouse, FEEDBACK, rows)) == len(rows)
    assert [row["feedback_id"] for row in warehouse.read(FEEDBACK).collect()] == ["g3"]
    detail = warehouse.spark.sql(f"DESCRIBE DETAIL {warehouse.location(FEEDBACK)}").first()
    assert "delta.constraints.source_is_known" in detail["properties"]
    assert detail["description"] == FEEDBACK.comment
    assert not any(field.nullable for field in warehouse.spark.table(warehouse.location(FEEDBACK)).schema.fields)


def test_only_commits_by_others_are_counted(warehouse: Warehouse) -> None:
    assert warehouse.version_by_others(FEEDBACK) == 0
    theirs = frame_of(warehouse, FEEDBACK, [remark("by-others", "puzzles, please")])
    writer = theirs.write.format("delta").mode("append").option("userMetadata", "the app")
    if warehouse.schema_name is None:
        writer.save(str(warehouse.path / "tables" / FEEDBACK.name))
    else:
        writer.saveAsTable(f"`{DATABASE}`.{FEEDBACK.name}")
    by_others = warehouse.version(FEEDBACK)
    assert warehouse.version_by_others(FEEDBACK) == by_others
    warehouse.merge(FEEDBACK, frame_of(warehouse, FEEDBACK, [remark("by-us", "racing")]))
    assert warehouse.version(FEEDBACK) > by_others
    assert warehouse.version_by_others(FEEDBACK) == by_others


def log_commit(warehouse: Warehouse, table: Table, operation: str | None) -> int:
    """A commit of the given operation as another writer logs it, without anything in it; returns its version."""
    detail = warehouse.spark.sql(f"DESCRIBE DETAIL {warehouse.location(table)}").first()
    version = warehouse.version(table) + 1
    info = {"timestamp": 0, "operation": operation, "operationParameters": {}} if operation else {"timestamp": 0}
    log_file = Path(detail["location"].removeprefix("file:")) / "_delta_log" / f"{version:020}.json"
    log_file.write_text(json.dumps({"commitInfo": info}) + "\n", encoding="utf-8")
    return version


def test_whatever_may_bring_rows_counts_as_a_write(warehouse: Warehouse) -> None:
    """COPY INTO is of Databricks alone, and an operation may come that nobody knows yet."""
    table = dataclasses.replace(FEEDBACK, name="feedback_of_others")
    warehouse.create(table)
    loading = ("COPY INTO", "CLONE", "CREATE OR REPLACE TABLE AS SELECT", "REPLACE TABLE", "TRUNCATE", "to come", None)
    for operation in loading:
        version = log_commit(warehouse, table, operation)
        assert warehouse.version_by_others(table) == version, operation


def test_upkeep_by_others_is_no_write(warehouse: Warehouse) -> None:
    table = dataclasses.replace(FEEDBACK, name="feedback_kept_up")
    warehouse.create(table)
    warehouse.merge(table, frame_of(warehouse, table, [remark("f1", "more racing")]), holds_run="r1")
    before = warehouse.version_by_others(table)
    place = warehouse.location(table)
    warehouse.spark.sql(
        f"INSERT INTO {place} SELECT 'f2', user_id, created_at, recommended_item_ids, utterance, source FROM {place}"
    )
    written = warehouse.version(table)
    for statement in (
        f"OPTIMIZE {place}",
        f"VACUUM {place}",
        f"ALTER TABLE {place} SET TBLPROPERTIES ('delta.logRetentionDuration' = 'interval 60 days')",
        f"ALTER TABLE {place} UNSET TBLPROPERTIES ('delta.logRetentionDuration')",
        f"ALTER TABLE {place} ADD COLUMNS (mood STRING)",
        f"ALTER TABLE {place} ALTER COLUMN mood COMMENT 'of theirs'",
        f"ALTER TABLE {place} ADD CONSTRAINT said CHECK (utterance <> '')",
        f"ALTER TABLE {place} DROP CONSTRAINT said",
    ):
        warehouse.spark.sql(statement)
    assert warehouse.version(table) == written + 8 + 1, "VACUUM logs its start and its end"
    assert warehouse.version_by_others(table) == written > before
    assert warehouse.run_held(table) is None
    assert warehouse.newest_version_like(table, written) == warehouse.version(table)
    assert warehouse.newest_version_like(table, before) == written - 1 == before
    assert warehouse.newest_version_like(table, 99) == 99, "of a table that was made anew"


def test_runs_are_published_rolled_back_and_seen_through_views(warehouse: Warehouse) -> None:
    assert latest_published(warehouse) is None
    with pytest.raises(InputDataError, match=r"No run has been published yet. Run jobs/nightly_refresh.py first"):
        read_published(warehouse, "recommendations")

    monday, tuesday = a_run("monday", NOON), a_run("tuesday", NOON + dt.timedelta(days=1))
    for run in (monday, tuesday, a_run("unseen")):
        rows = frame_of(warehouse, RECOMMENDATIONS, [recommendation(run.run_id, "u", 1, f"item of {run.run_id}")])
        warehouse.replace_run(RECOMMENDATIONS, rows, run.run_id)
        write_run(warehouse, run)
    assert find_run(warehouse, "monday") == monday
    assert find_run(warehouse, "unseen") == a_run("unseen")
    assert find_run(warehouse, "sunday") is None
    assert shown(warehouse, "tuesday") == ["item of tuesday"]

    write_run(warehouse, dataclasses.replace(monday, published_at=NOON + dt.timedelta(days=2)))
    assert shown(warehouse, "monday") == ["item of monday"]
    assert warehouse.read(RUNS).count() == 3


def shown(warehouse: Warehouse, expected_run: str) -> list[str]:
    """Items that consumers see, the same through `read_published` and through the view."""
    assert latest_published(warehouse) == expected_run
    warehouse.create_published_views(expected_run)
    view = "latest_recommendations" if warehouse.schema_name is None else f"`{DATABASE}`.latest_recommendations"
    through_view = [row["item_id"] for row in warehouse.spark.table(view).collect()]
    assert [row["item_id"] for row in read_published(warehouse, "recommendations").collect()] == through_view
    return through_view


def test_a_view_that_cannot_be_made_is_warned_of_and_made_later(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    """A table of its name stands in the way, as does a missing right; the other view is made all the same."""
    if warehouse.schema_name is None:
        pytest.skip("a session's own views need no right, and nothing can be in their way")
    run_id, in_the_way = str(latest_published(warehouse)), f"`{DATABASE}`.latest_recommendations"
    for view in ("latest_recommendations", "latest_pseudo_sequences"):
        warehouse.spark.sql(f"DROP VIEW IF EXISTS `{DATABASE}`.{view}")
    warehouse.spark.sql(f"CREATE TABLE {in_the_way} (secret STRING) USING parquet")
    warehouse.create_published_views(run_id)
    (said,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert said.startswith(
        f"Run {run_id} is published, but the view latest_recommendations could not be made (EXPECT_VIEW_NOT_TABLE"
    )
    assert "run the job again" in said and "from the table recommendations" in said and "secret" not in said
    assert warehouse.spark.table(f"`{DATABASE}`.latest_pseudo_sequences").count() == 0
    warehouse.spark.sql(f"DROP TABLE {in_the_way}")
    assert shown(warehouse, run_id) == [f"item of {run_id}"]


def test_equal_times_of_publication_go_to_the_lower_run_id(warehouse: Warehouse) -> None:
    late = NOON + dt.timedelta(days=9)
    for run_id in ("b", "a"):
        write_run(warehouse, a_run(run_id, late))
    assert latest_published(warehouse) == "a"


def test_the_run_that_began_last_is_the_one_to_go_on_with(warehouse: Warehouse) -> None:
    """One that has ended only where that is asked for, and never one of another date, configuration or code."""
    day = dt.date(2026, 3, 7)
    mine = dataclasses.replace(a_run("ended", NOON), run_date=day)
    for run in (
        dataclasses.replace(mine, run_id="begun", status="partial", started_at=NOON - dt.timedelta(hours=1)),
        dataclasses.replace(
            mine, run_id="other-day", run_date=day + dt.timedelta(days=1), started_at=NOON + dt.timedelta(days=1)
        ),
        dataclasses.replace(mine, run_id="other-settings", config_hash="d", started_at=NOON + dt.timedelta(days=1)),
        dataclasses.replace(mine, run_id="other-code", code_version="2", started_at=NOON + dt.timedelta(days=1)),
        mine,
    ):
        write_run(warehouse, run)

    def begun(or_ended: bool) -> str | None:
        found = latest_begun(warehouse, day, "c", "1", or_ended)
        return found and found.run_id

    assert (begun(or_ended=False), begun(or_ended=True)) == ("begun", "ended")
    write_run(warehouse, dataclasses.replace(mine, run_id="anew", status="partial", started_at=NOON + dt.timedelta(hours=1)))
    assert (begun(or_ended=False), begun(or_ended=True)) == ("anew", "anew")


def test_a_map_that_did_not_change_is_no_update_and_one_that_did_is(warehouse: Warehouse) -> None:
    run = a_run("maps")
    write_run(warehouse, run)
    changed = dataclasses.replace(run, artifact_ids={"adapter": "a2"})
    write_run(warehouse, changed)
    assert find_run(warehouse, "maps") == changed
    before = warehouse.version(RUNS)
    write_run(warehouse, changed)
    last = warehouse.spark.sql(f"DESCRIBE HISTORY {warehouse.location(RUNS)}").first()
    assert last["version"] == before or last["operationMetrics"]["numTargetRowsUpdated"] == "0"


REFUSED = {
    "a missing key": (
        FEEDBACK,
        [remark("f8", "fine"), (None, SECRET, NOON, [], SECRET, "human")],
        r"Table feedback: 1 of 2 rows have no feedback_id\. Nothing was written\.",
    ),
    "a missing value": (
        FEEDBACK,
        [("f9", SECRET, NOON, [], None, "human")],
        r"Table feedback: 1 of 1 rows have no utterance\. Nothing was written\.",
    ),
    "a broken check": (
        FEEDBACK,
        [("f9", SECRET, NOON, [], SECRET, f"{SECRET} herself")],
        r"Table feedback: 1 of 1 rows break source_is_known \(source IN \('human', .*\)\)\. Nothing was written\.",
    ),
    "a repeated key": (
        FEEDBACK,
        [remark(SECRET, "one"), remark(SECRET, "two"), remark("f8", "three")],
        r"Table feedback: 1 keys \(feedback_id\) stand on more than one row\. Nothing was written\.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_row_is_refused_without_being_quoted(warehouse: Warehouse, case: str) -> None:
    table, rows, message = REFUSED[case]
    before = num_versions(warehouse)
    for write in (warehouse.merge, warehouse.overwrite):
        with pytest.raises(SchemaError, match=message) as caught:
            write(table, frame_of(warehouse, table, rows))
        assert SECRET not in str(caught.value)
    assert num_versions(warehouse) == before


def test_a_bad_row_of_a_run_is_refused(warehouse: Warehouse) -> None:
    before = num_versions(warehouse)
    rows = frame_of(warehouse, RECOMMENDATIONS, [recommendation("r9", SECRET, 0)])
    with pytest.raises(SchemaError, match=r"Table recommendations: 1 of 1 rows break rank_from_one \(rank >= 1\)") as caught:
        warehouse.replace_run(RECOMMENDATIONS, rows, "r9")
    assert SECRET not in str(caught.value)
    assert num_versions(warehouse) == before


def test_columns_must_be_those_of_the_contract(warehouse: Warehouse) -> None:
    rows = frame_of(warehouse, INTERACTIONS, [interaction("u", "a")])
    before = num_versions(warehouse)
    with pytest.raises(SchemaError, match="Table interactions: column rating is string, but its schema says double"):
        warehouse.merge(INTERACTIONS, rows.withColumn("rating", rows["item_id"]))
    with pytest.raises(
        SchemaError, match=r"Table interactions: column rating \(double\) is missing; it is written with user_id"
    ):
        warehouse.merge(INTERACTIONS, rows.drop("rating"))
    assert num_versions(warehouse) == before


def test_a_table_that_does_not_exist(warehouse: Warehouse) -> None:
    assert not warehouse.exists(TABLES["metrics"])
    with pytest.raises(InputDataError, match=r"The table metrics does not exist at .*metrics`. Run the stage that writes it"):
        warehouse.read(TABLES["metrics"])


def test_only_tables_of_runs_are_published(warehouse: Warehouse) -> None:
    with pytest.raises(ConfigError, match="The table items is not kept by run; read it directly"):
        read_published(warehouse, "items")
    with pytest.raises(ConfigError, match=r"There is no table 'itmes'. The tables are: interactions, items"):
        read_published(warehouse, "itmes")


def test_a_table_that_others_have_changed(spark: SparkSession, tmp_path: Path) -> None:
    spark.createDataFrame([("r", "u")], "run_id string, user_id string").write.format("delta").save(
        str(tmp_path / "tables" / "clarifications")
    )
    opened = Warehouse(spark, WarehouseSection(path=str(tmp_path)))
    with pytest.raises(SchemaError, match=r"column feedback_id \(string\) is missing; it holds run_id, user_id"):
        opened.read(TABLES["clarifications"])


@pytest.mark.parametrize("schema_name", ["no_such_schema", "no-such-catalog.cesrec"])
def test_a_schema_that_is_not_there_is_told_before_any_work(schema_name: str, spark: SparkSession, tmp_path: Path) -> None:
    warehouse = Warehouse(spark, WarehouseSection(path=str(tmp_path), schema_name=schema_name))
    with pytest.raises(ConfigError, match=f"warehouse.schema_name is {schema_name}, and there is no such schema"):
        warehouse.exists(RUNS)
