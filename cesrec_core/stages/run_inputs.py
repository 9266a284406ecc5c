"""What several stages read of one run: its rounds so far, what users turned down, and the rules of what may be shown."""

from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.delta_io.shards import SUCCESS
from cesrec_core.frames.empty import empty_frame
from cesrec_core.frames.histories import rejected_items
from cesrec_core.frames.item_rules import clean_rules, segments_by_user
from cesrec_core.schemas import PSEUDO_SEQUENCES
from cesrec_core.stages.context import RunContext
from cesrec_core.stages.ingest import read_pinned
from cesrec_core.stages.understand_feedback import heard_of_run, signals_of_run


def latest_rounds(context: RunContext) -> DataFrame:
    """user_id, pseudo_item_ids, round: the history after the last round of feedback."""
    rounds = context.warehouse.read_run(PSEUDO_SEQUENCES, context.run_id)
    last = rounds.groupBy(c.USER_ID).agg(F.max_by(c.ITEM_IDS, c.ROUND).alias(c.PSEUDO_ITEM_IDS), F.max(c.ROUND).alias(c.ROUND))
    return last.select(c.USER_ID, c.PSEUDO_ITEM_IDS, c.ROUND)


def rejected_of_run(context: RunContext) -> DataFrame:
    """user_id, item_id, created_at: what is not recommended, since the user turned it down and when."""
    days = context.config.recommend.rejected_days
    return rejected_items(heard_of_run(context), signals_of_run(context), context.run_end, days)


def rules_of(context: RunContext) -> DataFrame:
    """rule, segment, item_id; no rows where there are no rules."""
    if "item_rules" not in context.sources:
        return empty_frame(context.spark, {name: pa.string() for name in (c.RULE, c.SEGMENT, c.ITEM_ID)})
    return clean_rules(read_pinned(context, "item_rules"))


def segments_of(context: RunContext) -> DataFrame:
    """user_id, segments: of those users who have any."""
    if "user_segments" not in context.sources:
        return empty_frame(context.spark, {c.USER_ID: pa.string(), c.SEGMENTS: pa.list_(pa.string())})
    return segments_by_user(read_pinned(context, "user_segments"))


def export_rules(context: RunContext) -> Path | None:
    """Allow- and block-lists as Parquet for the workers, once per run; None where there are none."""
    if "item_rules" not in context.sources:
        return None
    folder = context.stage_path("item_rules")
    if not (folder / SUCCESS).exists():
        rules_of(context).coalesce(1).write.mode("overwrite").parquet(str(folder))
    return folder
