"""Allow- and block-lists and user segments, from raw frames."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.item_rules import ALLOW, BLOCK


def clean_rules(raw: DataFrame) -> DataFrame:
    """rule, segment, item_id: the usable rows; a segment that is empty text is everybody."""
    rules = raw.where(_is_usable(raw)).withColumn(c.RULE, _rule())
    return rules.select(c.RULE, F.nullif(F.trim(c.SEGMENT), F.lit("")).alias(c.SEGMENT), c.ITEM_ID).distinct()


def unusable_rules(raw: DataFrame) -> DataFrame:
    """The other rows: no known rule, or no item."""
    return raw.where(~_is_usable(raw))


def segments_by_user(raw: DataFrame) -> DataFrame:
    """user_id and `segments`, sorted; rows without a user or a segment are left out."""
    usable = raw.where(F.col(c.USER_ID).isNotNull() & (F.trim(c.SEGMENT) != ""))
    return usable.groupBy(c.USER_ID).agg(F.sort_array(F.collect_set(F.trim(c.SEGMENT))).alias(c.SEGMENTS))


def _rule() -> Column:
    return F.lower(F.trim(F.col(c.RULE)))


def _is_usable(raw: DataFrame) -> Column:
    is_rule = F.coalesce(_rule().isin(ALLOW, BLOCK), F.lit(False))
    return is_rule & F.col(c.ITEM_ID).isNotNull()
