"""Masks of two nights, side by side."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c


def mask_pairs(now: DataFrame, then: DataFrame) -> DataFrame:
    """user_id and is_same, of users who have as many items as they had, and of whose items some are masked now or were then.

    Args:
        now, then: user_id, masked_positions, similarities; one row per user.
    """
    length = F.size(c.SIMILARITIES).alias("length")
    pairs = now.select(c.USER_ID, length, F.col(c.MASKED_POSITIONS).alias("now")).join(
        then.select(c.USER_ID, length, F.col(c.MASKED_POSITIONS).alias("then")), on=[c.USER_ID, "length"], how="inner"
    )
    pairs = pairs.where((F.size("now") > 0) | (F.size("then") > 0))
    return pairs.select(c.USER_ID, (F.col("now") == F.col("then")).alias("is_same"))
