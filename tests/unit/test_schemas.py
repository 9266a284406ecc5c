import pytest
from pyspark.sql.pandas.types import from_arrow_type

from cesrec_core import columns
from cesrec_core.errors import ConfigError
from cesrec_core.schemas import PUBLISHED_VIEWS, SERVED_RECOMMENDATIONS, TABLES, Table, table_named

EACH_TABLE = pytest.mark.parametrize("table", (*TABLES.values(), SERVED_RECOMMENDATIONS), ids=lambda table: table.name)


@EACH_TABLE
def test_arrow_and_spark_types_agree(table: Table) -> None:
    schema = table.arrow_schema()
    assert schema.names == table.column_names
    for column in table.columns:
        field = schema.field(column.name)
        assert from_arrow_type(field.type).simpleString() == column.type
        assert field.nullable == column.nullable


@EACH_TABLE
def test_keys_and_partitions_are_columns_that_are_never_null(table: Table) -> None:
    never_null = {column.name for column in table.columns if not column.nullable}
    assert table.key
    assert {*table.key, *table.partition_by} <= never_null
    assert set(table.partition_by) <= set(table.key)


@EACH_TABLE
def test_everything_has_a_comment(table: Table) -> None:
    assert table.comment
    assert all(column.comment for column in table.columns)


@EACH_TABLE
def test_column_names_come_from_one_place(table: Table) -> None:
    spelled = {value for name, value in vars(columns).items() if name.isupper()}
    assert set(table.column_names) <= spelled
    assert len(set(table.column_names)) == len(table.columns)


def test_each_column_name_is_spelled_once() -> None:
    spelled = [value for name, value in vars(columns).items() if name.isupper()]
    assert len(set(spelled)) == len(spelled)


def test_tables_of_runs_begin_with_the_run() -> None:
    per_run = {table.name for table in TABLES.values() if table.is_per_run}
    assert per_run == {
        "quarantine",
        "outlier_masks",
        "pseudo_sequences",
        "clarifications",
        "recommendations",
        "metrics",
    }
    assert all(TABLES[name].key[0] == "run_id" for name in per_run)
    assert set(PUBLISHED_VIEWS.values()) <= per_run


def test_an_unknown_table_is_named_with_the_known_ones() -> None:
    assert table_named("runs") is TABLES["runs"]
    with pytest.raises(ConfigError, match=r"There is no table 'run'\. The tables are: interactions, .*, runs\."):
        table_named("run")
