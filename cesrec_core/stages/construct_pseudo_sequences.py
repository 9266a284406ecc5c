"""construct_pseudo_sequences: histories, masks and words -> pseudo_sequences; words that are not clear -> clarifications."""

import json
import logging
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.feedback.clarity import CONFLICTING_FEEDBACK, OFF_TOPIC_FEEDBACK, VAGUE_FEEDBACK
from cesrec_core.frames.histories import closed_by_user, feedback_by_user, observed_histories, unclear_feedback
from cesrec_core.rewriting.fallbacks import BUDGET_EXHAUSTED, ENDPOINT_FAILED, ENDPOINT_REFUSED, NOTHING_MASKED, SAME_WORDS
from cesrec_core.schemas import CLARIFICATIONS, FEEDBACK, FEEDBACK_SIGNALS, OUTLIER_MASKS, PSEUDO_SEQUENCES, USER_SEQUENCES
from cesrec_core.stages.catalogue_features import OF_THE_CATALOGUE, export_features
from cesrec_core.stages.context import RunContext, Stage, StageResult, write_whole
from cesrec_core.stages.map_table import map_frame
from cesrec_core.stages.run_inputs import export_rules, latest_rounds, rejected_of_run, segments_of
from cesrec_core.stages.understand_feedback import feedback_of_run, signals_of_run

log = logging.getLogger(__name__)

NAME = "construct_pseudo_sequences"
# Of rounds in which no decoder answered.
NOT_ANSWERED = (
    VAGUE_FEEDBACK,
    CONFLICTING_FEEDBACK,
    OFF_TOPIC_FEEDBACK,
    NOTHING_MASKED,
    SAME_WORDS,
    BUDGET_EXHAUSTED,
    ENDPOINT_FAILED,
    ENDPOINT_REFUSED,
)
# Texts, the most frequent first, that the report of rejected titles holds.
NUM_REPORTED_TITLES = 100


def check(context: RunContext) -> None:
    section = context.config.construct_pseudo_sequences
    # Workers of another cluster have an environment of their own.
    if section.decoder == "endpoint" and context.config.ray.address is None:
        from cesrec_core.actors.chat_endpoint import api_key

        api_key(section.endpoint)


def run(context: RunContext) -> StageResult:
    from cesrec_core.actors.construct_pseudo_sequences import ConstructPseudoSequences

    active, signals = feedback_of_run(context), signals_of_run(context)
    histories = observed_histories(context.warehouse.read(USER_SEQUENCES), context.config.dataset.split)
    masks = context.warehouse.read_run(OUTLIER_MASKS, context.run_id).select(c.USER_ID, c.MASKED_POSITIONS)
    to_rewrite = (
        feedback_by_user(active, signals)
        .join(histories.select(c.USER_ID, c.ITEM_IDS), on=c.USER_ID, how="inner")
        .join(masks, on=c.USER_ID, how="inner")
    )
    section, ledger = context.config.construct_pseudo_sequences, context.stage_path(NAME) / "usage.jsonl"
    folders = (context.artifact("recommender")[0], context.artifact("constructor")[0], export_features(context))
    worker = ConstructPseudoSequences(*folders, context.config, context.run_id, ledger)
    # One worker keeps the pace and the budget of an endpoint; it asks for many users at a time.
    num_actors = 1 if section.decoder == "endpoint" else None
    rewritten = map_frame(context, NAME, to_rewrite, c.USER_ID, worker, PSEUDO_SEQUENCES, num_actors=num_actors)
    empty = context.warehouse.read(PSEUDO_SEQUENCES).limit(0)
    num_rounds = context.warehouse.replace_run(PSEUDO_SEQUENCES, rewritten if rewritten is not None else empty, context.run_id)

    num_questions = _ask(context)
    of_run = context.warehouse.read_run(PSEUDO_SEQUENCES, context.run_id)
    num_changed = of_run.where(F.size(c.REPLACED_POSITIONS) > 0).count()
    counts = {"rounds": num_rounds, "rounds_that_changed_something": num_changed, "clarifications": num_questions}
    metrics = _metrics(of_run) if num_changed else {}
    if section.decoder != "items":
        metrics |= _of_titles(of_run) | _usage(ledger)
        _report_rejected(context, of_run, folders[-1])
    return StageResult(counts, metrics)


def _ask(context: RunContext) -> int:
    """Write questions to users whose newest words cannot be acted on; returns their number."""
    from cesrec_core.actors.ask_clarifications import AskClarifications

    sequences = context.warehouse.read(USER_SEQUENCES)
    users = unclear_feedback(feedback_of_run(context), signals_of_run(context))
    closed = closed_by_user(rejected_of_run(context), sequences)
    known = observed_histories(sequences, context.config.dataset.split).select(c.USER_ID, c.ITEM_IDS)
    for of_user in (known, latest_rounds(context).drop(c.ROUND), closed, segments_of(context)):
        users = users.join(of_user, on=c.USER_ID, how="left")
    # Somebody without a history is asked what splits the favourites of people on average.
    users = users.withColumn(c.ITEM_IDS, F.coalesce(c.ITEM_IDS, F.array().cast("array<string>")))
    folders = (context.artifact("recommender")[0], export_features(context), export_rules(context))
    worker = AskClarifications(*folders, context.config, context.run_id)
    asked = map_frame(context, "ask_clarifications", users, c.USER_ID, worker, CLARIFICATIONS)
    empty = context.warehouse.read(CLARIFICATIONS).limit(0)
    return context.warehouse.replace_run(CLARIFICATIONS, asked if asked is not None else empty, context.run_id)


def _metrics(rounds: DataFrame) -> dict[str, float]:
    put_in = rounds.select(c.REPLACED_ITEM_IDS, c.ITEM_IDS, F.arrays_zip(c.REPLACED_POSITIONS, c.PROBABILITIES).alias("places"))
    put_in = put_in.select(c.REPLACED_ITEM_IDS, c.ITEM_IDS, F.explode("places").alias("place"))
    # At the recent end kept items move up, which nobody decided: a probability of 1 that says nothing.
    is_decided = ~F.array_contains(c.REPLACED_ITEM_IDS, F.get(c.ITEM_IDS, F.col(f"place.{c.REPLACED_POSITIONS}")))
    mean = put_in.where(is_decided).agg(F.avg(f"place.{c.PROBABILITIES}")).collect()[0][0]
    return {} if mean is None else {"mean_probability_of_replacement": float(mean)}


def _of_titles(rounds: DataFrame) -> dict[str, float]:
    """How many rounds a decoder of titles answered, in how many it made titles up, and why histories were kept."""
    reasons = rounds.where(c.IS_FALLBACK).groupBy(c.FALLBACK_REASON).count().collect()
    kept = {f"rounds_kept_{row[c.FALLBACK_REASON]}": float(row["count"]) for row in reasons}
    num_answered = rounds.count() - sum(kept.get(f"rounds_kept_{reason}", 0.0) for reason in NOT_ANSWERED)
    num_rejected = rounds.where(F.size(c.REJECTED_TITLES) > 0).count()
    share = num_rejected / num_answered if num_answered else 0.0
    return {**kept, "rounds_answered": num_answered, "rounds_with_rejected_titles_share": share}


def rejected_titles_path(warehouse: Path, run_id: str) -> Path:
    """What a decoder of titles made up in a run, see `title_analysis.most_frequent`; no file where that was nothing."""
    return warehouse / "rejected_titles" / f"{run_id}.json"


def _usage(ledger: Path) -> dict[str, float]:
    from cesrec_core.actors.chat_endpoint import read_usage

    usage = read_usage(ledger)
    return {"endpoint_requests": usage.requests, "endpoint_tokens": usage.tokens} if usage.requests else {}


def _report_rejected(context: RunContext, rounds: DataFrame, catalogue: Path) -> None:
    """Write the most frequent of the texts that are no candidate's title, and what they come nearest to."""
    from cesrec_core.constructor.title_analysis import most_frequent

    texts = rounds.select(F.explode(c.REJECTED_TITLES).alias("text")).groupBy("text").count()
    rows = texts.orderBy(F.desc("count"), "text").limit(NUM_REPORTED_TITLES).collect()
    if not rows:
        return
    features = CatalogueFeatures.load(catalogue)
    active = [title for title, is_active in zip(features.catalogue.titles, features.is_active, strict=True) if is_active]
    report = most_frequent({row["text"]: row["count"] for row in rows}, active, NUM_REPORTED_TITLES)
    file = rejected_titles_path(context.warehouse.path, context.run_id)
    write_whole(file, json.dumps(report, indent=1, ensure_ascii=False))
    log.info("titles of no candidate: %s", file)


STAGE = Stage(
    name=NAME,
    reads=(
        USER_SEQUENCES.name,
        OUTLIER_MASKS.name,
        FEEDBACK.name,
        FEEDBACK_SIGNALS.name,
        *OF_THE_CATALOGUE,
        "constructor",
    ),
    writes=(PSEUDO_SEQUENCES.name, CLARIFICATIONS.name),
    run=run,
    check=check,
)
