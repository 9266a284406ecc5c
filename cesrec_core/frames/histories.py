"""What the stages read of histories, and which feedback counts in a run."""

import datetime as dt

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.sequences import MIN_ITEMS_TO_HOLD_OUT, Split


def observed_histories(user_sequences: DataFrame, split: Split) -> DataFrame:
    """user_id, item_ids, target_item_id: what the nightly job may read, and what it may not (null where all is read).

    The same cut as `cesrec_core.sequences.observed_part`.
    """
    items = F.col(c.ITEM_IDS)
    if split == "all":
        return user_sequences.select(c.USER_ID, items, F.lit(None).cast("string").alias(c.TARGET_ITEM_ID))
    is_long_enough = F.size(items) >= MIN_ITEMS_TO_HOLD_OUT
    observed = F.when(is_long_enough, F.slice(items, F.lit(1), F.size(items) - 1)).otherwise(items)
    target = F.when(is_long_enough, F.element_at(items, -1))
    return user_sequences.select(c.USER_ID, observed.alias(c.ITEM_IDS), target.alias(c.TARGET_ITEM_ID))


def drawn_users(histories: DataFrame, num_users: int, seed: int) -> DataFrame:
    """The same `num_users` users every time: those whose key hashes lowest together with the seed."""
    draw = F.xxhash64(F.lit(seed), F.col(c.USER_ID))
    return histories.orderBy(draw, c.USER_ID).limit(num_users)


def speakers(feedback: DataFrame, run_end: dt.datetime, window_days: int) -> DataFrame:
    """user_id of everybody who said something themselves within the window."""
    start = run_end - dt.timedelta(days=window_days)
    in_window = (F.col(c.CREATED_AT) >= F.lit(start)) & (F.col(c.CREATED_AT) < F.lit(run_end))
    return said_by_people(feedback.where(in_window)).select(c.USER_ID).distinct()


def said_by_people(feedback: DataFrame) -> DataFrame:
    """The rows that no simulator wrote."""
    return feedback.where(~F.col(c.SOURCE).startswith("simulated"))


def active_feedback(feedback: DataFrame, run_end: dt.datetime, window_days: int, max_rounds: int) -> DataFrame:
    """Each user's newest `max_rounds` utterances within the window, with `round` counting from the oldest of them.

    Ties in time go by feedback_id. Of rows with one feedback_id, which an application may append when it tries again, the
    newest counts.
    """
    start = run_end - dt.timedelta(days=window_days)
    in_window = feedback.where((F.col(c.CREATED_AT) >= F.lit(start)) & (F.col(c.CREATED_AT) < F.lit(run_end)))
    newest_of_id = Window.partitionBy(c.FEEDBACK_ID).orderBy(F.col(c.CREATED_AT).desc(), c.USER_ID, c.UTTERANCE)
    in_window = in_window.withColumn("copy", F.row_number().over(newest_of_id)).where(F.col("copy") == 1)
    by_user = Window.partitionBy(c.USER_ID)
    newest_first = by_user.orderBy(F.col(c.CREATED_AT).desc(), F.col(c.FEEDBACK_ID).desc())
    kept = in_window.withColumn("recency", F.row_number().over(newest_first)).where(F.col("recency") <= max_rounds)
    counted = kept.withColumn(c.ROUND, F.max("recency").over(by_user) - F.col("recency") + 1)
    return counted.select(*feedback.columns, F.col(c.ROUND).cast("int").alias(c.ROUND))


def feedback_by_user(active: DataFrame, signals: DataFrame) -> DataFrame:
    """user_id and `said`: the user's utterances with what they mean, oldest first.

    Args:
        active: from `active_feedback`.
        signals: feedback_signals of one model.
    """
    joined = active.join(signals, on=c.FEEDBACK_ID, how="inner")
    utterance = F.struct(
        c.ROUND, c.FEEDBACK_ID, c.UTTERANCE, c.WANTED_ATTRIBUTES, c.UNWANTED_ATTRIBUTES, c.UNWANTED_ITEM_IDS, c.IS_VAGUE
    )
    return joined.groupBy(c.USER_ID).agg(F.sort_array(F.collect_list(utterance)).alias(c.SAID))


def vague_feedback(active: DataFrame, signals: DataFrame) -> DataFrame:
    """user_id, feedback_id, recommended_item_ids of users whose newest utterance cannot be acted on."""
    newest = Window.partitionBy(c.USER_ID).orderBy(F.col(c.ROUND).desc())
    latest = active.withColumn("order", F.row_number().over(newest)).where(F.col("order") == 1)
    vague = latest.join(signals.where(F.col(c.IS_VAGUE)), on=c.FEEDBACK_ID, how="inner")
    return vague.select(c.USER_ID, c.FEEDBACK_ID, c.RECOMMENDED_ITEM_IDS)
