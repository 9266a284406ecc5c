"""What the stages read of histories, and which feedback counts in a run."""

import datetime as dt

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.feedback.clauses import MERE_REJECTION
from cesrec_core.feedback.intents import REJECT
from cesrec_core.schemas import RATING_SOURCE, REVIEW_SOURCE
from cesrec_core.sequences import MIN_ITEMS_TO_HOLD_OUT, Split

# What was understood of an utterance, and decides what is done about it.
MEANING = (c.WANTED_ATTRIBUTES, c.UNWANTED_ATTRIBUTES, c.WANTED_ITEM_IDS, c.UNWANTED_ITEM_IDS, c.IS_VAGUE)


def observed_histories(user_sequences: DataFrame, split: Split) -> DataFrame:
    """user_id, item_ids, target_item_id: what the nightly job may read, and what it may not (null where all is read).

    The same cut as `cesrec_core.sequences.observed_part`.
    """
    return hold_out_newest(user_sequences, split, 1)


def hold_out_newest(user_sequences: DataFrame, split: Split, num_held_out: int) -> DataFrame:
    """user_id, item_ids without the newest `num_held_out`, and target_item_id, the first of those.

    With `all`, and in histories too short to hold out from, nothing is cut and the target is null.
    """
    items = F.col(c.ITEM_IDS)
    if split == "all":
        return user_sequences.select(c.USER_ID, items, F.lit(None).cast("string").alias(c.TARGET_ITEM_ID))
    is_long_enough = F.size(items) >= MIN_ITEMS_TO_HOLD_OUT
    kept = F.when(is_long_enough, F.slice(items, F.lit(1), F.size(items) - num_held_out)).otherwise(items)
    target = F.when(is_long_enough, F.element_at(items, -num_held_out))
    return user_sequences.select(c.USER_ID, kept.alias(c.ITEM_IDS), target.alias(c.TARGET_ITEM_ID))


def drawn_users(histories: DataFrame, num_users: int, seed: int) -> DataFrame:
    """The same `num_users` users every time: those whose key hashes lowest together with the seed."""
    draw = F.xxhash64(F.lit(seed), F.col(c.USER_ID))
    return histories.orderBy(draw, c.USER_ID).limit(num_users)


def past_opinions(histories: DataFrame, interactions: DataFrame, liked_rating: float, disliked_rating: float) -> DataFrame:
    """`histories` with `liked_item_ids` and `disliked_item_ids` of the items in them, in their order.

    What has no rating was at least chosen, and counts as liked; so does everything where nothing was liked otherwise. Of
    several ratings the newest counts, and what is held back has none.
    """
    moment = F.struct(c.INTERACTED_AT, c.SOURCE_POSITION)
    targets = histories.select(c.USER_ID, c.TARGET_ITEM_ID)
    newest_first = Window.partitionBy(c.USER_ID, c.ITEM_ID).orderBy(moment.desc())
    numbered = interactions.join(targets, on=c.USER_ID, how="inner").withColumn("place", F.row_number().over(newest_first))
    # Of an item that somebody had before, the held-back time alone is left out.
    is_held_back = (F.col("place") == 1) & F.col(c.ITEM_ID).eqNullSafe(F.col(c.TARGET_ITEM_ID))
    ratings = numbered.where(~is_held_back).groupBy(c.USER_ID, c.ITEM_ID).agg(F.max_by(c.RATING, moment).alias(c.RATING))
    had = histories.select(c.USER_ID, F.posexplode(c.ITEM_IDS).alias("position", c.ITEM_ID))
    rated = had.join(ratings, on=[c.USER_ID, c.ITEM_ID], how="left")
    entry = F.struct("position", c.ITEM_ID)

    def where(condition: Column) -> Column:
        in_order = F.array_sort(F.collect_list(F.when(condition, entry)))
        return F.transform(in_order, lambda place: place[c.ITEM_ID])

    is_liked = F.col(c.RATING).isNull() | (F.col(c.RATING) >= liked_rating)
    opinions = rated.groupBy(c.USER_ID).agg(
        where(is_liked).alias(c.LIKED_ITEM_IDS), where(F.col(c.RATING) <= disliked_rating).alias(c.DISLIKED_ITEM_IDS)
    )
    joined = histories.join(opinions, on=c.USER_ID, how="left")
    liked = F.when(F.size(c.LIKED_ITEM_IDS) > 0, F.col(c.LIKED_ITEM_IDS)).otherwise(F.col(c.ITEM_IDS))
    return joined.select(*histories.columns, liked.alias(c.LIKED_ITEM_IDS), c.DISLIKED_ITEM_IDS)


def speakers(feedback: DataFrame, run_end: dt.datetime, window_days: int) -> DataFrame:
    """user_id of everybody who said something themselves within the window."""
    return said_by_people(_between(feedback, run_end, window_days)).select(c.USER_ID).distinct()


def said_by_people(feedback: DataFrame) -> DataFrame:
    """The rows that no simulator wrote."""
    return feedback.where(~F.col(c.SOURCE).startswith("simulated"))


def heard_feedback(
    feedback: DataFrame, run_end: dt.datetime, window_days: int, max_rounds: int, remembered_days: int = 0
) -> DataFrame:
    """All utterances within the window or the days that rejections are remembered for; `round` is null where they only are.

    `round` numbers each user's newest `max_rounds` utterances within the window from the oldest of them. Ties in time go by
    feedback_id. Of rows with one feedback_id, which an application may append when it tries again, the newest counts.
    Ratings fill what places words leave: somebody who spoke once and rated ten things since is still heard.
    """
    remembered = _between(feedback, run_end, max(window_days, remembered_days))
    newest_of_id = Window.partitionBy(c.FEEDBACK_ID).orderBy(F.col(c.CREATED_AT).desc(), c.USER_ID, c.UTTERANCE)
    remembered = remembered.withColumn("copy", F.row_number().over(newest_of_id)).where(F.col("copy") == 1)
    by_user = Window.partitionBy(c.USER_ID)
    is_old = F.col(c.CREATED_AT) < F.lit(run_end - dt.timedelta(days=window_days))
    newest_first = (F.col(c.CREATED_AT).desc(), F.col(c.FEEDBACK_ID).desc())
    words_first = by_user.orderBy(is_old, F.col(c.SOURCE) == RATING_SOURCE, *newest_first)
    placed = remembered.withColumn("place", F.row_number().over(words_first))
    is_active = ~is_old & (F.col("place") <= max_rounds)
    in_turn = Window.partitionBy(c.USER_ID, is_active).orderBy(c.CREATED_AT, c.FEEDBACK_ID)
    counted = F.when(is_active, F.row_number().over(in_turn)).cast("int")
    return placed.select(*feedback.columns, counted.alias(c.ROUND))


def _between(feedback: DataFrame, run_end: dt.datetime, days: int) -> DataFrame:
    """What was said in so many days before the end of the run date."""
    start = run_end - dt.timedelta(days=days)
    return feedback.where((F.col(c.CREATED_AT) >= F.lit(start)) & (F.col(c.CREATED_AT) < F.lit(run_end)))


def without_hidden_items(feedback: DataFrame, histories: DataFrame) -> DataFrame:
    """Feedback less the ratings and reviews of items that are held back: they would tell what is to be predicted.

    Args:
        histories: from `observed_histories`.
    """
    hidden = histories.where(F.col(c.TARGET_ITEM_ID).isNotNull()).select(c.USER_ID, c.TARGET_ITEM_ID)
    is_derived = F.col(c.SOURCE).isin(RATING_SOURCE, REVIEW_SOURCE)
    is_of_hidden = (feedback[c.USER_ID] == hidden[c.USER_ID]) & F.array_contains(
        c.RECOMMENDED_ITEM_IDS, F.col(c.TARGET_ITEM_ID)
    )
    derived = feedback.where(is_derived).join(hidden, on=is_of_hidden, how="left_anti")
    return feedback.where(~is_derived).unionByName(derived.select(feedback.columns))


def is_clear() -> Column:
    """Of feedback_signals: whether something can be acted on, and nothing is both wanted and unwanted."""
    contradicts = F.arrays_overlap(c.WANTED_ATTRIBUTES, c.UNWANTED_ATTRIBUTES) | F.arrays_overlap(
        c.WANTED_ITEM_IDS, c.UNWANTED_ITEM_IDS
    )
    return ~F.col(c.IS_VAGUE) & ~contradicts


def words_to_act_on() -> Column:
    """What somebody said, in words that need no question."""
    return F.coalesce(F.col(c.RESTATED), F.col(c.UTTERANCE)).alias(c.UTTERANCE)


def feedback_by_user(active: DataFrame, signals: DataFrame) -> DataFrame:
    """user_id and `said`: the user's utterances with what they mean, oldest first.

    Args:
        active: from `heard_feedback`, rows with a round.
        signals: feedback_signals of one model.
    """
    joined = active.join(signals, on=c.FEEDBACK_ID, how="inner")
    utterance = F.struct(c.ROUND, c.FEEDBACK_ID, words_to_act_on(), *MEANING)
    return joined.groupBy(c.USER_ID).agg(F.sort_array(F.collect_list(utterance)).alias(c.SAID))


def words_by_user(active: DataFrame, signals: DataFrame) -> DataFrame:
    """user_id, utterance and MEANING of users who said something clear: their newest such words, and what all of them mean.

    See `feedback.wishes.settled`, which says the same of one user.
    """
    said = feedback_by_user(active, signals.where(is_clear()))
    of_user = F.col(c.SAID)

    def settled(name: str, other_side: str) -> Column:
        def said_after(so_far: Column, one: Column) -> Column:
            return F.array_union(F.array_except(so_far, one[other_side]), one[name])

        return F.aggregate(of_user, F.array().cast("array<string>"), said_after).alias(name)

    return said.select(
        c.USER_ID,
        F.element_at(of_user, -1)[c.UTTERANCE].alias(c.UTTERANCE),
        settled(c.WANTED_ATTRIBUTES, c.UNWANTED_ATTRIBUTES),
        settled(c.UNWANTED_ATTRIBUTES, c.WANTED_ATTRIBUTES),
        settled(c.WANTED_ITEM_IDS, c.UNWANTED_ITEM_IDS),
        settled(c.UNWANTED_ITEM_IDS, c.WANTED_ITEM_IDS),
        F.lit(False).alias(c.IS_VAGUE),
    )


def unclear_feedback(active: DataFrame, signals: DataFrame) -> DataFrame:
    """The newest utterance of each user where that cannot be acted on: user_id, feedback_id, utterance and what was understood.

    `known_attributes` are those that other words of the user speak clearly of.
    """
    understood = active.join(signals, on=c.FEEDBACK_ID, how="inner")
    spoken_of = F.array_union(c.WANTED_ATTRIBUTES, c.UNWANTED_ATTRIBUTES)
    known = F.flatten(F.collect_list(F.when(is_clear(), spoken_of)))
    by_user = understood.groupBy(c.USER_ID).agg(F.array_sort(F.array_distinct(known)).alias(c.KNOWN_ATTRIBUTES))
    newest = Window.partitionBy(c.USER_ID).orderBy(F.col(c.ROUND).desc())
    latest = understood.withColumn("order", F.row_number().over(newest)).where((F.col("order") == 1) & ~is_clear())
    return latest.join(by_user, on=c.USER_ID, how="inner").select(
        c.USER_ID, c.FEEDBACK_ID, c.UTTERANCE, *MEANING, c.KNOWN_ATTRIBUTES
    )


def rejected_items(heard: DataFrame, signals: DataFrame, run_end: dt.datetime, rejected_days: int) -> DataFrame:
    """user_id, item_id, created_at: what users turned down and have not asked for since, within the days before the run's end.

    Somebody who rejects and says no more of it turns down all that they were shown.
    """
    understood = _between(heard, run_end, rejected_days).join(signals, on=c.FEEDBACK_ID, how="inner")
    # Both the model of sentences and the words say so: either alone is often wrong, and closes all that was shown for long.
    says_no = F.lower(c.UTTERANCE).rlike(MERE_REJECTION)
    is_mere_rejection = F.col(c.IS_VAGUE) & F.array_contains(c.INTENTS, REJECT) & says_no
    nothing = F.array().cast("array<string>")
    unwanted = F.when(is_mere_rejection, F.col(c.RECOMMENDED_ITEM_IDS)).otherwise(F.col(c.UNWANTED_ITEM_IDS))
    unwanted = F.when(is_mere_rejection | is_clear(), unwanted).otherwise(nothing)
    wanted = F.when(is_clear(), F.col(c.WANTED_ITEM_IDS)).otherwise(nothing)
    of_items = F.concat(
        F.transform(unwanted, lambda item: F.struct(item.alias(c.ITEM_ID), F.lit(False).alias("is_wanted"))),
        F.transform(wanted, lambda item: F.struct(item.alias(c.ITEM_ID), F.lit(True).alias("is_wanted"))),
    )
    spoken_of = understood.select(c.USER_ID, c.CREATED_AT, c.FEEDBACK_ID, F.explode(of_items).alias("said"))
    moment = F.struct(c.CREATED_AT, c.FEEDBACK_ID)
    last = spoken_of.groupBy(c.USER_ID, F.col("said.item_id").alias(c.ITEM_ID)).agg(
        F.max_by(F.col("said.is_wanted"), moment).alias("is_wanted"), F.max(c.CREATED_AT).alias(c.CREATED_AT)
    )
    return last.where(~F.col("is_wanted")).select(c.USER_ID, c.ITEM_ID, c.CREATED_AT)


def closed_by_user(rejected: DataFrame, user_sequences: DataFrame) -> DataFrame:
    """user_id and `closed_item_ids`, sorted: what is not recommended besides the items of the history.

    That is what users have turned down, and what they had before their histories begin.
    """
    closed = rejected.select(c.USER_ID, c.ITEM_ID).unionByName(had_before(user_sequences))
    return closed.groupBy(c.USER_ID).agg(F.array_sort(F.collect_set(c.ITEM_ID)).alias(c.CLOSED_ITEM_IDS))


def had_before(user_sequences: DataFrame) -> DataFrame:
    """user_id and item_id of what users had before the items that their histories have room for."""
    return user_sequences.select(c.USER_ID, F.explode(c.OLDER_ITEM_IDS).alias(c.ITEM_ID))
