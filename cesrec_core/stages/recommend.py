"""recommend: pseudo-sequences, or histories where nothing was said -> the top items of every user."""

import logging
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame

from cesrec_core import columns as c
from cesrec_core.errors import InputDataError
from cesrec_core.frames.histories import closed_by_user, observed_histories, words_by_user
from cesrec_core.frames.item_rules import idle_rules, unusable_rules, unusable_segments
from cesrec_core.schemas import FEEDBACK, FEEDBACK_SIGNALS, ITEMS, PSEUDO_SEQUENCES, RECOMMENDATIONS, USER_SEQUENCES
from cesrec_core.stages.catalogue_features import OF_THE_CATALOGUE, export_features
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.ingest import read_pinned
from cesrec_core.stages.map_table import map_frame
from cesrec_core.stages.run_inputs import export_rules, latest_rounds, rejected_of_run, rules_of, segments_of
from cesrec_core.stages.understand_feedback import feedback_of_run, signals_of_run

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
    sequences = context.user_sequences()
    users = observed_histories(sequences, context.config.dataset.split).select(c.USER_ID, c.ITEM_IDS)
    closed = closed_by_user(rejected_of_run(context), sequences)
    words = words_by_user(feedback_of_run(context), signals_of_run(context))
    for of_user in (closed, latest_rounds(context), words, segments_of(context)):
        users = users.join(of_user, on=c.USER_ID, how="left")
    return users


def worker_of_run(context: RunContext) -> "Recommend":
    """What scores the items by the artifacts in force."""
    from cesrec_core.actors.recommend import Recommend

    recommender_folder, _ = context.artifact("recommender")
    constructor_folder, _ = context.artifact("constructor")
    folders = (recommender_folder, constructor_folder, export_features(context), export_rules(context))
    return Recommend(*folders, context.config, context.run_id)


def tell_idle_rules(context: RunContext) -> None:
    """A rule for an item or a segment that there is not is probably misspelt, and stops nothing."""
    if "item_rules" not in context.sources:
        return
    num_items, num_segments = idle_rules(rules_of(context), segments_of(context), context.warehouse.read(ITEMS))
    for number, what in ((num_items, "items that are not in the catalogue"), (num_segments, "segments that nobody is in")):
        if number:
            log.warning("%s: rules name %d %s; are they spelt right?", context.sources["item_rules"], number, what)


def check(context: RunContext) -> None:
    """A row that cannot be read, of a block-list or of who is in its segment, would let through what it was meant to stop.

    Raises:
        InputDataError: a row of the item rules has no known rule, or no item; or one of the segments no user, or no segment.
    """
    for source, unusable, needs in (
        ("item_rules", unusable_rules, "a rule, allow or block, and an item_id"),
        ("user_segments", unusable_segments, "a user_id and a segment"),
    ):
        num_unusable = unusable(read_pinned(context, source)).count() if source in context.sources else 0
        if num_unusable:
            raise InputDataError(
                f"{context.sources[source]}: {num_unusable} rows cannot be used. Each needs {needs}. No table was changed."
            )


STAGE = Stage(
    name=NAME,
    reads=(
        USER_SEQUENCES.name,
        FEEDBACK.name,
        FEEDBACK_SIGNALS.name,
        PSEUDO_SEQUENCES.name,
        *OF_THE_CATALOGUE,
        "constructor",
    ),
    writes=(RECOMMENDATIONS.name,),
    run=run,
    check=check,
)
