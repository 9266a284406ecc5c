"""Questions to users whose words could not be acted on."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.schemas import CLARIFICATIONS

# Attributes offered to choose from; a person answers by naming one.
NUM_OFFERED = 2


def clarifications(vague: DataFrame, items: DataFrame, run_id: str, reason: str) -> DataFrame:
    """Ask each user which of the attributes that split what was shown best they would rather have.

    An attribute splits a list best when about half of it has the attribute.

    Args:
        vague: user_id, feedback_id, recommended_item_ids.
        items: item_id, attributes.
    """
    shown = vague.select(
        c.USER_ID, F.explode(c.RECOMMENDED_ITEM_IDS).alias(c.ITEM_ID), F.size(c.RECOMMENDED_ITEM_IDS).alias("num_shown")
    )
    attributes = shown.join(items.select(c.ITEM_ID, F.explode(c.ATTRIBUTES).alias("attribute")), on=c.ITEM_ID, how="inner")
    counted = attributes.groupBy(c.USER_ID, "attribute").agg(
        F.count(F.lit(1)).alias("has"), F.first("num_shown").alias("num_shown")
    )
    imbalance = F.abs(F.col("has") * 2 - F.col("num_shown"))
    best_first = Window.partitionBy(c.USER_ID).orderBy(imbalance, "attribute")
    offered = (
        counted.withColumn("place", F.row_number().over(best_first))
        .where(F.col("place") <= NUM_OFFERED)
        .groupBy(c.USER_ID)
        .agg(F.sort_array(F.collect_list(F.struct("place", "attribute"))).alias("offered"))
    )
    names = F.lower(F.array_join(F.transform("offered", lambda offer: offer["attribute"]), " or "))
    question = F.when(F.size("offered") == NUM_OFFERED, F.format_string("Would you rather have %s?", names)).otherwise(
        F.lit("What would you like more of?")
    )
    asked = vague.join(offered, on=c.USER_ID, how="left")
    return asked.select(
        F.lit(run_id).alias(c.RUN_ID),
        c.USER_ID,
        c.FEEDBACK_ID,
        F.lit(reason).alias(c.REASON),
        F.coalesce(question, F.lit("What would you like more of?")).alias(c.QUESTION),
    ).select(CLARIFICATIONS.column_names)
