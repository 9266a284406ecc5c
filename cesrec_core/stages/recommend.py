"""recommend: pseudo-sequences, or histories where nothing was said -> the top items of every user."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.actors.recommend import PSEUDO_ITEM_IDS, Recommend
from cesrec_core.frames.histories import observed_histories
from cesrec_core.schemas import FEEDBACK_SIGNALS, PSEUDO_SEQUENCES, RECOMMENDATIONS, USER_SEQUENCES
from cesrec_core.stages.catalogue_features import export_features
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.map_table import map_frame
from cesrec_core.stages.understand_feedback import feedback_of_run, signals_of_run

NAME = "recommend"


def run(context: RunContext) -> StageResult:
    histories = observed_histories(context.warehouse.read(USER_SEQUENCES), context.config.dataset.split)
    users = histories.select(c.USER_ID, c.ITEM_IDS).join(_latest_rounds(context), on=c.USER_ID, how="left")
    users = users.join(_latest_words(context), on=c.USER_ID, how="left")
    recommender_folder, _ = context.artifact("recommender")
    constructor_folder, _ = context.artifact("constructor")
    worker = Recommend(recommender_folder, constructor_folder, export_features(context), context.config, context.run_id)
    recommended = map_frame(context, NAME, users, c.USER_ID, worker, RECOMMENDATIONS)
    if recommended is None:
        return StageResult({"users": 0})
    num_rows = context.warehouse.replace_run(RECOMMENDATIONS, recommended, context.run_id)
    return StageResult({"users": users.count(), "recommendations": num_rows})


def _latest_rounds(context: RunContext) -> DataFrame:
    """user_id, pseudo_item_ids, round: the history after the last round of feedback."""
    rounds = context.warehouse.read_run(PSEUDO_SEQUENCES, context.run_id)
    last = rounds.groupBy(c.USER_ID).agg(F.max_by(c.ITEM_IDS, c.ROUND).alias(PSEUDO_ITEM_IDS), F.max(c.ROUND).alias(c.ROUND))
    return last.select(c.USER_ID, PSEUDO_ITEM_IDS, c.ROUND)


def _latest_words(context: RunContext) -> DataFrame:
    """user_id and the newest utterance that can be acted on, with what it asks for."""
    clear = feedback_of_run(context).join(signals_of_run(context).where(~F.col(c.IS_VAGUE)), on=c.FEEDBACK_ID, how="inner")
    newest = Window.partitionBy(c.USER_ID).orderBy(F.col(c.ROUND).desc())
    latest = clear.withColumn("order", F.row_number().over(newest)).where(F.col("order") == 1)
    return latest.select(c.USER_ID, c.UTTERANCE, c.WANTED_ATTRIBUTES, c.UNWANTED_ATTRIBUTES)


STAGE = Stage(
    name=NAME,
    reads=(USER_SEQUENCES.name, PSEUDO_SEQUENCES.name, FEEDBACK_SIGNALS.name, "recommender", "constructor"),
    writes=(RECOMMENDATIONS.name,),
    run=run,
)
