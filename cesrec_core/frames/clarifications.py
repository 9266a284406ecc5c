"""Questions that users were asked, and which feedback answers them."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from cesrec_core import columns as c
from cesrec_core.schemas import RATING_SOURCE, REVIEW_SOURCE


def with_questions(feedback: DataFrame, clarifications: DataFrame, runs: DataFrame) -> DataFrame:
    """Feedback with `question_attributes`: what the question that it answers had offered; null where it answers none.

    The user's next words after a run with a question for them was published are the answer to that question, and nothing
    else is. Of several questions in between the newest counts, and of one moment the run that sorts last.
    """
    offered = clarifications.where(F.size(c.QUESTION_ATTRIBUTES) > 0).join(
        runs.where(F.col(c.PUBLISHED_AT).isNotNull()).select(c.RUN_ID, c.PUBLISHED_AT), on=c.RUN_ID, how="inner"
    )
    asked = offered.select(c.USER_ID, c.RUN_ID, c.PUBLISHED_AT, c.QUESTION_ATTRIBUTES)
    in_time = Window.partitionBy(c.USER_ID).orderBy(c.CREATED_AT, c.FEEDBACK_ID)
    turns = feedback.where(~F.col(c.SOURCE).isin(RATING_SOURCE, REVIEW_SOURCE)).select(
        c.USER_ID, c.FEEDBACK_ID, c.CREATED_AT, F.lag(c.CREATED_AT).over(in_time).alias("said_before")
    )
    is_next = (F.col(c.PUBLISHED_AT) <= F.col(c.CREATED_AT)) & (
        F.col("said_before").isNull() | (F.col("said_before") < F.col(c.PUBLISHED_AT))
    )
    newest = F.struct(c.PUBLISHED_AT, c.RUN_ID)
    answered = (
        turns.join(asked, on=c.USER_ID, how="inner")
        .where(is_next)
        .groupBy(c.FEEDBACK_ID)
        .agg(F.max_by(c.QUESTION_ATTRIBUTES, newest).alias(c.QUESTION_ATTRIBUTES))
    )
    return feedback.join(answered, on=c.FEEDBACK_ID, how="left").select(*feedback.columns, c.QUESTION_ATTRIBUTES)
