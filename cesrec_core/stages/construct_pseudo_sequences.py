"""construct_pseudo_sequences: histories, masks and words -> pseudo_sequences; words that say too little -> clarifications."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.actors.construct_pseudo_sequences import ConstructPseudoSequences
from cesrec_core.frames.clarifications import clarifications
from cesrec_core.frames.histories import feedback_by_user, observed_histories, vague_feedback
from cesrec_core.rewriting import VAGUE_FEEDBACK
from cesrec_core.schemas import CLARIFICATIONS, FEEDBACK_SIGNALS, ITEMS, OUTLIER_MASKS, PSEUDO_SEQUENCES, USER_SEQUENCES
from cesrec_core.stages.catalogue_features import export_features
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.map_table import map_frame
from cesrec_core.stages.understand_feedback import feedback_of_run, signals_of_run

NAME = "construct_pseudo_sequences"


def run(context: RunContext) -> StageResult:
    active, signals = feedback_of_run(context), signals_of_run(context)
    histories = observed_histories(context.warehouse.read(USER_SEQUENCES), context.config.dataset.split)
    masks = context.warehouse.read_run(OUTLIER_MASKS, context.run_id).select(c.USER_ID, c.MASKED_POSITIONS)
    to_rewrite = (
        feedback_by_user(active, signals)
        .join(histories.select(c.USER_ID, c.ITEM_IDS), on=c.USER_ID, how="inner")
        .join(masks, on=c.USER_ID, how="inner")
    )
    folders = (context.artifact("recommender")[0], context.artifact("constructor")[0], export_features(context))
    worker = ConstructPseudoSequences(*folders, context.config, context.run_id)
    rewritten = map_frame(context, NAME, to_rewrite, c.USER_ID, worker, PSEUDO_SEQUENCES)
    empty = context.warehouse.read(PSEUDO_SEQUENCES).limit(0)
    num_rounds = context.warehouse.replace_run(PSEUDO_SEQUENCES, rewritten if rewritten is not None else empty, context.run_id)

    items = context.warehouse.read(ITEMS)
    questions = clarifications(vague_feedback(active, signals), items, context.run_id, VAGUE_FEEDBACK)
    num_questions = context.warehouse.replace_run(CLARIFICATIONS, questions, context.run_id)
    of_run = context.warehouse.read_run(PSEUDO_SEQUENCES, context.run_id)
    num_changed = of_run.where(F.size(c.REPLACED_POSITIONS) > 0).count()
    counts = {"rounds": num_rounds, "rounds_that_changed_something": num_changed, "clarifications": num_questions}
    return StageResult(counts, _metrics(of_run) if num_changed else {})


def _metrics(rounds: DataFrame) -> dict[str, float]:
    probabilities = rounds.select(F.explode(c.PROBABILITIES).alias("probability"))
    return {"mean_probability_of_replacement": float(probabilities.agg(F.avg("probability")).collect()[0][0] or 0.0)}


STAGE = Stage(
    name=NAME,
    reads=(USER_SEQUENCES.name, OUTLIER_MASKS.name, FEEDBACK_SIGNALS.name, ITEMS.name, "recommender", "constructor"),
    writes=(PSEUDO_SEQUENCES.name, CLARIFICATIONS.name),
    run=run,
)
