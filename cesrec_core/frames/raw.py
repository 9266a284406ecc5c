"""What every raw source is turned into before it is cleaned: known column names, known types, nothing lost.

A raw frame carries, beside the columns of its kind, `source_position` (order in the source), `is_malformed` (the line
could not be parsed) and `record` (the raw record as JSON, for quarantine).
"""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as t

from cesrec_core import columns as c
from cesrec_core.errors import SchemaError
from cesrec_core.web_text import with_characters

TIMESTAMP = "timestamp"
POSITION = "position"
RELEASE_YEAR = "release_year"
BRAND = "brand"
IS_MALFORMED = "is_malformed"

_IDS = "a string or a whole number"
_TEXT = "a string"
_LIST = "a string or an array of strings"
_LIST_OF_IDS = "a string of ids or an array of strings"
_PROSE = "text or an array of strings"
_NUMBER = "a number"
_WHOLE = "a whole number"
_MOMENT = "a timestamp, a date, a number (epoch seconds or milliseconds) or an ISO 8601 string"


@dataclass(frozen=True)
class RawColumn:
    """A column of a raw source: its name here, the names it has elsewhere in order of preference, and what it may hold."""

    name: str
    wanted: str
    aliases: tuple[str, ...] = ()
    is_required: bool = False


RAW_COLUMNS: dict[str, tuple[RawColumn, ...]] = {
    "interactions": (
        RawColumn(c.USER_ID, _IDS, ("reviewerID", "userId"), is_required=True),
        RawColumn(c.ITEM_ID, _IDS, ("parent_asin", "asin", "movieId"), is_required=True),
        RawColumn(TIMESTAMP, _MOMENT, ("unixReviewTime",), is_required=True),
        RawColumn(c.RATING, _NUMBER, ("overall",)),
        RawColumn(c.REVIEW, _PROSE, ("reviewText", "review_text", "text")),
        RawColumn(POSITION, _WHOLE),
    ),
    "items": (
        RawColumn(c.ITEM_ID, _IDS, ("parent_asin", "asin", "movieId"), is_required=True),
        RawColumn(c.TITLE, _TEXT, ("movie_title",), is_required=True),
        RawColumn(c.ATTRIBUTES, _LIST, ("genres", "class", "category", "categories")),
        RawColumn(c.DESCRIPTION, _PROSE),
        RawColumn(RELEASE_YEAR, _IDS),
        RawColumn(BRAND, _TEXT),
        RawColumn(POSITION, _WHOLE),
    ),
    "feedback": (
        RawColumn(c.FEEDBACK_ID, _IDS, is_required=True),
        RawColumn(c.USER_ID, _IDS, is_required=True),
        RawColumn(c.CREATED_AT, _MOMENT, is_required=True),
        RawColumn(c.UTTERANCE, _TEXT, is_required=True),
        RawColumn(c.RECOMMENDED_ITEM_IDS, _LIST_OF_IDS),
        RawColumn(c.SOURCE, _TEXT),
        RawColumn(POSITION, _WHOLE),
    ),
    "item_rules": (
        RawColumn(c.RULE, _TEXT, is_required=True),
        RawColumn(c.ITEM_ID, _IDS, is_required=True),
        RawColumn(c.SEGMENT, _IDS),
    ),
    "user_segments": (
        RawColumn(c.USER_ID, _IDS, is_required=True),
        RawColumn(c.SEGMENT, _IDS, is_required=True),
    ),
}


def conform(frame: DataFrame, kind: str, where: str, is_ordered: bool = True) -> DataFrame:
    """Name and type the columns of a source of `kind` (a key of RAW_COLUMNS); `where` names the source in errors.

    `source_position` is the `position` column where that has a value. Otherwise it is the order in which Spark reads the rows,
    which for one file is the order of its lines whatever the parallelism, and for a folder stays the same as long as its files
    do. A table has no order of its own (`is_ordered` False): all rows get 0, and ties in time fall to item_id.

    Columns named `is_malformed` or `record` are taken as the reader left them.

    Raises:
        SchemaError: a required column is missing, or a column's type cannot hold what it is for.
    """
    present = {name.lower(): name for name in frame.columns}
    selected: list[Column] = []
    for column in RAW_COLUMNS[kind]:
        sources = [present[name.lower()] for name in (column.name, *column.aliases) if name.lower() in present]
        if not sources and column.is_required:
            own = ", ".join(name for name in frame.columns if name not in (IS_MALFORMED, c.RECORD))
            raise SchemaError(
                f"{where} lacks the column {column.name!r} ({column.wanted}); it has {own}. "
                f"Add it, or rename the column that holds it."
            )
        value = _typed(frame, sources, column, where)
        if column.name == POSITION:
            read_order = F.monotonically_increasing_id() if is_ordered else F.lit(0)
            value = F.coalesce(value.try_cast("bigint"), read_order).cast("bigint")
        selected.append(value.alias(c.SOURCE_POSITION if column.name == POSITION else column.name))
    malformed = F.col(IS_MALFORMED) if IS_MALFORMED in frame.columns else F.lit(False)
    record = F.col(c.RECORD) if c.RECORD in frame.columns else _record(frame)
    conformed = frame.select(
        *selected,
        F.coalesce(malformed, F.lit(False)).alias(IS_MALFORMED),
        record.alias(c.RECORD),
    )
    return _complete_items(conformed) if kind == "items" else conformed


# Spark has no function of its own for this.
unescaped = F.udf(with_characters, t.StringType(), useArrow=False)


def _record(frame: DataFrame) -> Column:
    return F.to_json(F.struct(*(F.col(_quoted(name)) for name in frame.columns if name != IS_MALFORMED)))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _typed(frame: DataFrame, sources: list[str], column: RawColumn, where: str) -> Column:
    """The column as this project types it: of its names in the source, per row the first that has a value.

    Moments keep the type of the source, since only cleaning can say that one cannot be read; names of another type than the
    first are left aside.
    """
    if not sources:
        return F.lit(None).cast(
            {_LIST: "array<string>", _LIST_OF_IDS: "array<string>", _NUMBER: "double"}.get(column.wanted, "string")
        )
    kinds = {source: frame.schema[source].dataType for source in sources}
    for source, found in kinds.items():
        if not isinstance(found, t.NullType) and not _fits(found, column.wanted):
            raise SchemaError(
                f"{where}: column {source!r} is {found.simpleString()}, but {column.name} has to be {column.wanted}. "
                "Convert it at the source."
            )
    if column.wanted == _MOMENT:
        first_type = kinds[sources[0]]
        first = F.coalesce(*(F.col(_quoted(source)) for source, found in kinds.items() if found == first_type))
        return first.cast("string") if isinstance(first_type, t.NullType) else first
    return F.coalesce(*(_converted(F.col(_quoted(source)), found, column.wanted) for source, found in kinds.items()))


def _converted(value: Column, found: t.DataType, wanted: str) -> Column:
    if wanted == _NUMBER:
        number = value.try_cast("double")
        return F.when(~F.isnan(number), number)
    if wanted in (_LIST, _LIST_OF_IDS):
        return _as_list(value, found, is_text=wanted == _LIST)
    return _as_prose(value, found) if wanted == _PROSE else value.cast("string")


def _fits(found: t.DataType, wanted: str) -> bool:
    is_text = isinstance(found, t.StringType)
    if wanted == _TEXT:
        return is_text
    if wanted in (_IDS, _WHOLE):
        return is_text or isinstance(found, t.IntegralType)
    if wanted == _NUMBER:
        return is_text or isinstance(found, t.NumericType)
    if wanted in (_LIST, _LIST_OF_IDS, _PROSE):
        element: t.DataType = found
        while isinstance(element, t.ArrayType):
            element = element.elementType
        return isinstance(element, t.StringType | t.NullType) or (element is not found and isinstance(element, t.IntegralType))
    return is_text or isinstance(found, t.NumericType | t.TimestampType | t.TimestampNTZType | t.DateType)


def _as_list(value: Column, found: t.DataType, is_text: bool = True) -> Column:
    """An array of strings from an array, an array of arrays, JSON text of either, or text with separators.

    Args:
        is_text: whether "&amp;" is a character, whose end is no separator; of ids it would be a part.
    """
    if isinstance(found, t.ArrayType):
        if isinstance(found.elementType, t.ArrayType):
            value = F.flatten(F.filter(value, lambda inner: inner.isNotNull()))
        return value.cast("array<string>")
    text = F.trim(value.cast("string"))
    nested = F.flatten(F.from_json(text, "array<array<string>>"))
    return (
        F.when(text.rlike(r"^\[\s*\["), nested)
        .when(text.startswith("["), F.from_json(text, "array<string>"))
        # Not before JSON is read: what "&quot;" stands for would end the text that it is in.
        .when(text != "", F.split(unescaped(text) if is_text else text, r"\s*[|;,]\s*"))
    )


def _as_prose(value: Column, found: t.DataType) -> Column:
    if isinstance(found, t.ArrayType):
        return F.array_join(_as_list(value, found), " ")
    paragraphs = F.from_json(value, "array<string>")
    return F.when(F.ltrim(value).startswith("["), F.coalesce(F.array_join(paragraphs, " "), value)).otherwise(value)


def _complete_items(items: DataFrame) -> DataFrame:
    """Fold year and brand into title and attributes: later steps know items by title, attributes and description alone."""
    year = F.regexp_extract(F.col(RELEASE_YEAR), r"^\s*(\d{4})(\.0)?\s*$", 1)
    lacks_year = (year != "") & ~F.col(c.TITLE).rlike(r"\(\d{4}\)\s*$")
    title = F.when(lacks_year, F.concat(F.rtrim(c.TITLE), F.lit(" ("), year, F.lit(")"))).otherwise(F.col(c.TITLE))
    brand = F.when(F.trim(BRAND) != "", F.array(F.trim(BRAND)))
    empty = F.array().cast("array<string>")
    attributes = F.concat(F.coalesce(c.ATTRIBUTES, empty), F.coalesce(brand, empty))
    return items.select(
        c.ITEM_ID,
        title.alias(c.TITLE),
        attributes.alias(c.ATTRIBUTES),
        c.DESCRIPTION,
        c.SOURCE_POSITION,
        IS_MALFORMED,
        c.RECORD,
    )
