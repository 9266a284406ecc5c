"""Distributions of the ingested tables: counts of counts, so that each frame has few rows however large its tables are."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c

USERS, ITEMS, ROWS, DAY = "users", "items", "rows", "day"
LENGTH_BITS, POPULARITY_BITS = "length_bits", "popularity_bits"


def history_lengths(user_sequences: DataFrame) -> DataFrame:
    """num_items, users."""
    return user_sequences.groupBy(c.NUM_ITEMS).agg(F.count(F.lit(1)).alias(USERS)).select(c.NUM_ITEMS, USERS)


def item_popularity(interactions: DataFrame, items: DataFrame) -> DataFrame:
    """rows, items: how many active items have so many interactions."""
    active = items.where(c.IS_ACTIVE).select(c.ITEM_ID)
    popular = active.join(_rows_of_item(interactions), on=c.ITEM_ID, how="left")
    counted = popular.select(F.coalesce(ROWS, F.lit(0)).alias(ROWS))
    return counted.groupBy(ROWS).agg(F.count(F.lit(1)).alias(ITEMS)).select(ROWS, ITEMS)


def interactions_by_day(interactions: DataFrame) -> DataFrame:
    """day, rows."""
    day = F.to_date(c.INTERACTED_AT).alias(DAY)
    return interactions.groupBy(day).agg(F.count(F.lit(1)).alias(ROWS)).select(DAY, ROWS)


def attribute_use(interactions: DataFrame, items: DataFrame, num_attributes: int) -> DataFrame:
    """name, items, rows of the attributes that the most active items have, most first."""
    of_items = items.where(c.IS_ACTIVE).join(_rows_of_item(interactions), on=c.ITEM_ID, how="left")
    by_attribute = of_items.select(F.explode(c.ATTRIBUTES).alias(c.NAME), F.coalesce(ROWS, F.lit(0)).alias(ROWS))
    counted = by_attribute.groupBy(c.NAME).agg(F.count(F.lit(1)).alias(ITEMS), F.sum(ROWS).alias(ROWS))
    return counted.orderBy(F.desc(ITEMS), c.NAME).limit(num_attributes).select(c.NAME, ITEMS, ROWS)


def feedback_by_source(feedback: DataFrame) -> DataFrame:
    """source, rows."""
    return feedback.groupBy(c.SOURCE).agg(F.count(F.lit(1)).alias(ROWS)).select(c.SOURCE, ROWS)


def pairs_by_size(interactions: DataFrame, user_sequences: DataFrame, items: DataFrame) -> DataFrame:
    """length_bits, popularity_bits, rows: different pairs of a user and an active item, see `DataProfile.pairs`."""
    lengths = user_sequences.select(c.USER_ID, _bits(F.col(c.NUM_ITEMS)).alias(LENGTH_BITS))
    popular = _rows_of_item(interactions).join(items.where(c.IS_ACTIVE).select(c.ITEM_ID), on=c.ITEM_ID, how="inner")
    popular = popular.select(c.ITEM_ID, _bits(F.col(ROWS)).alias(POPULARITY_BITS))
    pairs = interactions.select(c.USER_ID, c.ITEM_ID).distinct()
    placed = pairs.join(lengths, on=c.USER_ID, how="inner").join(popular, on=c.ITEM_ID, how="inner")
    counted = placed.groupBy(LENGTH_BITS, POPULARITY_BITS).agg(F.count(F.lit(1)).alias(ROWS))
    return counted.select(LENGTH_BITS, POPULARITY_BITS, ROWS)


def times_recommended(recommendations: DataFrame, interactions: DataFrame, items: DataFrame) -> DataFrame:
    """rows, users, items: how many active items have so many interactions and stand on so many lists."""
    listed = recommendations.groupBy(c.ITEM_ID).agg(F.count(F.lit(1)).alias(USERS))
    active = items.where(c.IS_ACTIVE).select(c.ITEM_ID)
    joined = active.join(_rows_of_item(interactions), on=c.ITEM_ID, how="left").join(listed, on=c.ITEM_ID, how="left")
    filled = joined.select(F.coalesce(ROWS, F.lit(0)).alias(ROWS), F.coalesce(USERS, F.lit(0)).alias(USERS))
    return filled.groupBy(ROWS, USERS).agg(F.count(F.lit(1)).alias(ITEMS)).select(ROWS, USERS, ITEMS)


def _rows_of_item(interactions: DataFrame) -> DataFrame:
    return interactions.groupBy(c.ITEM_ID).agg(F.count(F.lit(1)).alias(ROWS))


def _bits(count: Column) -> Column:
    """The whole part of the binary logarithm, exactly: digits of the binary number less one."""
    return F.length(F.bin(count)) - 1
