"""Raw frames in, clean frames and refused rows out: every raw row is in exactly one of the two.

Moments without a time zone are read in the session's, which the project sets to UTC.
"""

import datetime as dt

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as t

from cesrec_core import columns as c
from cesrec_core.config import IngestSection
from cesrec_core.frames.derived_attributes import derive_attributes
from cesrec_core.frames.raw import IS_MALFORMED, TIMESTAMP, unescaped
from cesrec_core.schemas import FEEDBACK, FEEDBACK_SOURCES, INTERACTIONS, ITEMS
from cesrec_core.web_text import lists_with_characters

MALFORMED_RECORD = "malformed_record"
MISSING_USER_ID = "missing_user_id"
MISSING_ITEM_ID = "missing_item_id"
MISSING_TIMESTAMP = "missing_timestamp"
UNREADABLE_TIMESTAMP = "unreadable_timestamp"
FUTURE_TIMESTAMP = "future_timestamp"
UNKNOWN_ITEM = "unknown_item"
DUPLICATE_INTERACTION = "duplicate_interaction"
MISSING_TITLE = "missing_title"
DUPLICATE_ITEM = "duplicate_item"
MISSING_FEEDBACK_ID = "missing_feedback_id"
UNKNOWN_USER = "unknown_user"
EMPTY_UTTERANCE = "empty_utterance"
UNKNOWN_SOURCE = "unknown_source"
DUPLICATE_FEEDBACK = "duplicate_feedback"

# Raised when the same sources come to other rows: every warehouse ingests once more then.
CLEANING_VERSION = 3
# Epoch numbers from here on are milliseconds: as seconds this is the year 5138, as milliseconds March 1973.
_FIRST_MILLISECONDS = 1e11
_END_OF_MILLISECONDS = 2.5e14
_CONTROL_CHARACTERS = r"\p{Cc}|\p{Cf}|\p{Co}|\p{Cs}"
# Of text: the two that join letters and pictures, or keep them apart, are part of what is written.
_WITHOUT_MEANING = r"[\p{Cc}\p{Cf}\p{Co}\p{Cs}&&[^\u200C\u200D]]"
# With (?U) of all scripts: the no-break space, the ideographic one, separators of lines and paragraphs.
_SPACE = r"(?U)\s+"
# Tags of prose on web pages, by name, and with attributes only where these have values: "a <b and c> d" is none. What ends a
# line or a cell stands between words, the others may stand within one.
_TAG = r"(?i)</?(?:%s)(?:\s(?=[^<>=]*+=)[^<>]*+|\s*+/?)>"
_BLOCK_TAG = _TAG % "br|p|div|li|[uod]l|d[td]|h[1-6]|hr|table|t(?:head|body|foot|[rdh])|blockquote|pre|center|img"
_INLINE_TAG = _TAG % "[abisu]|em|strong|span|font|big|small|su[bp]|tt|code|strike"
_VISIBLE = r"[\p{L}\p{N}\p{P}\p{S}]"
_NUMBER_OF_ITEM = "number_of_item"


def judge_interactions(raw: DataFrame, items: DataFrame, run_end: dt.datetime) -> DataFrame:
    """Every raw row: interactions in schema order, `review` (what was written of the item, cleaned), and `reason` and `record`
    of those that are refused.

    One frame of both, since they are many: it is written once, and then split.
    Of rows with the same user, item and moment the first in the source stays.

    Args:
        raw: raw frame of interactions.
        items: anything with item_id; an interaction with another item is refused.
        run_end: first moment after the run date, with a time zone. What happened then or later is refused.
    """
    known = items.select(F.col(c.ITEM_ID)).distinct().withColumn("is_known", F.lit(True))
    moment = _moment(raw, TIMESTAMP)
    prepared = raw.withColumns(
        {c.USER_ID: external_key(c.USER_ID), c.ITEM_ID: external_key(c.ITEM_ID), c.INTERACTED_AT: moment},
    ).join(known, on=c.ITEM_ID, how="left")
    reason = (
        F.when(F.col(IS_MALFORMED), MALFORMED_RECORD)
        .when(F.col(c.USER_ID).isNull(), MISSING_USER_ID)
        .when(F.col(c.ITEM_ID).isNull(), MISSING_ITEM_ID)
        .when(_is_blank(TIMESTAMP), MISSING_TIMESTAMP)
        .when(F.col(c.INTERACTED_AT).isNull(), UNREADABLE_TIMESTAMP)
        .when(F.col(c.INTERACTED_AT) >= F.lit(run_end), FUTURE_TIMESTAMP)
        .when(F.col("is_known").isNull(), UNKNOWN_ITEM)
    )
    judged = prepared.withColumn(c.REASON, reason).withColumn(c.REVIEW, _cleaned(F.col(c.REVIEW)))
    columns = (*INTERACTIONS.column_names, c.REVIEW, c.REASON, c.RECORD)
    repeated = F.when(F.col(_NUMBER_OF_ITEM) > 1, DUPLICATE_INTERACTION)
    numbered = _numbered(judged, list(INTERACTIONS.key)).withColumn(c.REASON, repeated)
    of_refused = F.when(F.col(c.REASON).isNotNull(), F.col(c.RECORD))
    accepted = numbered.withColumn(c.RECORD, of_refused).select(*columns)
    return accepted.unionByName(judged.where(F.col(c.REASON).isNotNull()).select(*columns))


def split_interactions(judged: DataFrame) -> tuple[DataFrame, DataFrame]:
    """The rows of `judge_interactions` that are kept, `review` last, and the refused ones (source, reason, record)."""
    kept = judged.where(F.col(c.REASON).isNull()).select(*INTERACTIONS.column_names, c.REVIEW)
    return kept, _refused(judged.where(F.col(c.REASON).isNotNull()), "interactions")


def clean_items(raw: DataFrame, section: IngestSection) -> tuple[DataFrame, DataFrame]:
    """Items in schema order, and the refused rows (source, reason, record).

    Of rows with the same item_id the first in the source stays. Where no item of the catalogue has an attribute, all get
    theirs from the titles.
    """
    # Apart from what follows, which looks into lists: Spark allows no Python there.
    written = raw.withColumns(
        {
            c.TITLE: unescaped(F.col(c.TITLE)),
            c.DESCRIPTION: unescaped(_without_tags(F.col(c.DESCRIPTION))),
            c.ATTRIBUTES: _list_unescaped(c.ATTRIBUTES),
        }
    )
    prepared = written.withColumns(
        {
            c.ITEM_ID: external_key(c.ITEM_ID),
            c.TITLE: _cleaned(F.col(c.TITLE)),
            c.DESCRIPTION: _cleaned(F.col(c.DESCRIPTION)),
            c.ATTRIBUTES: _cleaned_attributes(),
        }
    )
    reason = (
        F.when(F.col(IS_MALFORMED), MALFORMED_RECORD)
        .when(F.col(c.ITEM_ID).isNull(), MISSING_ITEM_ID)
        .when(F.col(c.TITLE).isNull(), MISSING_TITLE)
    )
    kept, refused = _first_of_each(prepared.withColumn(c.REASON, reason), list(ITEMS.key), DUPLICATE_ITEM)
    attributes = F.when(F.size(c.ATTRIBUTES) > 0, F.array_join(c.ATTRIBUTES, ", "))
    # Derived attributes stay out of the text: they only repeat the title, and a new threshold would embed everything again.
    fields = {"{title}": F.col(c.TITLE), "{attributes}": attributes, "{description}": F.col(c.DESCRIPTION)}
    text = F.concat_ws("; ", *(_filled_in(part, fields) for part in section.item_text))
    described = kept.withColumn(c.ITEM_TEXT, F.rtrim(F.substring(text, 1, section.max_text_characters)))
    derived = derive_attributes(described, section.min_items_per_derived_attribute)
    complete = derived.withColumn(c.TEXT_HASH, F.sha2(c.ITEM_TEXT, 256)).withColumn(c.IS_ACTIVE, F.lit(True))
    return complete.select(ITEMS.column_names), _refused(refused, "items")


def _filled_in(part: str, fields: dict[str, Column]) -> Column:
    """A part of the text around its one field; null where the item has no such field, so that its words fall away, too."""
    (name,) = (name for name in fields if name in part)
    before, after = part.split(name)
    return F.concat(F.lit(before), fields[name], F.lit(after))


def clean_feedback(raw: DataFrame, known_users: DataFrame, run_end: dt.datetime) -> tuple[DataFrame, DataFrame]:
    """Feedback in schema order, and the refused rows (source, reason, record).

    Of rows with the same feedback_id the first in the source stays. Without a source it is taken for a human's.

    Args:
        raw: raw frame of feedback.
        known_users: anything with user_id; feedback of others is refused.
        run_end: first moment after the run date, with a time zone. What was said then or later is refused.
    """
    known = known_users.select(F.col(c.USER_ID)).distinct().withColumn("is_known", F.lit(True))
    said_at = _moment(raw, c.CREATED_AT)
    prepared = raw.withColumns(
        {
            c.FEEDBACK_ID: external_key(c.FEEDBACK_ID),
            c.USER_ID: external_key(c.USER_ID),
            "is_blank_moment": _is_blank(c.CREATED_AT),
            c.CREATED_AT: said_at,
            c.SOURCE: F.coalesce(F.lower(external_key(c.SOURCE)), F.lit("human")),
            c.RECOMMENDED_ITEM_IDS: F.coalesce(_trimmed(c.RECOMMENDED_ITEM_IDS), F.array().cast("array<string>")),
        }
    ).join(known, on=c.USER_ID, how="left")
    reason = (
        F.when(F.col(IS_MALFORMED), MALFORMED_RECORD)
        .when(F.col(c.FEEDBACK_ID).isNull(), MISSING_FEEDBACK_ID)
        .when(F.col(c.USER_ID).isNull(), MISSING_USER_ID)
        .when(_cleaned(F.col(c.UTTERANCE)).isNull(), EMPTY_UTTERANCE)
        .when(F.col("is_blank_moment"), MISSING_TIMESTAMP)
        .when(F.col(c.CREATED_AT).isNull(), UNREADABLE_TIMESTAMP)
        .when(F.col(c.CREATED_AT) >= F.lit(run_end), FUTURE_TIMESTAMP)
        .when(F.col("is_known").isNull(), UNKNOWN_USER)
        .when(~F.col(c.SOURCE).isin(*FEEDBACK_SOURCES), UNKNOWN_SOURCE)
    )
    kept, refused = _first_of_each(prepared.withColumn(c.REASON, reason), list(FEEDBACK.key), DUPLICATE_FEEDBACK)
    return kept.select(FEEDBACK.column_names), _refused(refused, "feedback")


def _first_of_each(judged: DataFrame, key: list[str], reason: str) -> tuple[DataFrame, DataFrame]:
    """Split into rows to keep and rows to refuse; only rows without a reason so far compete for a key."""
    numbered = _numbered(judged, key)
    kept = numbered.where(F.col(_NUMBER_OF_ITEM) == 1)
    repeated = numbered.where(F.col(_NUMBER_OF_ITEM) > 1).withColumn(c.REASON, F.lit(reason))
    earlier = judged.where(F.col(c.REASON).isNotNull())
    return kept, earlier.select(c.REASON, c.RECORD).unionByName(repeated.select(c.REASON, c.RECORD))


def _numbered(judged: DataFrame, key: list[str]) -> DataFrame:
    """The rows without a reason, with their place among those of the same key.

    Without the others, since refused rows share NULL keys and would meet in one partition of the window.
    """
    in_source_order = Window.partitionBy(*key).orderBy(c.SOURCE_POSITION, c.RECORD)
    return judged.where(F.col(c.REASON).isNull()).withColumn(_NUMBER_OF_ITEM, F.row_number().over(in_source_order))


def _refused(rows: DataFrame, source: str) -> DataFrame:
    return rows.select(F.lit(source).alias(c.SOURCE), c.REASON, c.RECORD)


def external_key(name: str) -> Column:
    """An external key without surrounding space; NULL where nothing is left."""
    return F.nullif(F.trim(F.regexp_replace(F.col(name), _CONTROL_CHARACTERS, "")), F.lit(""))


def _trimmed(name: str) -> Column:
    return F.filter(F.transform(name, lambda value: F.trim(value)), lambda value: value != "")


def _cleaned(text: Column) -> Column:
    """One line without control characters; NULL where nothing is left that can be seen."""
    # Line breaks are control characters, and what is without meaning may stand between two spaces.
    without = F.regexp_replace(F.regexp_replace(text, _SPACE, " "), _WITHOUT_MEANING, "")
    spaced = F.trim(F.regexp_replace(without, " +", " "))
    return F.when(F.regexp_like(spaced, F.lit(_VISIBLE)), spaced)


def _without_tags(text: Column) -> Column:
    return F.regexp_replace(F.regexp_replace(text, _BLOCK_TAG, " "), _INLINE_TAG, "")


_list_unescaped = F.udf(lists_with_characters, t.ArrayType(t.StringType()), useArrow=False)


def _cleaned_attributes() -> Column:
    """Sorted, so that the text and its hash do not change with the order in the source; of spellings the first in order."""
    cleaned = F.array_sort(F.filter(F.transform(c.ATTRIBUTES, _cleaned), lambda value: value.isNotNull()))
    lowered = F.transform(cleaned, F.lower)
    first_spellings = F.filter(cleaned, lambda value, place: F.array_position(lowered, F.lower(value)) == place + 1)
    return F.coalesce(first_spellings, F.array().cast("array<string>"))


def _is_blank(name: str) -> Column:
    value = F.col(name)
    return value.isNull() | (F.trim(value.cast("string")) == "")


def _moment(frame: DataFrame, name: str) -> Column:
    """A UTC timestamp from a timestamp, a date, epoch seconds or milliseconds, or ISO text; NULL where it is none of these."""
    kind = frame.schema[name].dataType
    value = F.col(name)
    if isinstance(kind, t.StringType):
        text = F.trim(value)
        return F.coalesce(_from_epoch(text.try_cast("double")), text.try_cast("timestamp"))
    if isinstance(kind, t.NumericType):
        return _from_epoch(value.cast("double"))
    return value.cast("timestamp")


def _from_epoch(number: Column) -> Column:
    is_seconds = (number >= 0) & (number < _FIRST_MILLISECONDS)
    is_milliseconds = (number >= _FIRST_MILLISECONDS) & (number < _END_OF_MILLISECONDS)
    return F.when(is_seconds, F.timestamp_micros((number * 1_000_000).try_cast("bigint"))).when(
        is_milliseconds, F.timestamp_micros((number * 1_000).try_cast("bigint"))
    )
