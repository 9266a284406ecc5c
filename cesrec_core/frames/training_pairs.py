"""From whose history how many training pairs are drawn, and what may be read of it."""

import math

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.constructor.pairs import MIN_CONTEXT_ITEMS, MIN_ITEMS_TO_VALIDATE
from cesrec_core.frames.histories import drawn_users, hold_out_newest
from cesrec_core.sequences import Split


def training_histories(user_sequences: DataFrame, split: Split) -> DataFrame:
    """user_id, item_ids, target_item_id: what may be trained on, and the item after it that validation may ask for.

    The cut of `cesrec_core.sequences.training_part`: with leave-one-out the last two items are gone and the second last is the
    target. With `all` every item is trained on but for users who validate, see `pair_requests`.
    """
    return hold_out_newest(user_sequences, split, 2)


def histories_trained_on(user_sequences: DataFrame, split: Split, validating: DataFrame) -> DataFrame:
    """`training_histories` of the users who train: with `all`, of those who do not validate (user_id in `validating`)."""
    histories = training_histories(user_sequences, split)
    return histories.join(validating, on=c.USER_ID, how="left_anti") if split == "all" else histories


def count_by_item(histories: DataFrame) -> DataFrame:
    """item_id, num_items: how often the histories that pairs are drawn from hold each item."""
    usable = histories.where(F.size(c.ITEM_IDS) > MIN_CONTEXT_ITEMS)
    return usable.select(F.explode(c.ITEM_IDS).alias(c.ITEM_ID)).groupBy(c.ITEM_ID).agg(F.count("*").alias(c.NUM_ITEMS))


def validation_users(user_sequences: DataFrame, num_users: int, seed: int) -> DataFrame:
    """user_id of a fixed draw of users whose histories are long enough to ask about."""
    long_enough = user_sequences.where(F.size(c.ITEM_IDS) >= MIN_ITEMS_TO_VALIDATE)
    return drawn_users(long_enough, num_users, seed).select(c.USER_ID)


def pair_requests(
    user_sequences: DataFrame, split: Split, validating: DataFrame, pairs_per_user: float, seed: int
) -> DataFrame:
    """user_id, item_ids, target_item_id, num_pairs: what `DrawPairs` reads.

    With `all`, users who validate are left out of training and their last item is asked for.

    Args:
        validating: user_id of the users who validate.
        pairs_per_user: to draw on average; its fraction falls to users by the hash of their key.
    """
    histories = training_histories(user_sequences, split)
    marked = histories.join(validating.withColumn("validates", F.lit(True)), on=c.USER_ID, how="left")
    validates = F.coalesce(F.col("validates"), F.lit(False))
    draw = F.pmod(F.xxhash64(F.lit(seed), F.lit("pairs"), F.col(c.USER_ID)), F.lit(1_000_000)) / F.lit(1_000_000.0)
    whole = math.floor(pairs_per_user)
    num_pairs = (F.lit(whole) + (draw < F.lit(pairs_per_user - whole)).cast("int")).cast("int")
    items, target = F.col(c.ITEM_IDS), F.when(validates, F.col(c.TARGET_ITEM_ID))
    if split == "all":
        num_pairs = F.when(validates, F.lit(0)).otherwise(num_pairs)
        target = F.when(validates, F.element_at(items, -1))
        items = F.when(validates, F.slice(items, F.lit(1), F.size(items) - 1)).otherwise(items)
    asked = marked.select(c.USER_ID, items.alias(c.ITEM_IDS), target.alias(c.TARGET_ITEM_ID), num_pairs.alias(c.NUM_PAIRS))
    return asked.where((F.col(c.NUM_PAIRS) > 0) | F.col(c.TARGET_ITEM_ID).isNotNull())
