"""construct_pseudo_sequences: histories, masks and words -> pseudo_sequences; words that are not clear -> clarifications."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.actors.ask_clarifications import AskClarifications
from cesrec_core.actors.construct_pseudo_sequences import ConstructPseudoSequences
from cesrec_core.frames.histories import feedback_by_user, observed_histories, rejected_by_user, unclear_feedback
from cesrec_core.schemas import CLARIFICATIONS, FEEDBACK_SIGNALS, ITEMS, OUTLIER_MASKS, PSEUDO_SEQUENCES, USER_SEQUENCES
from cesrec_core.stages.catalogue_features import export_features
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.map_table import map_frame
from cesrec_core.stages.recommend import export_rules, latest_rounds, rejected_of_run, segments_of
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

    num_questions = _ask(context)
    of_run = context.warehouse.read_run(PSEUDO_SEQUENCES, context.run_id)
    num_changed = of_run.where(F.size(c.REPLACED_POSITIONS) > 0).count()
    counts = {"rounds": num_rounds, "rounds_that_changed_something": num_changed, "clarifications": num_questions}
    return StageResult(counts, _metrics(of_run) if num_changed else {})


def _ask(context: RunContext) -> int:
    """Write questions to users whose newest words cannot be acted on; returns their number."""
    histories = observed_histories(context.warehouse.read(USER_SEQUENCES), context.config.dataset.split)
    users = unclear_feedback(feedback_of_run(context), signals_of_run(context))
    rejected = rejected_by_user(rejected_of_run(context))
    known = histories.select(c.USER_ID, c.ITEM_IDS)
    for of_user in (known, latest_rounds(context).drop(c.ROUND), rejected, segments_of(context)):
        users = users.join(of_user, on=c.USER_ID, how="left")
    # Somebody without a history is asked what splits the favourites of people on average.
    users = users.withColumn(c.ITEM_IDS, F.coalesce(c.ITEM_IDS, F.array().cast("array<string>")))
    folders = (context.artifact("recommender")[0], export_features(context), export_rules(context))
    worker = AskClarifications(*folders, context.config, context.run_id)
    asked = map_frame(context, "ask_clarifications", users, c.USER_ID, worker, CLARIFICATIONS)
    empty = context.warehouse.read(CLARIFICATIONS).limit(0)
    return context.warehouse.replace_run(CLARIFICATIONS, asked if asked is not None else empty, context.run_id)


def _metrics(rounds: DataFrame) -> dict[str, float]:
    probabilities = rounds.select(F.explode(c.PROBABILITIES).alias("probability"))
    return {"mean_probability_of_replacement": float(probabilities.agg(F.avg("probability")).collect()[0][0] or 0.0)}


STAGE = Stage(
    name=NAME,
    reads=(USER_SEQUENCES.name, OUTLIER_MASKS.name, FEEDBACK_SIGNALS.name, ITEMS.name, "recommender", "constructor"),
    writes=(PSEUDO_SEQUENCES.name, CLARIFICATIONS.name),
    run=run,
)
