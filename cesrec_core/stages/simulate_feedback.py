"""simulate_feedback: a fixed draw of users reacts to the base recommendations, where the configuration asks for it."""

import datetime as dt

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.frames.histories import drawn_users, observed_histories, past_opinions, speakers
from cesrec_core.language_models import locate_model
from cesrec_core.schemas import FEEDBACK, INTERACTIONS, USER_SEQUENCES
from cesrec_core.stages.catalogue_features import OF_THE_CATALOGUE, export_features
from cesrec_core.stages.context import RunContext, Stage, StageResult
from cesrec_core.stages.map_table import map_frame

NAME = "simulate_feedback"
# Its rows go into feedback, which ingest writes too: a name of their own says that this stage comes first.
SIMULATED = "simulated feedback"


def run(context: RunContext) -> StageResult:
    from cesrec_core.actors.simulate_feedback import SIMULATED_FEEDBACK, SimulateFeedback

    section = context.config.simulate_feedback
    if section.num_users == 0:
        return StageResult({"simulated": 0})
    histories = observed_histories(context.warehouse.read(USER_SEQUENCES), context.config.dataset.split)
    with_target = histories.where(f"{c.TARGET_ITEM_ID} IS NOT NULL")
    drawn = drawn_users(with_target, section.num_users, context.config.run.seed)
    # Who has spoken is not spoken for.
    window_days = context.config.understand_feedback.window_days
    users = drawn.join(speakers(context.warehouse.read(FEEDBACK), context.run_end, window_days), on=c.USER_ID, how="left_anti")
    users = _with_past(context, users)
    said_at = dt.datetime.combine(context.run_date, dt.time(), tzinfo=dt.UTC)
    ledger = context.stage_path(NAME) / "usage.jsonl"
    recommender_folder, _ = context.artifact("recommender")
    worker = SimulateFeedback(recommender_folder, export_features(context), section, context.config.run.seed, said_at, ledger)
    # One worker keeps the pace and the budget of an endpoint.
    num_actors = 1 if section.engine == "endpoint" else None
    feedback = map_frame(context, NAME, users, c.USER_ID, worker, SIMULATED_FEEDBACK, num_actors=num_actors)
    if feedback is None:
        return StageResult({"simulated": 0})
    num_said = context.warehouse.merge(FEEDBACK, feedback.select(*FEEDBACK.column_names))
    reasons = {row[c.FALLBACK_REASON]: row["count"] for row in feedback.groupBy(c.FALLBACK_REASON).count().collect()}
    # Said by a template, since the simulator gave the target away, or had no answer.
    counts = {"leaks_refused": reasons.get("leak", 0), "without_answer": reasons.get("no_answer", 0)}
    return StageResult({"simulated": num_said, **counts})


def _with_past(context: RunContext, users: DataFrame) -> DataFrame:
    """Users with what they liked and disliked before the target; nothing where they speak of the target."""
    if context.config.simulate_feedback.knows == "target":
        nothing = F.array().cast("array<string>")
        return users.withColumns({c.LIKED_ITEM_IDS: nothing, c.DISLIKED_ITEM_IDS: nothing})
    section = context.config.ingest
    of_users = context.warehouse.read(INTERACTIONS).join(users.select(c.USER_ID), on=c.USER_ID, how="left_semi")
    return past_opinions(users, of_users, section.liked_rating, section.disliked_rating)


def check(context: RunContext) -> None:
    """Find the simulator's model, or the key to it, before anything runs.

    Raises:
        ConfigError: there is none.
    """
    section = context.config.simulate_feedback
    if section.num_users and section.engine == "local":
        locate_model(section.model_path, section.revision, "simulate_feedback.model_path")
    # Workers of another cluster have an environment of their own.
    if section.num_users and section.engine == "endpoint" and context.config.ray.address is None:
        from cesrec_core.actors.chat_endpoint import api_key

        api_key(section.endpoint, "simulate_feedback.endpoint")


STAGE = Stage(
    name=NAME,
    reads=(USER_SEQUENCES.name, INTERACTIONS.name, *OF_THE_CATALOGUE),
    writes=(FEEDBACK.name, SIMULATED),
    run=run,
    check=check,
)
