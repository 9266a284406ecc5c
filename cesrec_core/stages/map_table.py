"""Spark -> shards -> Ray actors -> shards -> Spark, with every key accounted for."""

from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import DataFrame

from cesrec_core.delta_io.shards import export_shards, import_shards
from cesrec_core.errors import StageError
from cesrec_core.progress import progress
from cesrec_core.schemas import Table
from cesrec_core.stages.context import RunContext

if TYPE_CHECKING:
    from cesrec_core.actors.pool import Worker


def map_frame(
    context: RunContext,
    stage: str,
    frame: DataFrame,
    key: str,
    worker: "Worker",
    table: Table,
    may_stay_empty: bool = False,
    max_refused_rows: int = 0,
    num_actors: int | None = None,
) -> DataFrame | None:
    """Send `frame` through `worker` on Ray actors; the answer has the columns of `table`. None where it has no rows.

    Args:
        key: unique in `frame`; the answer must hold exactly the same keys, each at least once.
        may_stay_empty: whether a key may have no row in the answer; counting those is the caller's business then.
        max_refused_rows: so many rows that the worker fails on, each alone, are left out; see `refused_by`.
        num_actors: None for as many as configured.

    Raises:
        StageError: a shard failed for good, or keys were lost or invented.
    """
    from cesrec_core.actors.pool import map_shards

    folder = context.stage_path(stage)
    section = context.config.ray
    section = section if num_actors is None else section.model_copy(update={"num_actors": num_actors})
    num_rows = export_shards(frame, folder / "in", key, section.rows_per_shard, section.num_actors, folder / "out")
    if num_rows == 0:
        return None
    context.ray.start()
    with progress(stage, num_rows, "rows") as advance:
        report = map_shards(folder / "in", folder / "out", worker, section, advance, max_refused_rows)
    context.num_tokens += report.num_tokens
    if report.num_refused == num_rows:
        return None
    answer = import_shards(context.spark, folder / "out", table)
    keys_in = context.spark.read.schema(frame.schema).parquet(str(folder / "in")).select(key)
    keys_out = answer.select(key).distinct()
    num_lost = 0 if may_stay_empty else keys_in.join(keys_out, on=key, how="left_anti").count()
    num_invented = keys_out.join(keys_in, on=key, how="left_anti").count()
    if num_lost != report.num_refused or num_invented or report.num_input_rows != num_rows:
        raise StageError(
            f"Stage {stage}: {num_rows} keys went out; {num_lost} did not come back and {num_invented} came that were not "
            f"sent. Remove {folder} and run the stage again."
        )
    return answer


def refused_by(context: RunContext, stage: str) -> pa.Table | None:
    """Rows of the stage's frame that its worker failed on in this run; None where there are none."""
    from cesrec_core.actors.pool import refused_rows

    return refused_rows(context.stage_path(stage) / "out")
