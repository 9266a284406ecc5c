"""Histories from interactions, and back."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.schemas import USER_SEQUENCES

TIMESTAMP = "timestamp"
POSITION = "position"


def build_sequences(interactions: DataFrame, max_history_items: int) -> DataFrame:
    """One row per user, in the order of user_sequences: the newest `max_history_items`, oldest first.

    Ties in time go by source_position, then item_id. An item that comes back at another moment stays in the history each
    time: coming back is a preference too. What was before is remembered as had.
    """
    event = F.struct(c.INTERACTED_AT, c.SOURCE_POSITION, c.ITEM_ID)
    ordered = interactions.groupBy(c.USER_ID).agg(F.sort_array(F.collect_list(event)).alias("events"))
    num_older = F.greatest(F.size("events") - max_history_items, F.lit(0))
    older = F.array_sort(F.array_distinct(F.slice(F.col(f"events.{c.ITEM_ID}"), F.lit(1), num_older)))
    newest = ordered.select(
        c.USER_ID,
        F.slice("events", num_older + 1, F.lit(max_history_items)).alias("events"),
        F.when(num_older > 0, older).alias(c.OLDER_ITEM_IDS),
    )
    return newest.select(
        c.USER_ID,
        F.col(f"events.{c.ITEM_ID}").alias(c.ITEM_IDS),
        F.col(f"events.{c.INTERACTED_AT}").alias(c.INTERACTED_AT),
        F.size("events").alias(c.NUM_ITEMS),
        F.element_at(f"events.{c.INTERACTED_AT}", -1).alias(c.UPDATED_AT),
        c.OLDER_ITEM_IDS,
    ).select(USER_SEQUENCES.column_names)


def explode_sequences(user_sequences: DataFrame) -> DataFrame:
    """user_id, item_id, timestamp, position: the form of a dataset folder's interactions, position 0 = oldest kept item."""
    places = F.posexplode(F.arrays_zip(c.ITEM_IDS, c.INTERACTED_AT)).alias(POSITION, "event")
    exploded = user_sequences.select(c.USER_ID, places)
    return exploded.select(
        c.USER_ID,
        F.col(f"event.{c.ITEM_IDS}").alias(c.ITEM_ID),
        F.col(f"event.{c.INTERACTED_AT}").alias(TIMESTAMP),
        POSITION,
    )
