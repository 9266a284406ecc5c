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
    time: coming back is a preference too.
    """
    event = F.struct(c.INTERACTED_AT, c.SOURCE_POSITION, c.ITEM_ID)
    ordered = interactions.groupBy(c.USER_ID).agg(F.sort_array(F.collect_list(event)).alias("events"))
    first_kept = F.greatest(F.size("events") - max_history_items + 1, F.lit(1))
    newest = ordered.withColumn("events", F.slice("events", first_kept, F.lit(max_history_items)))
    return newest.select(
        c.USER_ID,
        F.col(f"events.{c.ITEM_ID}").alias(c.ITEM_IDS),
        F.col(f"events.{c.INTERACTED_AT}").alias(c.INTERACTED_AT),
        F.size("events").alias(c.NUM_ITEMS),
        F.element_at(f"events.{c.INTERACTED_AT}", -1).alias(c.UPDATED_AT),
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
