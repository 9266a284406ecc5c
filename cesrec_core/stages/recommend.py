"""recommend: pseudo-sequences, or histories where nothing was said -> the top items of every user."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.delta_io.shards import SUCCESS
from cesrec_core.errors import InputDataError
from cesrec_core.frames.empty import empty_frame
from cesrec_core.frames.histories import (
    MEANING,
    is_clear,
    observed_histories,
    rejected_by_user,
    rejected_items,
    words_to_act_on,
)
from cesrec_core.frames.item_rules import clean_rules, idle_rules, segments_by_user, unusable_rules
from cesrec_core.schemas import FEEDBACK_SIGNALS, ITEMS, PSEUDO_SEQUENCES, RECOMMENDATIONS, USER_SEQUENCES
from cesrec_core.stages.catalogue_features import export_features
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.ingest import read_pinned
from cesrec_core.stages.map_table import map_frame
from cesrec_core.stages.understand_feedback import feedback_of_run, heard_of_run, signals_of_run

if TYPE_CHECKING:
    from cesrec_core.actors.recommend import Recommend

log = logging.getLogger(__name__)

NAME = "recommend"


def run(context: RunContext) -> StageResult:
    users = users_of_run(context)
    recommended = map_frame(context, NAME, users, c.USER_ID, worker_of_run(context), RECOMMENDATIONS, may_stay_empty=True)
    tell_idle_rules(context)
    # Rules or a long history may leave somebody nothing to be shown; the audit judges how many that may be.
    if recommended is None:
        return StageResult({"users": 0})
    num_rows = context.warehouse.replace_run(RECOMMENDATIONS, recommended, context.run_id)
    return StageResult({"users": users.count(), "recommendations": num_rows})


def users_of_run(context: RunContext) -> DataFrame:
    """What `Recommend` is told of each user."""
    histories = observed_histories(context.warehouse.read(USER_SEQUENCES), context.config.dataset.split)
    users = histories.select(c.USER_ID, c.ITEM_IDS)
    rejected = rejected_by_user(rejected_of_run(context))
    for of_user in (rejected, latest_rounds(context), latest_words(context), segments_of(context)):
        users = users.join(of_user, on=c.USER_ID, how="left")
    return users


def worker_of_run(context: RunContext) -> "Recommend":
    """What scores the items by the artifacts in force."""
    from cesrec_core.actors.recommend import Recommend

    recommender_folder, _ = context.artifact("recommender")
    constructor_folder, _ = context.artifact("constructor")
    folders = (recommender_folder, constructor_folder, export_features(context), export_rules(context))
    return Recommend(*folders, context.config, context.run_id)


def latest_rounds(context: RunContext) -> DataFrame:
    """user_id, pseudo_item_ids, round: the history after the last round of feedback."""
    rounds = context.warehouse.read_run(PSEUDO_SEQUENCES, context.run_id)
    last = rounds.groupBy(c.USER_ID).agg(F.max_by(c.ITEM_IDS, c.ROUND).alias(c.PSEUDO_ITEM_IDS), F.max(c.ROUND).alias(c.ROUND))
    return last.select(c.USER_ID, c.PSEUDO_ITEM_IDS, c.ROUND)


def latest_words(context: RunContext) -> DataFrame:
    """user_id and the newest utterance that can be acted on, with what it asks for and turns down."""
    clear = feedback_of_run(context).join(signals_of_run(context).where(is_clear()), on=c.FEEDBACK_ID, how="inner")
    newest = Window.partitionBy(c.USER_ID).orderBy(F.col(c.ROUND).desc())
    latest = clear.withColumn("order", F.row_number().over(newest)).where(F.col("order") == 1)
    return latest.select(c.USER_ID, words_to_act_on(), *MEANING)


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


def tell_idle_rules(context: RunContext) -> None:
    """A rule for an item or a segment that there is not is probably misspelt, and stops nothing."""
    if "item_rules" not in context.sources:
        return
    num_items, num_segments = idle_rules(rules_of(context), segments_of(context), context.warehouse.read(ITEMS))
    for number, what in ((num_items, "items that are not in the catalogue"), (num_segments, "segments that nobody is in")):
        if number:
            log.warning("%s: rules name %d %s; are they spelt right?", context.sources["item_rules"], number, what)


def check(context: RunContext) -> None:
    """A block-list with a row that cannot be read would let through what it was meant to stop.

    Raises:
        InputDataError: a row of the item rules has no known rule, or no item.
    """
    if "item_rules" not in context.sources:
        return
    num_unusable = unusable_rules(read_pinned(context, "item_rules")).count()
    if num_unusable:
        raise InputDataError(
            f"{context.sources['item_rules']}: {num_unusable} rows cannot be used. Each needs a rule, allow or block, and an "
            "item_id. No table was changed."
        )


STAGE = Stage(
    name=NAME,
    reads=(USER_SEQUENCES.name, PSEUDO_SEQUENCES.name, FEEDBACK_SIGNALS.name, "recommender", "constructor"),
    writes=(RECOMMENDATIONS.name,),
    run=run,
    check=check,
)
