"""publish: one commit to runs, by which consumers see all of this run or none of it."""

import datetime as dt
import logging

from cesrec_core import __version__, run_status
from cesrec_core.delta_io.runs import Run, find_run, latest_published, write_run
from cesrec_core.run_dates import lies_ahead
from cesrec_core.schemas import METRICS, RUNS, TABLES
from cesrec_core.stages.context import ARTIFACT_STAGES, RunContext, Stage, StageResult

log = logging.getLogger(__name__)


def run(context: RunContext) -> StageResult:
    now = dt.datetime.now(dt.UTC)
    begun = find_run(context.warehouse, context.run_id)
    newer = _newer_published(context)
    is_published = context.config.run.publish and newer is None
    if newer is not None:
        log.info(
            "      a run of a later date (%s) is published; this one of %s is kept beside it. To publish it all the same: "
            "jobs/roll_back.py --run-id %s",
            newer.run_date.isoformat(),
            context.run_date.isoformat(),
            context.run_id,
        )
        if lies_ahead(newer.run_date, now):
            log.warning(
                "The run that consumers read is of a date that lies ahead, %s: no night before that takes its place. If it was "
                "a mistake: jobs/roll_back.py --run-id %s",
                newer.run_date.isoformat(),
                context.run_id,
            )
    row = Run(
        run_id=context.run_id,
        run_date=context.run_date,
        status=run_status.PUBLISHED if is_published else run_status.FINISHED,
        input_versions=context.inputs,
        output_versions={name: str(context.warehouse.version(table)) for name, table in TABLES.items() if name != RUNS.name},
        artifact_ids={kind: context.artifact_id(kind) for kind in ARTIFACT_STAGES},
        config_hash=context.config.result_hash(),
        code_version=__version__,
        started_at=begun.started_at if begun is not None else now,
        finished_at=now,
        published_at=now if is_published else None,
    )
    write_run(context.warehouse, row)
    if is_published:
        context.warehouse.create_published_views(context.run_id)
    return StageResult({"published": int(is_published)})


def _newer_published(context: RunContext) -> Run | None:
    """The published run, where it is of a later date: a night that is made up for does not take its place."""
    run_id = latest_published(context.warehouse)
    published = None if run_id is None else find_run(context.warehouse, run_id)
    return published if published is not None and published.run_date > context.run_date else None


STAGE = Stage(
    name="publish",
    # METRICS stands for a passed audit.
    reads=(METRICS.name,),
    writes=(RUNS.name,),
    run=run,
)
