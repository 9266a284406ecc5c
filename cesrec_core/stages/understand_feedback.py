"""understand_feedback: the utterances that count in this run -> feedback_signals, cached by content and model."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, IntegerType, StringType, StructField, StructType

from cesrec_core import columns as c
from cesrec_core.datasets import read_catalogue
from cesrec_core.delta_io.shards import SUCCESS
from cesrec_core.delta_io.warehouse import spark_schema
from cesrec_core.feedback.listening import check_sentence_model, listener_id
from cesrec_core.feedback.vocabulary import CatalogueVocabulary
from cesrec_core.frames.clarifications import with_questions
from cesrec_core.frames.histories import (
    heard_feedback,
    is_clear,
    observed_histories,
    said_by_people,
    without_hidden_items,
)
from cesrec_core.schemas import CLARIFICATIONS, FEEDBACK, FEEDBACK_SIGNALS, RUNS, USER_SEQUENCES
from cesrec_core.stages.catalogue_features import OF_THE_CATALOGUE, export_features
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.map_table import map_frame
from cesrec_core.stages.simulate_feedback import SIMULATED

NAME = "understand_feedback"


def feedback_of_run(context: RunContext) -> DataFrame:
    """The utterances that this run acts on: those of `heard_of_run` with a round."""
    return heard_of_run(context).where(F.col(c.ROUND).isNotNull())


def heard_of_run(context: RunContext) -> DataFrame:
    """What is acted on or remembered as a rejection, with the questions that it answers.

    Fixed when the run first asks: later words wait for the next run.
    """
    folder = context.stage_path("heard_feedback")
    if not (folder / SUCCESS).exists():
        _heard(context).write.mode("overwrite").parquet(str(folder))
    of_this_run = [StructField(c.ROUND, IntegerType()), StructField(c.QUESTION_ATTRIBUTES, ArrayType(StringType()))]
    schema = StructType([*spark_schema(FEEDBACK), *of_this_run])
    return context.spark.read.schema(schema).parquet(str(folder))


def _heard(context: RunContext) -> DataFrame:
    feedback = context.warehouse.read(FEEDBACK)
    if not context.config.simulate_feedback.num_users:
        # What a simulator said in runs that asked for one, on the same tables, is nobody's wish.
        feedback = said_by_people(feedback)
    histories = observed_histories(context.user_sequences(), context.config.dataset.split)
    feedback = without_hidden_items(feedback, histories)
    section = context.config.understand_feedback
    days = context.config.recommend.rejected_days
    heard = heard_feedback(feedback, context.run_end, section.window_days, section.max_rounds, days)
    return with_questions(heard, context.warehouse.read(CLARIFICATIONS), context.warehouse.read(RUNS))


def signals_of_run(context: RunContext) -> DataFrame:
    """feedback_signals by the model that understands this run's catalogue."""
    model = _model_id(context)
    return context.warehouse.read(FEEDBACK_SIGNALS).where(F.col(c.MODEL_ID) == model)


def _model_id(context: RunContext) -> str:
    folder = export_features(context)
    if folder not in context.listener_ids:
        catalogue = read_catalogue(folder)
        vocabulary = CatalogueVocabulary.of(catalogue)
        context.listener_ids[folder] = listener_id(context.config.understand_feedback, vocabulary)
    return context.listener_ids[folder]


def check(context: RunContext) -> None:
    check_sentence_model(context.config.understand_feedback)


def run(context: RunContext) -> StageResult:
    from cesrec_core.actors.understand_feedback import UnderstandFeedback

    # Null fields leave no trace in JSON: words that answer no question keep their hash.
    said = F.sha2(F.to_json(F.struct(c.UTTERANCE, c.RECOMMENDED_ITEM_IDS, c.QUESTION_ATTRIBUTES)), 256)
    heard = heard_of_run(context).withColumn(c.UTTERANCE_HASH, said)
    cached = signals_of_run(context)
    missing = heard.join(cached, on=[c.FEEDBACK_ID, c.UTTERANCE_HASH], how="left_anti")
    # Many people rate one item alike, and what that says is the same of them all.
    unread = missing.join(cached, on=c.UTTERANCE_HASH, how="left_anti").dropDuplicates([c.UTTERANCE_HASH])
    worker = UnderstandFeedback(export_features(context), context.config.understand_feedback, context.warehouse.path / "state")
    columns = (c.FEEDBACK_ID, c.UTTERANCE, c.RECOMMENDED_ITEM_IDS, c.QUESTION_ATTRIBUTES, c.UTTERANCE_HASH)
    read = map_frame(context, NAME, unread.select(*columns), c.UTTERANCE_HASH, worker, FEEDBACK_SIGNALS)
    num_understood = 0
    if read is not None or not missing.isEmpty():
        known = cached if read is None else cached.unionByName(read)
        signals = _of_everybody(missing.select(c.FEEDBACK_ID, c.UTTERANCE_HASH), known)
        num_understood = context.warehouse.merge(FEEDBACK_SIGNALS, signals)
    active = feedback_of_run(context)
    num_active = active.count()
    of_run = active.join(signals_of_run(context), on=c.FEEDBACK_ID, how="inner")
    found = of_run.agg(
        F.count_if(c.IS_VAGUE).alias("vague"),
        F.count_if(~F.col(c.IS_VAGUE) & ~is_clear()).alias("conflicting"),
        F.count_if(F.col(c.RESTATED).isNotNull()).alias("answers"),
    ).collect()[0]
    counts = {"active": num_active, "understood": num_understood, "read": 0 if read is None else read.count()}
    metrics = {f"{name}_share": found[name] / num_active for name in ("vague", "conflicting")} if num_active else {}
    return StageResult({**counts, **found.asDict()}, metrics)


def _of_everybody(said: DataFrame, known: DataFrame) -> DataFrame:
    """feedback_signals of all in `said` (feedback_id, utterance_hash), from those `known` of anybody who said the same."""
    contents = known.join(said, on=c.UTTERANCE_HASH, how="left_semi").dropDuplicates([c.UTTERANCE_HASH]).drop(c.FEEDBACK_ID)
    return said.join(contents, on=c.UTTERANCE_HASH, how="inner")


STAGE = Stage(
    name=NAME,
    reads=(FEEDBACK.name, SIMULATED, USER_SEQUENCES.name, *OF_THE_CATALOGUE),
    writes=(FEEDBACK_SIGNALS.name,),
    run=run,
    check=check,
)
