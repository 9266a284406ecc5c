"""maintain: drop the rows, work folders and pages of old runs, compact what is left, and delete files that nothing needs."""

import dataclasses
import datetime as dt
import logging
import shutil
from typing import Any

from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.config import Config, MaintainSection
from cesrec_core.delta_io.runs import find_run, latest_published, write_run
from cesrec_core.delta_io.session import spark_session
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.errors import BusyError, ConfigError
from cesrec_core.schemas import RUNS, SERVED_RECOMMENDATIONS, TABLES, Table
from cesrec_core.stages.context import writing_to
from cesrec_core.stages.export_recommendations import export_lock
from cesrec_core.stages.report import report_path

log = logging.getLogger(__name__)

ROLL_BACK_STATUSES = ("published", "finished")


def run_maintenance(config: Config) -> dict[str, Any]:
    """Keep the newest `maintain.keep_runs` runs and the published one; their rows in `runs` stay as a record.

    Raises:
        BusyError: a run is writing to the warehouse.
    """
    spark = spark_session(config.spark, "cesrec maintain")
    warehouse = Warehouse(spark, config.warehouse)
    with writing_to(warehouse.path):
        return _maintain(warehouse, config.maintain)


def _maintain(warehouse: Warehouse, section: MaintainSection) -> dict[str, Any]:
    runs = warehouse.read(RUNS).orderBy(F.col(c.STARTED_AT).desc(), c.RUN_ID).select(c.RUN_ID).collect()
    kept = {row[c.RUN_ID] for row in runs[: section.keep_runs]} | {latest_published(warehouse)}
    dropped = [row[c.RUN_ID] for row in runs if row[c.RUN_ID] not in kept]
    # A version before this one may have made the warehouse, and fewer tables.
    for table in filter(warehouse.exists, TABLES.values()):
        if table.is_per_run and dropped:
            quoted = ", ".join(f"'{run_id}'" for run_id in dropped)
            warehouse.delete_where(table, f"{c.RUN_ID} IN ({quoted})")
        _compact(warehouse, table, section)
    _compact_what_is_served(warehouse, section)
    for run_id in dropped:
        shutil.rmtree(warehouse.path / "work" / run_id, ignore_errors=True)
        # Pages quote people, whose words go with the rows.
        report_path(warehouse.path, run_id).unlink(missing_ok=True)
    return {"status": "done", "runs_kept": len(runs) - len(dropped), "runs_dropped": len(dropped)}


def _compact_what_is_served(warehouse: Warehouse, section: MaintainSection) -> None:
    if not warehouse.exists(SERVED_RECOMMENDATIONS):
        return
    try:
        lock = export_lock(warehouse.path)
    except BusyError:
        log.warning("%s: left as it is, since an export is being made", SERVED_RECOMMENDATIONS.name)
        return
    with lock:
        _compact(warehouse, SERVED_RECOMMENDATIONS, section)


def _compact(warehouse: Warehouse, table: Table, section: MaintainSection) -> None:
    warehouse.optimize(table)
    warehouse.vacuum(table, section.retention_hours)
    log.info("%s: compacted", table.name)


def roll_back(config: Config, run_id: str) -> dict[str, Any]:
    """Publish an older run again: from its commit on, consumers read that run.

    Raises:
        ConfigError: there is no such run, it did not pass its audit, or its rows are gone.
        BusyError: a run is writing to the warehouse, and might publish at the same moment.
    """
    spark = spark_session(config.spark, "cesrec roll_back")
    warehouse = Warehouse(spark, config.warehouse)
    with writing_to(warehouse.path):
        return _roll_back(warehouse, run_id)


def _roll_back(warehouse: Warehouse, run_id: str) -> dict[str, Any]:
    run = find_run(warehouse, run_id)
    if run is None or run.status not in ROLL_BACK_STATUSES:
        found = "there is no such run" if run is None else f"its status is {run.status}"
        raise ConfigError(f"Run {run_id} cannot be published: {found}. Name a published or finished run of the table runs.")
    if warehouse.read_run(TABLES["recommendations"], run_id).isEmpty():
        raise ConfigError(f"Run {run_id} cannot be published: its rows were dropped by jobs/maintain.py. Name a newer run.")
    before = latest_published(warehouse)
    write_run(warehouse, dataclasses.replace(run, status="published", published_at=dt.datetime.now(dt.UTC)))
    warehouse.create_published_views(run_id)
    return {"run_id": run_id, "status": "published", "published_before": before}
