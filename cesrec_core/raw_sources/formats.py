"""Recognise the format of a raw source and read it lazily, as a raw frame (see cesrec_core.frames.raw).

Text formats are read as strings throughout: nothing is guessed from values, and a line that does not parse arrives marked as
malformed instead of stopping the read. The only thing looked at early is the header, or the first lines of JSON.
"""

import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pyarrow as pa
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as t

from cesrec_core import columns as c
from cesrec_core.errors import ConfigError, InputDataError
from cesrec_core.frames.empty import empty_frame
from cesrec_core.frames.raw import IS_MALFORMED, RAW_COLUMNS, conform
from cesrec_core.table_names import is_of_another, is_table_name, quoted

Format = Literal["parquet", "csv", "json", "recbole", "movielens", "delta", "table"]

SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".jsonl": "json",
    ".jsonl.gz": "json",
    ".json": "json",
    ".json.gz": "json",
    ".inter": "recbole",
    ".item": "recbole",
    ".dat": "movielens",
}

_URI = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_MOVIELENS_COLUMNS = {
    "interactions": (c.USER_ID, c.ITEM_ID, c.RATING, "timestamp"),
    "items": (c.ITEM_ID, c.TITLE, c.ATTRIBUTES),
}
_CORRUPT = "_corrupt_record"
_LINES_LOOKED_AT = 200
# A larger file is not read to see whether there is anything in it.
_BYTES_OF_BLANK_FILE = 4096
# The kinds of sources that cannot be empty.
ALWAYS_THERE = ("interactions", "items")
# What Spark's and Java's errors hold where a file is not what its name says, or was cut off.
_SIGNS_OF_DAMAGE = ("FAILED_READ_FILE", "java.io.EOFException", "java.util.zip.ZipException")


def is_uri(location: str) -> bool:
    """Whether the location is on storage that Spark alone knows how to reach."""
    return _URI.match(location) is not None


def recognise(location: str) -> Format:
    """The format of a file, folder or table, from its name and, for a local folder, from what lies in it.

    A folder at a URI whose name has no known suffix is taken for a Delta table.

    Raises:
        ConfigError: the location is neither a path with a known form nor a plain table name.
        InputDataError: there is nothing at a local path.
    """
    by_suffix = next((found for suffix, found in SUFFIXES.items() if location.endswith(suffix)), None)
    if is_uri(location):
        return by_suffix or "delta"
    path = Path(location)
    if location and path.is_dir():
        return _format_of_folder(path)
    if by_suffix is not None:
        if not path.is_file():
            raise InputDataError(f"There is no file {location}. Correct the path in the dataset section.")
        return by_suffix
    if is_table_name(location):
        return "table"
    if "`" not in location and "/" in location:
        if path.exists():
            raise ConfigError(f"{location} is of no known format. Known endings are: {', '.join(SUFFIXES)}.")
        raise InputDataError(f"There is nothing at {location}. Correct the path in the dataset section.")
    raise ConfigError(
        f"{location!r} is not a usable source: give a path ending in one of {', '.join(SUFFIXES)}, a folder of Parquet files "
        "or a Delta table, or a table name of up to three words joined by dots, such as catalog.schema.interactions."
    )


def _format_of_folder(path: Path) -> Format:
    if (path / "_delta_log").is_dir():
        return "delta"
    if any(path.glob("*.parquet")) or any(path.glob("*=*/**/*.parquet")):
        return "parquet"
    raise InputDataError(f"The folder {path} holds neither a Delta table nor Parquet files. Name the file to read.")


@contextmanager
def readable(location: str) -> Iterator[None]:
    """Say of a file that Spark cannot read which one it is; Spark itself says so with a Java stack trace.

    Raises:
        InputDataError: something in the block failed on a damaged file, or on one of another format than its name says.
    """
    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        if not any(sign in str(error) for sign in _SIGNS_OF_DAMAGE):
            raise
        raise InputDataError(
            f"{location} cannot be read: a file there is damaged, or not of the format that its name says. Write it again. "
            "No table was changed."
        ) from None


def read_source(spark: SparkSession, kind: str, location: str, version: int | None = None) -> DataFrame:
    """A raw frame of `kind`: interactions, items or feedback. `version` pins a Delta table or a named table.

    Raises:
        ConfigError: the location cannot be used.
        InputDataError: there is nothing there, not that version of it, text without any record, or a damaged file.
        SchemaError: a required column is missing or has a type that cannot be used.
    """
    with readable(location):
        return _read_source(spark, kind, location, version)


def _read_source(spark: SparkSession, kind: str, location: str, version: int | None) -> DataFrame:
    found = recognise(location)
    if found in ("delta", "table"):
        frame = _read_table(spark, location, version, is_named=found == "table")
        return conform(frame, kind, location, is_ordered=False)
    if found == "parquet":
        return conform(spark.read.parquet(_literally(location)), kind, location)
    if found in ("csv", "json") and kind not in ALWAYS_THERE and _is_blank(Path(location)):
        return conform(_nothing(spark, kind), kind, location)
    if found == "csv":
        return conform(_read_csv(spark, kind, location), kind, location)
    if found == "json":
        return conform(_read_json_lines(spark, kind, location), kind, location)
    if found == "recbole":
        return conform(_read_recbole(spark, location), kind, location)
    return conform(_read_movielens(spark, kind, location), kind, location)


def _literally(location: str) -> str:
    """The path with what Spark would take for a pattern escaped; at a URI patterns are left to those who write them."""
    return location if _URI.match(location) else re.sub(r"([\\\[\]{}*?])", r"\\\1", location)


def _is_blank(path: Path) -> bool:
    """Whether a local file holds nothing but white space, as the words of a day on which nobody spoke."""
    if not path.is_file() or path.stat().st_size > _BYTES_OF_BLANK_FILE:
        return False
    content = path.read_bytes()
    try:
        return not (gzip.decompress(content) if path.suffix == ".gz" else content).strip()
    except (OSError, EOFError, zlib.error):
        return False


def _nothing(spark: SparkSession, kind: str) -> DataFrame:
    return empty_frame(spark, {column.name: pa.string() for column in RAW_COLUMNS[kind]})


def _read_table(spark: SparkSession, location: str, version: int | None, is_named: bool) -> DataFrame:
    # Asked for a version of nothing, Delta fails with a Java stack trace of its own: hence the look beforehand.
    if not is_named and not DeltaTable.isDeltaTable(spark, location):
        raise InputDataError(f"There is no Delta table {location}. Correct it in the dataset section.")
    reader = spark.read if is_named and version is None else spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    try:
        return reader.table(quoted(location)) if is_named else reader.load(location)
    except (PySparkException, Py4JJavaError) as error:
        if not (isinstance(error, AnalysisException) or is_of_another(str(error))):
            raise
        if version is None:
            raise InputDataError(
                f"There is no table {location}, nor a file or folder of that name. Correct it in the dataset section."
            ) from None
        raise InputDataError(
            f"There is no Delta table {location} at version {version}. Correct it in the dataset section, or run again to pin "
            "its newest version."
        ) from None


def _read_csv(spark: SparkSession, kind: str, location: str) -> DataFrame:
    # Quoted line breaks occur in titles and utterances; honouring them makes a file unsplittable, so interactions do without.
    options = {"header": "true", "quote": '"', "escape": '"', "multiLine": str(kind != "interactions").lower()}
    return _read_separated(spark, location, options)


def _read_recbole(spark: SparkSession, location: str) -> DataFrame:
    """Atomic files: tab-separated, no quoting, header `name:type`; a `token_seq` is separated by spaces."""
    frame = _read_separated(spark, location, {"header": "true", "sep": "\t", "quote": ""})
    list_aliases = {alias for column in RAW_COLUMNS["items"] if column.name == c.ATTRIBUTES for alias in column.aliases}
    selected: list[Column] = []
    for field in frame.columns:
        name, _, kind = field.partition(":")
        value = F.col(f"`{field}`")
        is_list = kind == "token_seq" and name in {c.ATTRIBUTES, *list_aliases}
        selected.append((F.split(F.trim(value), r"\s+") if is_list else value).alias(name))
    return frame.select(*selected)


def _read_movielens(spark: SparkSession, kind: str, location: str) -> DataFrame:
    if kind not in _MOVIELENS_COLUMNS:
        raise ConfigError(f"{location}: .dat files hold interactions or items, not {kind}. Give JSON lines or Parquet.")
    options = {"header": "false", "sep": "::", "quote": "", "encoding": "ISO-8859-1"}
    return _read_separated(spark, location, options, list(_MOVIELENS_COLUMNS[kind]))


def _read_separated(spark: SparkSession, location: str, options: dict[str, str], names: list[str] | None = None) -> DataFrame:
    """All columns as strings, plus is_malformed and record: for a malformed line the line itself, as JSON."""
    # Of a file with line breaks inside quotes Spark would look for the name as a pattern once more, unescaped.
    header_options = {**options, "multiLine": "false"}
    names = names or spark.read.options(**header_options).csv(_literally(location)).columns
    if not names:
        raise InputDataError(f"{location} is empty: it has no header line. Put the column names in its first line.")
    schema = t.StructType([t.StructField(name, t.StringType()) for name in (*names, _CORRUPT)])
    # Without all columns the parser does not see that a line has too few or too many.
    reader = spark.read.options(**options).option("columnPruning", "false").option("columnNameOfCorruptRecord", _CORRUPT)
    return _marked(reader.schema(schema).csv(_literally(location)), names)


def _read_json_lines(spark: SparkSession, kind: str, location: str) -> DataFrame:
    lines = spark.read.text(_literally(location)).where(F.trim("value") != "")
    names = _json_names(kind, location, lines)
    schema = t.StructType([t.StructField(name, t.StringType()) for name in (*names, _CORRUPT)])
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT}
    parsed = lines.select("value", F.from_json("value", schema, options).alias("parsed"))
    is_malformed = F.col("parsed").isNull() | F.col(f"parsed.{_CORRUPT}").isNotNull()
    return parsed.select(
        *(F.col(f"parsed.`{name}`").alias(name) for name in names),
        is_malformed.alias(IS_MALFORMED),
        F.when(is_malformed, _as_json_line(F.col("value"))).otherwise(F.col("value")).alias(c.RECORD),
    )


def _json_names(kind: str, location: str, lines: DataFrame) -> list[str]:
    """All names this kind can use, since a column may first appear far down; spelled as in the first lines where it is there.

    Where a required column is in none of the first lines, what they do have: the caller then says what is missing.
    """
    seen: set[str] = set()
    for line in _first_lines(location, lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        seen.update(record if isinstance(record, dict) else ())
    if not seen:
        raise InputDataError(f"{location} does not begin with any JSON object. It has to hold one object per line.")
    seen_lowered = {name.lower() for name in seen}
    for column in RAW_COLUMNS[kind]:
        if column.is_required and not any(name.lower() in seen_lowered for name in (column.name, *column.aliases)):
            return sorted(seen)
    usable = {name.lower(): name for column in RAW_COLUMNS[kind] for name in (column.name, *column.aliases)}
    other_spellings = {name.lower(): name for name in sorted(seen - set(usable.values())) if name.lower() in usable}
    as_expected = {name.lower(): name for name in seen & set(usable.values())}
    return sorted((usable | other_spellings | as_expected).values())


def _first_lines(location: str, lines: DataFrame) -> Iterator[str]:
    path = Path(location)
    if not path.is_file():
        yield from (row["value"] for row in lines.limit(_LINES_LOOKED_AT).collect())
        return
    with path.open("rb") as raw:
        stream = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
        for line in itertools.islice(stream, _LINES_LOOKED_AT):
            yield line.decode("utf-8", errors="replace")


def _marked(frame: DataFrame, names: list[str]) -> DataFrame:
    fields = [F.col(f"`{name}`") for name in names]
    record = F.when(F.col(_CORRUPT).isNotNull(), _as_json_line(F.col(_CORRUPT))).otherwise(F.to_json(F.struct(*fields)))
    return frame.select(*fields, F.col(_CORRUPT).isNotNull().alias(IS_MALFORMED), record.alias(c.RECORD))


def _as_json_line(text: Column) -> Column:
    return F.to_json(F.struct(text.alias("line")))
