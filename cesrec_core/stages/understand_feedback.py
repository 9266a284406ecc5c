"""understand_feedback: the utterances that count in this run -> feedback_signals, cached by utterance and model."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.actors.understand_feedback import UnderstandFeedback
from cesrec_core.datasets import read_catalogue
from cesrec_core.delta_io.shards import SUCCESS
from cesrec_core.feedback.listening import check_sentence_model, listener_id
from cesrec_core.feedback.vocabulary import Vocabulary
from cesrec_core.frames.histories import active_feedback, said_by_people
from cesrec_core.schemas import FEEDBACK, FEEDBACK_SIGNALS, ITEMS
from cesrec_core.stages.catalogue_features import export_features
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.map_table import map_frame
from cesrec_core.stages.simulate_feedback import SIMULATED

NAME = "understand_feedback"


def feedback_of_run(context: RunContext) -> DataFrame:
    """The utterances that this run acts on, fixed when it first asks: later ones wait for the next run."""
    folder = context.stage_path("active_feedback")
    feedback = context.warehouse.read(FEEDBACK)
    if not context.config.simulate_feedback.num_users:
        # What a simulator said in runs that asked for one, on the same tables, is nobody's wish.
        feedback = said_by_people(feedback)
    section = context.config.understand_feedback
    active = active_feedback(feedback, context.run_end, section.window_days, section.max_rounds)
    if not (folder / SUCCESS).exists():
        active.write.mode("overwrite").parquet(str(folder))
    return context.spark.read.schema(active.schema).parquet(str(folder))


def signals_of_run(context: RunContext) -> DataFrame:
    """feedback_signals by the model that understands this run's catalogue."""
    model = _model_id(context)
    return context.warehouse.read(FEEDBACK_SIGNALS).where(F.col(c.MODEL_ID) == model)


def _model_id(context: RunContext) -> str:
    catalogue = read_catalogue(export_features(context))
    vocabulary = Vocabulary.from_items(catalogue.item_ids, catalogue.titles, catalogue.attributes)
    return listener_id(context.config.understand_feedback, vocabulary)


def check(context: RunContext) -> None:
    check_sentence_model(context.config.understand_feedback)


def run(context: RunContext) -> StageResult:
    said = F.sha2(F.to_json(F.struct(c.UTTERANCE, c.RECOMMENDED_ITEM_IDS)), 256)
    active = feedback_of_run(context).withColumn(c.UTTERANCE_HASH, said)
    cached = signals_of_run(context).select(c.FEEDBACK_ID, c.UTTERANCE_HASH)
    missing = active.join(cached, on=[c.FEEDBACK_ID, c.UTTERANCE_HASH], how="left_anti")
    worker = UnderstandFeedback(export_features(context), context.config.understand_feedback, context.warehouse.path / "state")
    to_read = missing.select(c.FEEDBACK_ID, c.UTTERANCE, c.RECOMMENDED_ITEM_IDS, c.UTTERANCE_HASH)
    signals = map_frame(context, NAME, to_read, c.FEEDBACK_ID, worker, FEEDBACK_SIGNALS)
    num_understood = context.warehouse.merge(FEEDBACK_SIGNALS, signals) if signals is not None else 0
    num_active = active.count()
    of_run = active.join(signals_of_run(context), on=c.FEEDBACK_ID, how="inner")
    num_vague = of_run.where(F.col(c.IS_VAGUE)).count()
    metrics = {"vague_share": num_vague / num_active} if num_active else {}
    return StageResult({"active": num_active, "understood": num_understood, "vague": num_vague}, metrics)


STAGE = Stage(
    name=NAME,
    reads=(FEEDBACK.name, SIMULATED, ITEMS.name),
    writes=(FEEDBACK_SIGNALS.name,),
    run=run,
    check=check,
)
