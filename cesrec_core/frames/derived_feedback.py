"""Feedback that is there already: ratings and reviews of what people had, as rows of `feedback`."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.config import IngestSection
from cesrec_core.schemas import FEEDBACK, RATING_SOURCE, REVIEW_SOURCE

# Half of a SHA-256's digits name a row of its user, item and moment.
_DIGITS = 32
_ID = rf"^({RATING_SOURCE}|{REVIEW_SOURCE})-[0-9a-f]{{{_DIGITS}}}$"


def feedback_of_interactions(interactions: DataFrame, items: DataFrame, section: IngestSection) -> DataFrame:
    """Feedback in schema order; each row was said when its item was had, and of nothing else.

    A rating speaks of the title alone: it does not say what about the item was liked.

    Args:
        interactions: cleaned ones, with `review`.
        items: item_id, title.
    """
    liked, disliked = F.col(c.RATING) >= section.liked_rating, F.col(c.RATING) <= section.disliked_rating
    titled = interactions.join(items.select(c.ITEM_ID, c.TITLE), on=c.ITEM_ID, how="inner")
    opinion = F.when(liked, F.format_string("I liked %s", F.col(c.TITLE))).when(
        disliked, F.format_string("I did not like %s", F.col(c.TITLE))
    )
    of_kind = {
        RATING_SOURCE: titled.withColumn(c.UTTERANCE, opinion),
        REVIEW_SOURCE: titled.withColumn(c.UTTERANCE, F.col(c.REVIEW)),
    }
    rows = [
        said.where(F.col(c.UTTERANCE).isNotNull() & F.lit(kind in section.feedback_from)).select(
            _id(kind).alias(c.FEEDBACK_ID),
            c.USER_ID,
            F.col(c.INTERACTED_AT).alias(c.CREATED_AT),
            F.array(c.ITEM_ID).alias(c.RECOMMENDED_ITEM_IDS),
            c.UTTERANCE,
            F.lit(kind).alias(c.SOURCE),
        )
        for kind, said in of_kind.items()
    ]
    return rows[0].unionByName(rows[1]).select(FEEDBACK.column_names)


def derived_rows(feedback: DataFrame) -> DataFrame:
    """The rows of `feedback` that were made here; ratings and reviews that a source brings have other ids."""
    return feedback.where(F.col(c.FEEDBACK_ID).rlike(_ID))


def _id(kind: str) -> Column:
    moment = F.unix_micros(c.INTERACTED_AT).cast("string")
    digest = F.sha2(F.to_json(F.array(c.USER_ID, c.ITEM_ID, moment)), 256)
    return F.concat(F.lit(f"{kind}-"), F.substring(digest, 1, _DIGITS))
