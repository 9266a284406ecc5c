"""maintain: drop rows, files and models that only old runs needed, compact what is left, and delete what no version needs."""

import dataclasses
import datetime as dt
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from cesrec_core import run_status
from cesrec_core.config import Config, MaintainSection
from cesrec_core.delta_io.runs import all_runs, find_run, latest_published, write_run
from cesrec_core.delta_io.session import spark_session
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.errors import BusyError, ConfigError, InputDataError
from cesrec_core.schemas import ALIGNED_EMBEDDINGS, QUARANTINE, RUNS, SERVED_RECOMMENDATIONS, TABLES, Table
from cesrec_core.stages.context import writing_to
from cesrec_core.stages.export_recommendations import export_lock
from cesrec_core.stages.report import report_of_run, report_path
from cesrec_core.stages.retention import (
    artifacts_in_force,
    artifacts_to_keep,
    artifacts_to_remove,
    evaluations_to_remove,
    files_to_remove,
    retention_of,
    runs_stood_on,
)
from cesrec_core.stages.tracking import track_run

log = logging.getLogger(__name__)


def run_maintenance(config: Config) -> dict[str, Any]:
    """Keep the newest `maintain.keep_runs` runs, the published one, and what they need; rows in `runs` stay.

    Raises:
        BusyError: a run is writing to the warehouse.
    """
    spark = spark_session(config.spark, "cesrec maintain")
    warehouse = Warehouse(spark, config.warehouse)
    _refuse_what_is_no_warehouse(warehouse)
    with writing_to(warehouse.path):
        return _maintain(warehouse, config.maintain)


def _refuse_what_is_no_warehouse(warehouse: Warehouse) -> None:
    """Before anything is made there, the lock included."""
    if not warehouse.exists(RUNS):
        raise InputDataError(
            f"No run has begun in the warehouse {warehouse.path} yet. Run jobs/nightly_refresh.py first, or mend "
            "warehouse.path."
        )


def _maintain(warehouse: Warehouse, section: MaintainSection) -> dict[str, Any]:
    in_force = artifacts_in_force(warehouse.path)
    retention = retention_of(all_runs(warehouse), latest_published(warehouse), section.keep_runs, in_force)
    stood_on = runs_stood_on(warehouse.path, retention.run_ids)
    kept_artifacts = artifacts_to_keep(warehouse.path, retention)
    files, evaluations = files_to_remove(warehouse.path, retention), evaluations_to_remove(warehouse.path, retention)
    # An evaluation writes to `metrics`, mostly under an id that `runs` does not know: its folder tells how old it is.
    without_rows = retention.dropped | {folder.name for folder in evaluations}
    touched = {file.stem for file in files}
    num_aligned = 0
    # A version before this one may have made the warehouse, and fewer tables.
    for table in filter(warehouse.exists, TABLES.values()):
        if table.is_per_run:
            # Runs without a reason to ingest show the rows that were refused when it was done last.
            dropped = without_rows - stood_on if table.name == QUARANTINE.name else without_rows
            touched |= _drop_slices(warehouse, table, dropped.__contains__).keys()
        elif table == ALIGNED_EMBEDDINGS:
            unneeded = _drop_slices(warehouse, table, lambda adapter_id: ("adapter", adapter_id) not in kept_artifacts)
            num_aligned = sum(unneeded.values())
        _compact(warehouse, table, section)
    _compact_what_is_served(warehouse, section)
    # After their rows, since a folder tells which rows may go. Pages quote people, whose words go with the rows.
    num_removed = {
        "artifacts_removed": _remove(artifacts_to_remove(warehouse.path, kept_artifacts)),
        "evaluations_removed": _remove(evaluations),
    }
    _remove(files)
    return {
        "status": "done",
        "runs_kept": len(retention.run_ids),
        "runs_dropped": len(touched & retention.dropped),
        "aligned_embeddings_removed": num_aligned,
        **num_removed,
    }


def _drop_slices(warehouse: Warehouse, table: Table, is_unneeded: Callable[[str], bool]) -> dict[str, int]:
    """Delete what is not needed, by the column that the table is partitioned by; rows deleted by its value."""
    unneeded = {name: size for name, size in warehouse.slice_sizes(table).items() if is_unneeded(name)}
    if unneeded:
        warehouse.delete_where(table, F.col(table.partition_by[0]).isin(sorted(unneeded)))
    return unneeded


def _remove(paths: Sequence[Path]) -> int:
    """How many could be removed: what another user owns, or a link leads to, stays."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
    return sum(not path.exists() for path in paths)


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
    _refuse_what_is_no_warehouse(warehouse)
    with writing_to(warehouse.path):
        summary = _roll_back(warehouse, run_id)
        before = summary["published_before"]
        # Pages and records say what consumers read.
        if before not in (None, run_id) and report_path(warehouse.path, before).is_file():
            report_of_run(warehouse, config, before)
            track_run(warehouse, config, before)
        told = report_of_run(warehouse, config, run_id) | track_run(warehouse, config, run_id)
    return summary | told


def _roll_back(warehouse: Warehouse, run_id: str) -> dict[str, Any]:
    run = find_run(warehouse, run_id)
    if run is None or run.status not in run_status.DONE:
        found = "there is no such run" if run is None else f"its status is {run.status}"
        raise ConfigError(f"Run {run_id} cannot be published: {found}. Name a published or finished run of the table runs.")
    if warehouse.read_run(TABLES["recommendations"], run_id).isEmpty():
        raise ConfigError(f"Run {run_id} cannot be published: its rows were dropped by jobs/maintain.py. Name a newer run.")
    before = latest_published(warehouse)
    write_run(warehouse, dataclasses.replace(run, status=run_status.PUBLISHED, published_at=dt.datetime.now(dt.UTC)))
    warehouse.create_published_views(run_id)
    return {"run_id": run_id, "status": run_status.PUBLISHED, "published_before": before}
