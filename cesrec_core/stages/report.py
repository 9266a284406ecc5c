"""report: the page of a run, from its tables and records -> reports/<run_id>.html. Not a stage: it can fail no run."""

import datetime as dt
import logging
import traceback
import uuid
from pathlib import Path
from typing import Any

from cesrec_core.config import Config
from cesrec_core.delta_io.runs import Run, all_runs, find_run, newest_run
from cesrec_core.delta_io.session import spark_session
from cesrec_core.delta_io.warehouse import Warehouse
from cesrec_core.errors import CesrecError, ConfigError, InputDataError, Stopped
from cesrec_core.job_parser import is_debugging
from cesrec_core.schemas import RUNS
from cesrec_core.stages.report_contents import RunReader

log = logging.getLogger(__name__)


def run_report(config: Config, run_id: str | None) -> dict[str, Any]:
    """Make the page of a run again; of the run that began last where none is named.

    Raises:
        ConfigError: there is no such run.
        InputDataError: there is no run at all.
    """
    warehouse = Warehouse(spark_session(config.spark, "cesrec report"), config.warehouse)
    is_newest = run_id is None
    if run_id is None:
        run_id = newest_run(warehouse)
    if run_id is None:
        raise InputDataError("No run has begun in this warehouse yet. Run jobs/nightly_refresh.py first.")
    run = find_run(warehouse, run_id)
    if run is None:
        page = report_path(warehouse.path, run_id)
        if page.is_file():
            raise ConfigError(f"Run {run_id} was stopped by its first stage, and no table tells of it. Its page is {page}.")
        raise ConfigError(f"There is no run {run_id}. Name one of the table runs, or none for the newest.")
    if is_newest:
        for page in _pages_of_no_run(warehouse, run.started_at):
            log.warning("A later run was stopped by its first stage, and has changed nothing. Its page is %s", page)
    return {"run_id": run_id, "status": "done", "report": str(write_report(warehouse, config, run_id))}


def _pages_of_no_run(warehouse: Warehouse, since: dt.datetime) -> list[Path]:
    """Pages of runs that no table tells of, written since."""
    recorded = {run.run_id for run in all_runs(warehouse)}
    pages = report_path(warehouse.path, "").parent.glob("*.html")
    return sorted(page for page in pages if page.stem not in recorded and page.stat().st_mtime > since.timestamp())


def report_path(warehouse: Path, run_id: str) -> Path:
    return warehouse / "reports" / f"{run_id}.html"


def write_report(warehouse: Warehouse, config: Config, run_id: str, unrecorded: Run | None = None) -> Path:
    """Write the page, whole or not at all; returns its path. `unrecorded` as `RunReader` takes it."""
    from cesrec_core.report.page import render

    path = report_path(warehouse.path, run_id)
    page = render(RunReader(warehouse, config, run_id, unrecorded).contents())
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: the page may be asked for while the job of the run writes it.
    scratch = path.with_name(f"{run_id}.{uuid.uuid4().hex}.unfinished")
    try:
        scratch.write_text(page, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def report_of_run(
    warehouse: Warehouse, config: Config, run_id: str, keeps_page: bool = False, unrecorded: Run | None = None
) -> dict[str, Any]:
    """What the summary of a run says of its page: where it is, or why there is none. Raises nothing: the run is over.

    Args:
        keeps_page: a page that is there says all already.
        unrecorded: the run, where no table tells of it.
    """
    if keeps_page and report_path(warehouse.path, run_id).is_file():
        return {"report": str(report_path(warehouse.path, run_id))}
    try:
        if not warehouse.exists(RUNS) or (unrecorded is None and find_run(warehouse, run_id) is None):
            return {}
        path = write_report(warehouse, config, run_id, unrecorded)
    except Exception as error:
        reason = why_not(error)
        log.warning(
            "The page of run %s could not be written: %s To try again: jobs/report.py --run-id %s",
            run_id,
            reason,
            run_id,
            exc_info=error if is_debugging() else None,
        )
        return {"report": None, "report_error": reason}
    log.info("      page of the run: %s", path)
    return {"report": str(path)}


def why_not(error: BaseException) -> str:
    """What may be logged of an error: our own message; of any other the type and place, since it may quote data."""
    if isinstance(error, CesrecError | Stopped):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {place.filename}:{place.lineno}."
