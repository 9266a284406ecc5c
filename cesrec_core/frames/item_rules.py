"""Allow- and block-lists and user segments, from raw frames."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.frames.ingest import external_key
from cesrec_core.ranking.item_rules import ALLOW, BLOCK


def clean_rules(raw: DataFrame) -> DataFrame:
    """rule, segment, item_id: the usable rows; a segment that is empty text is everybody."""
    rules = raw.where(_is_usable(raw)).withColumn(c.RULE, _rule())
    return rules.select(c.RULE, external_key(c.SEGMENT).alias(c.SEGMENT), external_key(c.ITEM_ID).alias(c.ITEM_ID)).distinct()


def unusable_rules(raw: DataFrame) -> DataFrame:
    """The other rows: no known rule, or no item."""
    return raw.where(~_is_usable(raw))


def segments_by_user(raw: DataFrame) -> DataFrame:
    """user_id and `segments`, sorted; of the usable rows."""
    usable = raw.select(external_key(c.USER_ID).alias(c.USER_ID), external_key(c.SEGMENT).alias(c.SEGMENT)).dropna()
    return usable.groupBy(c.USER_ID).agg(F.sort_array(F.collect_set(c.SEGMENT)).alias(c.SEGMENTS))


def unusable_segments(raw: DataFrame) -> DataFrame:
    """Rows without a user or a segment."""
    return raw.where(external_key(c.USER_ID).isNull() | external_key(c.SEGMENT).isNull())


def against_rules(recommendations: DataFrame, rules: DataFrame, segments: DataFrame) -> DataFrame:
    """user_id and item_id of what was recommended although a list forbids it; see `ItemRules` for what lists mean.

    Args:
        recommendations: user_id, item_id.
        rules: as `clean_rules` makes them.
        segments: as `segments_by_user` makes them.
    """
    shown = recommendations.select(c.USER_ID, c.ITEM_ID)
    members = segments.select(c.USER_ID, F.explode(c.SEGMENTS).alias(c.SEGMENT))
    for_all = rules.where(F.col(c.SEGMENT).isNull())
    own = members.join(rules.where(F.col(c.SEGMENT).isNotNull()), on=c.SEGMENT, how="inner")  # user_id, rule, item_id
    is_allow, is_block = F.col(c.RULE) == ALLOW, F.col(c.RULE) == BLOCK
    blocked = shown.join(for_all.where(is_block), on=c.ITEM_ID, how="left_semi").unionByName(
        shown.join(own.where(is_block), on=[c.USER_ID, c.ITEM_ID], how="left_semi")
    )
    any_list = for_all.where(is_allow).select(F.lit(1)).limit(1)
    not_listed = shown.join(for_all.where(is_allow), on=c.ITEM_ID, how="left_anti").crossJoin(any_list)
    not_listed_own = shown.join(own.where(is_allow), on=c.USER_ID, how="left_semi").join(
        own.where(is_allow), on=[c.USER_ID, c.ITEM_ID], how="left_anti"
    )
    faults = blocked.unionByName(not_listed.select(c.USER_ID, c.ITEM_ID)).unionByName(not_listed_own)
    return faults.distinct()


def idle_rules(rules: DataFrame, segments: DataFrame, items: DataFrame) -> tuple[int, int]:
    """How many items that rules name are not in the catalogue, and how many segments of theirs nobody is in."""
    num_items = rules.join(items, on=c.ITEM_ID, how="left_anti").select(c.ITEM_ID).distinct().count()
    members = segments.select(F.explode(c.SEGMENTS).alias(c.SEGMENT))
    of_segments = rules.where(F.col(c.SEGMENT).isNotNull())
    return num_items, of_segments.join(members, on=c.SEGMENT, how="left_anti").select(c.SEGMENT).distinct().count()


def _rule() -> Column:
    return F.lower(F.trim(F.col(c.RULE)))


def _is_usable(raw: DataFrame) -> Column:
    is_rule = F.coalesce(_rule().isin(ALLOW, BLOCK), F.lit(False))
    return is_rule & external_key(c.ITEM_ID).isNotNull()
