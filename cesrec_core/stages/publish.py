"""publish: one commit to runs, by which consumers see all of this run or none of it."""

import datetime as dt

from cesrec_core import __version__
from cesrec_core.delta_io.runs import Run, find_run, write_run
from cesrec_core.schemas import METRICS, RUNS, TABLES
from cesrec_core.stages.context import ARTIFACT_STAGES, RunContext, Stage, StageResult


def run(context: RunContext) -> StageResult:
    now = dt.datetime.now(dt.UTC)
    begun = find_run(context.warehouse, context.run_id)
    is_published = context.config.run.publish
    row = Run(
        run_id=context.run_id,
        run_date=context.run_date,
        status="published" if is_published else "finished",
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


STAGE = Stage(
    name="publish",
    # METRICS stands for a passed audit.
    reads=(METRICS.name,),
    writes=(RUNS.name,),
    run=run,
)
