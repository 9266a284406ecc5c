"""The table `runs`: what a run was made of, whether consumers see it, and which one they see now."""

import datetime as dt
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core import run_status
from cesrec_core.delta_io.warehouse import Warehouse, local_frame
from cesrec_core.errors import ConfigError, InputDataError
from cesrec_core.schemas import RUNS, table_named


@dataclass(frozen=True)
class Run:
    """One row of `runs`. Times are UTC."""

    run_id: str
    run_date: dt.date
    status: str
    input_versions: dict[str, str]
    config_hash: str
    code_version: str
    started_at: dt.datetime
    output_versions: dict[str, str] = field(default_factory=dict)
    artifact_ids: dict[str, str] = field(default_factory=dict)
    finished_at: dt.datetime | None = None
    published_at: dt.datetime | None = None


def find_run(warehouse: Warehouse, run_id: str) -> Run | None:
    row = warehouse.read(RUNS).where(F.col(c.RUN_ID) == run_id).first()
    return None if row is None else _run_of(row)


def all_runs(warehouse: Warehouse) -> list[Run]:
    """Every run that has ever begun here, oldest first."""
    return [_run_of(row) for row in warehouse.read(RUNS).orderBy(c.STARTED_AT, c.RUN_ID).collect()]


def newest_run(warehouse: Warehouse) -> str | None:
    """The run that began last, whatever became of it."""
    if not warehouse.exists(RUNS):
        return None
    row = warehouse.read(RUNS).orderBy(F.col(c.STARTED_AT).desc(), c.RUN_ID).select(c.RUN_ID).first()
    return None if row is None else str(row[0])


def _run_of(row: Row) -> Run:
    # PySpark hands out times without a zone, in the zone of this process.
    in_utc = {name: value.astimezone(dt.UTC) for name, value in row.asDict().items() if isinstance(value, dt.datetime)}
    return Run(**{**row.asDict(), **in_utc})


def write_run(warehouse: Warehouse, run: Run) -> None:
    """Insert the run's row or replace it: one commit, which is what publishes a run."""
    warehouse.merge(RUNS, local_frame(warehouse.spark, [vars(run)], RUNS))


def latest_published(warehouse: Warehouse) -> str | None:
    """The run that consumers read: the one with the greatest published_at."""
    published = warehouse.read(RUNS).where(F.col(c.PUBLISHED_AT).isNotNull())
    row = published.orderBy(F.col(c.PUBLISHED_AT).desc(), F.col(c.RUN_ID)).select(c.RUN_ID).first()
    return None if row is None else str(row[0])


def latest_begun(
    warehouse: Warehouse, run_date: dt.date, config_hash: str, code_version: str, or_ended: bool = False
) -> Run | None:
    """Of the unfinished runs of this date, configuration and code (`or_ended`: of all of them), the one that began last."""
    same = (
        (F.col(c.RUN_DATE) == F.lit(run_date)) & (F.col(c.CONFIG_HASH) == config_hash) & (F.col(c.CODE_VERSION) == code_version)
    )
    runs = warehouse.read(RUNS).where(same if or_ended else same & ~F.col(c.STATUS).isin(*run_status.DONE))
    row = runs.orderBy(F.col(c.STARTED_AT).desc(), F.col(c.RUN_ID)).first()
    return None if row is None else _run_of(row)


def read_published(warehouse: Warehouse, name: str) -> DataFrame:
    """The published run's rows of a per-run table, such as `recommendations`.

    Raises:
        ConfigError: there is no table of that name, or its rows do not belong to runs.
        InputDataError: nothing has been published yet.
    """
    table = table_named(name)
    if not table.is_per_run:
        raise ConfigError(f"The table {name} is not kept by run; read it directly.")
    run_id = latest_published(warehouse)
    if run_id is None:
        raise InputDataError("No run has been published yet. Run jobs/nightly_refresh.py first.")
    return warehouse.read_run(table, run_id)
