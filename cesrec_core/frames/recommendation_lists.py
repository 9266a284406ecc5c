"""Recommendations as one row per user, and how the lists of two runs differ."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from cesrec_core import columns as c

ADDED, CHANGED, RESCORED, REMOVED = "added", "changed", "rescored", "removed"
CHANGES = (ADDED, CHANGED, RESCORED, REMOVED)
# In nats. The vector of a history hangs on those that share its batch by the last bits of float32, so nights that change
# nothing for somebody move their scores by a millionth; a store need not hear of that.
SCORE_TOLERANCE = 1e-4


def ranked_lists(recommendations: DataFrame) -> DataFrame:
    """user_id, round, item_ids and scores, best first.

    Args:
        recommendations: rows of one run.
    """
    ranked = F.sort_array(F.collect_list(F.struct(c.RANK, c.ITEM_ID, c.SCORE)))
    grouped = recommendations.groupBy(c.USER_ID).agg(F.max(c.ROUND).alias(c.ROUND), ranked.alias("ranked"))
    return grouped.select(
        c.USER_ID,
        c.ROUND,
        F.col(f"ranked.{c.ITEM_ID}").alias(c.ITEM_IDS),
        F.col(f"ranked.{c.SCORE}").alias(c.SCORES),
    )


def lists_around(feed: DataFrame) -> tuple[DataFrame, DataFrame]:
    """The lists before and after what a change feed tells, of its users only: for `changed_lists`.

    Args:
        feed: columns of `ranked_lists`, `_change_type` and `_commit_version`, as Delta writes them.
    """
    versions = Window.partitionBy(c.USER_ID)
    marked = feed.withColumn("first", F.min("_commit_version").over(versions)).withColumn(
        "last", F.max("_commit_version").over(versions)
    )
    is_first, is_last = (F.col("_commit_version") == F.col(name) for name in ("first", "last"))
    before = marked.where(is_first & F.col("_change_type").isin("update_preimage", "delete"))
    after = marked.where(is_last & F.col("_change_type").isin("update_postimage", "insert"))
    wanted = (c.USER_ID, c.ROUND, c.ITEM_IDS, c.SCORES)
    return before.select(*wanted), after.select(*wanted)


def changed_lists(now: DataFrame, before: DataFrame) -> DataFrame:
    """user_id, change, and the list as it is now (null where it was removed); no row for users whose list stayed the same.

    `change` is `added` and `removed` for users whom one of the runs lacks, `changed` where items or their order differ, and
    `rescored` where only scores, by more than SCORE_TOLERANCE, or the round do: who takes these rows over has the lists of
    `now`, and scores as near to theirs.

    Args:
        now, before: of `ranked_lists`.
    """
    old = before.select(c.USER_ID, *(F.col(name).alias(f"old_{name}") for name in (c.ROUND, c.ITEM_IDS, c.SCORES)))
    both = now.join(old, on=c.USER_ID, how="full_outer")
    change = (
        F.when(F.col(f"old_{c.ITEM_IDS}").isNull(), ADDED)
        .when(F.col(c.ITEM_IDS).isNull(), REMOVED)
        .when(~_is_same(c.ITEM_IDS), CHANGED)
        .when(~(F.expr(has_same_scores(c.SCORES, f"old_{c.SCORES}")) & _is_same(c.ROUND)), RESCORED)
    )
    changed = both.withColumn(c.CHANGE, change).where(F.col(c.CHANGE).isNotNull())
    return changed.select(c.USER_ID, c.CHANGE, c.ROUND, c.ITEM_IDS, c.SCORES)


def has_same_scores(left: str, right: str) -> str:
    """SQL of whether two lists of scores are the same within SCORE_TOLERANCE; never null."""
    is_near = f"forall(zip_with({left}, {right}, (a, b) -> abs(a - b) <= {SCORE_TOLERANCE}), near -> near)"
    return f"coalesce(size({left}) = size({right}) AND {is_near}, false)"


def _is_same(name: str) -> Column:
    return F.col(name).eqNullSafe(F.col(f"old_{name}"))
