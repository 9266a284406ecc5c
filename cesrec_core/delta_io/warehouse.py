"""The tables of one warehouse: create, check, read at a version, and write in the three ways this project writes.

Nothing else opens a Delta table. Tables lie under a path or carry a catalog name, exactly one of the two.
"""

import functools
import logging
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from cesrec_core import columns as c
from cesrec_core.config import WarehouseSection
from cesrec_core.errors import ConfigError, InputDataError, SchemaError
from cesrec_core.schemas import PUBLISHED_VIEWS, TABLES, Table, table_named
from cesrec_core.table_names import is_of_another, quoted

# Every commit of this project carries it, so that commits by others (people's feedback) can be told apart.
COMMIT_METADATA = "cesrec"
# Prefix of a commit's metadata; after it stands the run whose rows the table holds from that commit on.
HOLDS_RUN = f"{COMMIT_METADATA} holds run "
COMMIT_METADATA_SETTING = "spark.databricks.delta.commitInfo.userMetadata"

# What Delta, and delta-rs, call operations after which a table holds the rows that it held before. All others count as
# writes, also those that this list does not know: a platform has its own, and feedback that goes unnoticed is not acted on,
# where one write too many costs a look. So do those that drop columns or call them otherwise.
UPKEEP_OPERATIONS = (
    *("CREATE TABLE", "ADD COLUMN", "ADD COLUMNS", "CHANGE COLUMN", "CHANGE COLUMNS", "UPDATE SCHEMA", "CLUSTER BY"),
    *("SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "ADD CONSTRAINT", "DROP CONSTRAINT"),
    *("UPDATE FIELD METADATA", "UPDATE TABLE METADATA", "DOMAIN METADATA CLEANUP"),
    *("UPGRADE PROTOCOL", "ADD FEATURE", "DROP FEATURE", "REMOVE COLUMN MAPPING", "REORG TABLE UPGRADE UNIFORM"),
    *("OPTIMIZE", "REORG", "VACUUM START", "VACUUM END", "COMPUTE STATS", "OPTIMIZE CHECKPOINT", "Empty Commit"),
    *("ROW TRACKING BACKFILL", "ROW TRACKING UNBACKFILL", "Deletion Vector Tombstones"),
)

log = logging.getLogger(__name__)


def spark_schema(table: Table) -> StructType:
    """The table's columns as a Spark schema."""
    fields = ", ".join(f"{column.name} {column.type}{'' if column.nullable else ' NOT NULL'}" for column in table.columns)
    return cast(StructType, StructType.fromDDL(fields))


def local_frame(spark: SparkSession, rows: Sequence[Mapping[str, Any]], table: Table) -> DataFrame:
    """A few rows of this process as a frame. By way of Arrow, since rows of Python start Python on the executors, where there
    need be none, and which takes about a second."""
    return spark.createDataFrame(pa.Table.from_pylist(list(rows), schema=table.arrow_schema()), spark_schema(table))


def _is_write() -> SparkColumn:
    """Of a table's history: whether the commit may have changed rows. Delta asks no writer to name its operation."""
    return ~F.coalesce("operation", F.lit("")).isin(*UPKEEP_OPERATIONS)


def _is_equal(left: str, right: str) -> str:
    return f"{left} <=> {right}"


def _is_equal_map(left: str, right: str) -> str:
    """Spark cannot compare maps."""
    return f"to_json({left}) <=> to_json({right})"


class Warehouse:
    """Tables by the names of `schemas.TABLES`, in the place that the configuration names."""

    def __init__(self, spark: SparkSession, section: WarehouseSection) -> None:
        self.spark = spark
        self.path = Path(section.path).absolute()
        self.schema_name = section.schema_name

    @contextmanager
    def _marked(self, mark: str = COMMIT_METADATA) -> Iterator[None]:
        """What is committed inside is marked as this project's; the session is its user's otherwise."""
        self.spark.conf.set(COMMIT_METADATA_SETTING, mark)
        try:
            yield
        finally:
            self.spark.conf.unset(COMMIT_METADATA_SETTING)

    def location(self, table: Table) -> str:
        """What Spark SQL calls the table, quoted."""
        if self.schema_name is None:
            return f"delta.`{self.path / 'tables' / table.name}`"
        return quoted(f"{self.schema_name}.{table.name}")

    def exists(self, table: Table) -> bool:
        """Whether there is such a table.

        Raises:
            ConfigError: there is no such schema, so that nothing could be written either.
        """
        if self.schema_name is None:
            return DeltaTable.isDeltaTable(self.spark, str(self.path / "tables" / table.name))
        try:
            if self.spark.catalog.tableExists(self.location(table)):
                return True
            if self.spark.catalog.databaseExists(quoted(self.schema_name)):
                return False
        except (PySparkException, Py4JJavaError) as error:
            if not is_of_another(str(error)):
                raise
        raise ConfigError(
            f"warehouse.schema_name is {self.schema_name}, and there is no such schema, or this user may not see it or its "
            "tables. Create it, let this user use it, or name another."
        )

    def create_missing_tables(self) -> None:
        """Create every table that is not there yet, with NOT NULL, CHECK constraints and comments.

        Tables of an earlier version get the nullable columns that have come since; their old rows hold null there.
        """
        for table in TABLES.values():
            self.create(table)

    def create(self, table: Table) -> None:
        """Create the table; one of an earlier version gets the columns that have come since."""
        if self.exists(table):
            self._add_new_columns(table)
            return
        builder = DeltaTable.createIfNotExists(self.spark).comment(table.comment)
        if self.schema_name is None:
            builder = builder.location(str(self.path / "tables" / table.name))
        else:
            builder = builder.tableName(self.location(table))
        for column in table.columns:
            builder = builder.addColumn(column.name, column.type, nullable=column.nullable, comment=column.comment)
        for check in table.checks:
            builder = builder.property(f"delta.constraints.{check.name}", check.expression)
        if table.has_change_feed:
            builder = builder.property("delta.enableChangeDataFeed", "true")
        if table.partition_by:
            builder = builder.partitionedBy(*table.partition_by)
        with self._marked():
            builder.execute()

    def _add_new_columns(self, table: Table) -> None:
        found = set(self.spark.table(self.location(table)).columns)
        new = [f"`{column.name}` {column.type}" for column in table.columns if column.nullable and column.name not in found]
        if new:
            with self._marked():
                self.spark.sql(f"ALTER TABLE {self.location(table)} ADD COLUMNS ({', '.join(new)})")

    def version(self, table: Table) -> int:
        """The table's newest version."""
        return int(self._delta_table(table).history(1).select("version").collect()[0][0])

    def newest_version_like(self, table: Table, version: int) -> int:
        """The newest version that holds the rows of `version`: upkeep leaves them, and lets files of older versions go."""
        later = self._delta_table(table).history().where(F.col("version") > version)
        written = F.min(F.when(_is_write(), F.col("version")))
        first, last, written = later.agg(F.min("version"), F.max("version"), written).collect()[0]
        # Nothing has come since, or Delta has forgotten what came first.
        if first != version + 1:
            return version
        return int(last if written is None else written - 1)

    def versions_holding(self, table: Table) -> dict[str, int]:
        """By run that `merge` named: the newest version at which the table held that run's rows. Newest version first."""
        history = self._delta_table(table).history().where(F.col("userMetadata").startswith(HOLDS_RUN))
        commits = history.orderBy(F.col("version").desc()).select("version", "userMetadata").collect()
        versions: dict[str, int] = {}
        for version, mark in commits:
            versions.setdefault(mark.removeprefix(HOLDS_RUN), int(version))
        return versions

    def run_held(self, table: Table) -> str | None:
        """The run whose rows `merge` wrote last; None where somebody has written since."""
        written = self._delta_table(table).history().where(_is_write())
        newest = written.orderBy(F.col("version").desc()).select(F.coalesce("userMetadata", F.lit(""))).first()
        mark = "" if newest is None else str(newest[0])
        return mark.removeprefix(HOLDS_RUN) if mark.startswith(HOLDS_RUN) else None

    def version_by_others(self, table: Table) -> int:
        """The newest version that somebody other than this project wrote; 0 where there is none."""
        history = self._delta_table(table).history()
        others = history.where(_is_write() & (F.coalesce("userMetadata", F.lit("")) != COMMIT_METADATA))
        return int(others.agg(F.coalesce(F.max("version"), F.lit(0))).collect()[0][0])

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """The table's rows, of one version where given. Without a version each action sees the newest one.

        Raises:
            InputDataError: the table does not exist.
            SchemaError: its columns are not those of its contract.
        """
        if not self.exists(table):
            raise InputDataError(
                f"The table {table.name} does not exist at {self.location(table)}. Run the stage that writes it, or "
                "jobs/nightly_refresh.py."
            )
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        frame = (
            reader.load(str(self.path / "tables" / table.name))
            if self.schema_name is None
            else reader.table(self.location(table))
        )
        self._refuse_other_columns(frame, table, "holds")
        return frame.select(*table.column_names)

    def read_run(self, table: Table, run_id: str) -> DataFrame:
        return self.read(table).where(F.col(c.RUN_ID) == run_id)

    def read_changes(self, table: Table, after_version: int, version: int) -> DataFrame | None:
        """Rows inserted, updated or deleted in versions after_version + 1 .. version, with Delta's `_change_type`.

        None where the feed is gone: VACUUM deletes its files, while the table's own are still whole.
        """
        reader = self.spark.read.format("delta").option("readChangeFeed", "true")
        reader = reader.option("startingVersion", after_version + 1).option("endingVersion", version)
        try:
            feed = (
                reader.load(str(self.path / "tables" / table.name))
                if self.schema_name is None
                else reader.table(self.location(table))
            )
            # Opens every file, where a first row would need only one.
            feed.write.format("noop").mode("overwrite").save()
        except (PySparkException, Py4JJavaError) as error:
            log.info(
                "The change feed of %s since version %d cannot be read (%s)", table.name, after_version, type(error).__name__
            )
            return None
        return feed

    def replace_run(self, table: Table, frame: DataFrame, run_id: str) -> int:
        """Replace the slice of one run; returns the number of rows. Writing the same run again leaves one copy."""
        num_rows = self._check_rows(frame, table)
        writer = self._in_order(frame, table).write.format("delta").mode("overwrite")
        self._save(writer.option("replaceWhere", f"{c.RUN_ID} = '{run_id}'"), table)
        return num_rows

    def overwrite(self, table: Table, frame: DataFrame) -> int:
        """Replace all rows in one commit; returns their number."""
        num_rows = self._check_rows(frame, table)
        self._save(self._in_order(frame, table).write.format("delta").mode("overwrite"), table)
        return num_rows

    def merge(
        self,
        table: Table,
        frame: DataFrame,
        delete_missing: bool = False,
        update_matched: bool = True,
        same: Mapping[str, Callable[[str, str], str]] | None = None,
        holds_run: str | None = None,
    ) -> int:
        """Upsert by the table's key in one commit; returns the number of source rows.

        Unchanged rows are not rewritten, so the change feed holds true changes only.

        Args:
            delete_missing: also remove rows whose key the source lacks.
            same: by column, from two values in SQL to whether they count as the same, where that is not equality.
            holds_run: the run whose rows the table then holds, for `versions_holding`.
        """
        num_rows = self._check_rows(frame, table)
        same_key = " AND ".join(f"t.`{name}` <=> s.`{name}`" for name in table.key)
        others = [column for column in table.columns if column.name not in table.key]
        merge = self._delta_table(table).alias("t").merge(self._in_order(frame, table).alias("s"), same_key)
        if others and update_matched:
            is_same = {column.name: _is_equal_map if column.type.startswith("map<") else _is_equal for column in others}
            is_same |= same or {}
            differs = " OR ".join(f"NOT ({is_same[each.name](f't.`{each.name}`', f's.`{each.name}`')})" for each in others)
            merge = merge.whenMatchedUpdateAll(condition=differs)
        merge = merge.whenNotMatchedInsertAll()
        if delete_missing:
            merge = merge.whenNotMatchedBySourceDelete()
        with self._marked(COMMIT_METADATA if holds_run is None else HOLDS_RUN + holds_run):
            merge.execute()
        return num_rows

    def delete_rows(self, table: Table, keys: DataFrame, on: Sequence[str]) -> None:
        """Remove the rows whose `on` columns appear in `keys`."""
        same = " AND ".join(f"t.`{name}` = s.`{name}`" for name in on)
        merge = self._delta_table(table).alias("t").merge(keys.select(*on).distinct().alias("s"), same)
        with self._marked():
            merge.whenMatchedDelete().execute()

    def vacuum(self, table: Table, retention_hours: int) -> None:
        with self._marked():
            self._delta_table(table).vacuum(retention_hours)

    def optimize(self, table: Table) -> None:
        with self._marked():
            self._delta_table(table).optimize().executeCompaction()

    def num_rows(self, table: Table) -> int:
        """Number of rows; tables of earlier versions have them, too."""
        return self.spark.table(self.location(table)).count()

    def slice_sizes(self, table: Table) -> dict[str, int]:
        """Number of rows by value of the column that the table is partitioned by. Tables of earlier versions have it, too."""
        (column,) = table.partition_by
        return {row[0]: row[1] for row in self.spark.table(self.location(table)).groupBy(column).count().collect()}

    def delete_where(self, table: Table, condition: str | SparkColumn) -> None:
        with self._marked():
            self._delta_table(table).delete(condition)

    def create_published_views(self, published_run: str) -> None:
        """Views of one run's slices: persistent ones where tables have catalog names, this session's elsewhere.

        What cannot be made is warned of: the run is published by then, and consumers can read the tables.
        """
        for view, name in PUBLISHED_VIEWS.items():
            try:
                self._create_published_view(view, table_named(name), published_run)
            except Exception as error:
                # Its message quotes statements and places; the class and Spark's own name of the condition tell the kind.
                condition = error.getCondition() if isinstance(error, PySparkException) else None
                log.warning(
                    "Run %s is published, but the view %s could not be made (%s). Let this user create views in %s and "
                    "replace %s, and run the job again; until then read the rows of that run from the table %s.",
                    published_run,
                    view,
                    condition or type(error).__name__,
                    self.schema_name or "this session",
                    view,
                    name,
                )

    def _create_published_view(self, view: str, table: Table, published_run: str) -> None:
        if self.schema_name is None:
            self.read_run(table, published_run).createOrReplaceTempView(view)
            return
        name = quoted(f"{self.schema_name}.{view}")
        published = f"SELECT run_id FROM {self.location(TABLES['runs'])} WHERE published_at IS NOT NULL"
        latest = f"{published} ORDER BY published_at DESC, run_id LIMIT 1"
        self.spark.sql(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM {self.location(table)} WHERE run_id = ({latest})")

    def _delta_table(self, table: Table) -> DeltaTable:
        if self.schema_name is None:
            return DeltaTable.forPath(self.spark, str(self.path / "tables" / table.name))
        return DeltaTable.forName(self.spark, self.location(table))

    def _save(self, writer: DataFrameWriter, table: Table) -> None:
        with self._marked():
            if self.schema_name is None:
                writer.save(str(self.path / "tables" / table.name))
            else:
                writer.saveAsTable(self.location(table))

    @staticmethod
    def _in_order(frame: DataFrame, table: Table) -> DataFrame:
        return frame.select(*(F.col(column.name).cast(column.type) for column in table.columns))

    @staticmethod
    def _refuse_other_columns(frame: DataFrame, table: Table, verb: str) -> None:
        wanted = {field.name: field.dataType.simpleString() for field in spark_schema(table)}
        found = {field.name: field.dataType.simpleString() for field in frame.schema}
        for name, type_ in wanted.items():
            if name not in found:
                raise SchemaError(
                    f"Table {table.name}: column {name} ({type_}) is missing; it {verb} {', '.join(found)}. A table of an "
                    "earlier version gets it from jobs/nightly_refresh.py."
                )
            if found[name] != type_:
                raise SchemaError(f"Table {table.name}: column {name} is {found[name]}, but its schema says {type_}.")

    def _check_rows(self, frame: DataFrame, table: Table) -> int:
        """Count the rows, and refuse those that break the contract before Delta does: its message would print them."""
        self._refuse_other_columns(frame, table, "is written with")
        rules = self._rules(table)
        breaks_any = functools.reduce(operator.or_, rules.values())
        # In one pass, since the frame may be long in the making. Which rule is broken is asked where one is.
        by_key = frame.groupBy(*table.key).agg(F.count(F.lit(1)).alias("rows"), F.count_if(breaks_any).alias("broken"))
        sums = (F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in ("rows", "broken"))
        found = by_key.agg(*sums, F.count_if(F.col("rows") > 1).alias("repeated")).collect()[0]
        if found["broken"]:
            counts = frame.agg(*(F.count_if(breaks) for breaks in rules.values())).collect()[0]
            count, what = next((count, what) for count, what in zip(counts, rules, strict=True) if count)
            raise SchemaError(f"Table {table.name}: {count} of {found['rows']} rows {what}. Nothing was written.")
        if found["repeated"]:
            raise SchemaError(
                f"Table {table.name}: {found['repeated']} keys ({', '.join(table.key)}) stand on more than one row. "
                "Nothing was written."
            )
        return int(found["rows"])

    @staticmethod
    def _rules(table: Table) -> dict[str, SparkColumn]:
        """What rows must not do, by how a message says it: true of those that do."""
        rules = {f"have no {column.name}": F.col(column.name).isNull() for column in table.columns if not column.nullable}
        for check in table.checks:
            rules[f"break {check.name} ({check.expression})"] = ~F.coalesce(F.expr(check.expression), F.lit(False))
        return rules
