"""A dataset folder in memory: `interactions.parquet` and `items.parquet`, each a file or a folder of part files.

This is the form that training commands and benchmarks read, and that the nightly job exports for training.
"""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cesrec_core import columns as c
from cesrec_core.errors import InputDataError, SchemaError
from cesrec_core.web_text import lists_with_characters, with_characters

log = logging.getLogger(__name__)

POSITION = "position"
_PLACE = "place in the table"
# What numbers of at least this size count since 1970, by how many make a second: microseconds, milliseconds. Smaller: seconds.
UNITS_PER_SECOND = ((1e14, 1_000_000), (1e11, 1_000))


@dataclass(frozen=True)
class Catalogue:
    """Items sorted by item_id. `code` of an item = its place here, from 0."""

    item_ids: list[str]
    titles: list[str]
    attributes: list[tuple[str, ...]]

    @cached_property
    def code_of(self) -> dict[str, int]:
        return {item_id: code for code, item_id in enumerate(self.item_ids)}

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True)
class Histories:
    """All users' histories, oldest first, in one flat array.

    Attributes:
        user_ids: U keys, sorted.
        item_codes: int32, codes of the Catalogue, all histories one after the other.
        offsets: int64, U + 1; history of user u is item_codes[offsets[u]:offsets[u + 1]].
        timestamps: int64, parallel to item_codes, in the unit of the file (microseconds where it holds timestamps, or
            numbers with fractions); None where it has none.
    """

    user_ids: list[str]
    item_codes: np.ndarray
    offsets: np.ndarray
    timestamps: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user_ids)

    def __getitem__(self, user: int) -> np.ndarray:
        return self.item_codes[self.offsets[user] : self.offsets[user + 1]]


@dataclass(frozen=True)
class Dataset:
    catalogue: Catalogue
    histories: Histories


def read_catalogue(folder: Path) -> Catalogue:
    """Read the `items.parquet` of a folder; see `read_catalogue_file`."""
    return read_catalogue_file(folder / "items.parquet")


def read_catalogue_file(path: Path) -> Catalogue:
    """Read item_id, title, optional attributes.

    Raises:
        InputDataError: the file is missing, empty, or holds an item twice.
        SchemaError: a column is missing.
    """
    table = _read(path, required=(c.ITEM_ID, c.TITLE), optional=(c.ATTRIBUTES,))
    table = table.sort_by(c.ITEM_ID)
    item_ids = table[c.ITEM_ID].cast(pa.string()).to_pylist()
    if len(set(item_ids)) < len(item_ids):
        raise InputDataError(f"{path} holds an item_id twice. Keep one row per item.")
    titles = [with_characters(title or "") for title in table[c.TITLE].cast(pa.string()).to_pylist()]
    if c.ATTRIBUTES in table.column_names:
        if not (pa.types.is_null(kind := table.schema.field(c.ATTRIBUTES).type) or _is_list_of_text(kind)):
            raise SchemaError(f"{path}: `{c.ATTRIBUTES}` is {kind}; give a list of strings for each item.")
        lists = (lists_with_characters(values) for values in table[c.ATTRIBUTES].to_pylist())
        attributes = [tuple(value for value in values or () if value) for values in lists]
    else:
        attributes = [()] * len(item_ids)
    return Catalogue(item_ids, titles, attributes)


def _is_list_of_text(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and (pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)))


def read_dataset(folder: Path) -> Dataset:
    """Read a dataset folder. Order within a user: (timestamp, position, item_id), over the columns that are there.

    Rows of one user, item and moment count once: the item that is held back would else have been seen.

    Raises:
        InputDataError: a file is missing, empty or damaged, an id is null, a timestamp is no moment, a position no number, or
            an interaction names an item that items.parquet lacks.
        SchemaError: a column is missing, or both of `timestamp` and `position`.
    """
    catalogue = read_catalogue(folder)
    path = folder / "interactions.parquet"
    table = _read(path, required=(c.USER_ID, c.ITEM_ID), optional=("timestamp", POSITION))
    if not {"timestamp", POSITION}.intersection(table.column_names):
        raise SchemaError(
            f"{path} has neither `timestamp` nor `{POSITION}`, so nobody knows what came first. Add one of them: the "
            "number of the row, if rows are in order."
        )
    if "timestamp" in table.column_names:
        table = table.set_column(table.column_names.index("timestamp"), "timestamp", _moments(table["timestamp"], path))
    if POSITION in table.column_names:
        table = table.set_column(table.column_names.index(POSITION), POSITION, _positions(table[POSITION], path))
    order = [name for name in (c.USER_ID, "timestamp", POSITION, c.ITEM_ID) if name in table.column_names]
    table = table.sort_by([(name, "ascending") for name in order])
    table = _without_repeats(table, order, path)
    codes = pc.index_in(table[c.ITEM_ID].cast(pa.string()), value_set=pa.array(catalogue.item_ids, pa.string()))
    if codes.null_count:
        raise InputDataError(
            f"{path}: {codes.null_count} interactions name items that items.parquet lacks. Add the items, or run the nightly "
            "job's ingest, which puts such rows into quarantine."
        )
    users = table[c.USER_ID].cast(pa.string()).combine_chunks().dictionary_encode()
    user_codes = users.indices.to_numpy(zero_copy_only=False)
    counts = np.bincount(user_codes, minlength=len(users.dictionary))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    item_codes = codes.combine_chunks().to_numpy(zero_copy_only=False).astype(np.int32)
    timestamps = None
    if "timestamp" in table.column_names:
        timestamps = table["timestamp"].combine_chunks().to_numpy(zero_copy_only=False).astype(np.int64)
    return Dataset(catalogue, Histories(users.dictionary.to_pylist(), item_codes, offsets, timestamps))


def _without_repeats(table: pa.Table, order: list[str], path: Path) -> pa.Table:
    """The rows of a sorted table, the first of each user, item and moment; as where ingest reads them.

    Without moments a place tells them apart. Beside a moment it does not: the number of a row is another in every repeat.
    """
    key = [name for name in order if name != POSITION or "timestamp" not in order]
    places = pa.array(np.arange(len(table)))
    sorted_by_key = table.select(key).append_column(_PLACE, places)
    if key != order:
        sorted_by_key = sorted_by_key.sort_by([(name, "ascending") for name in (*key, _PLACE)])
    is_new = np.zeros(len(table), bool)
    is_new[:1] = True
    for name in key:
        column = sorted_by_key[name].combine_chunks()
        is_new[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False).astype(bool)
    is_kept = np.zeros(len(table), bool)
    is_kept[sorted_by_key[_PLACE].to_numpy()[is_new]] = True
    if num_repeats := int(len(table) - is_kept.sum()):
        log.warning("%s: %d rows are there more than once, and count once", path, num_repeats)
        table = table.filter(pa.array(is_kept))
    return table


def _moments(column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    """Whole numbers as they are; numbers with fractions, moments and ISO 8601 text as microseconds since 1970."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _parsed(column, path)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64())
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not is_number:
        raise InputDataError(f"{path}: `timestamp` is {column.type}; give a timestamp, a date, a number, or ISO 8601 text.")
    if num_unusable := _num_without_value(column):
        raise InputDataError(f"{path}: {num_unusable} of {len(column)} rows have no usable `timestamp`. Give every row one.")
    try:
        return _whole_moments(column)
    except pa.ArrowInvalid as error:
        raise InputDataError(f"{path}: a `timestamp` is no moment ({error}). Mend it.") from None


def _whole_moments(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """int64; numbers with fractions become microseconds, of what numbers of their size count since 1970."""
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
        if not pc.all(pc.equal(column, pc.trunc(column))).as_py():
            largest = pc.max(pc.abs(column)).as_py()
            per_second = next((number for least, number in UNITS_PER_SECOND if largest >= least), 1)
            column = pc.round(pc.multiply(column, 1e6 / per_second))
    return column.cast(pa.int64())


def _positions(column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    """Numbers as they are, and whole numbers that stand there as text, whose own order would put 10 before 2."""
    if pa.types.is_string(column.type):
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise InputDataError(f"{path}: `{POSITION}` is text, and not of whole numbers ({error}). Give numbers.") from None
    if not _is_number(column.type):
        raise InputDataError(f"{path}: `{POSITION}` is {column.type}; give a number.")
    if num_unusable := _num_without_value(column):
        raise InputDataError(f"{path}: {num_unusable} of {len(column)} rows have no `{POSITION}`. Give every row one.")
    return column


def _parsed(column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    """ISO 8601 text with a time zone in every row or in none; UTC where there is none."""
    for zone in ("UTC", None):
        try:
            return column.cast(pa.timestamp("us", tz=zone))
        except pa.ArrowInvalid as error:
            reason = error
    raise InputDataError(f"{path}: `timestamp` is text, and not ISO 8601 throughout ({reason}). Mend it, or give numbers.")


def _read(path: Path, required: tuple[str, ...], optional: tuple[str, ...]) -> pa.Table:
    if not path.exists():
        raise InputDataError(f"{path} is missing. A dataset folder holds interactions.parquet and items.parquet.")
    try:
        dataset = pads.dataset(path, format="parquet")
        if not dataset.files:
            raise InputDataError(f"{path} is a folder without Parquet files. Put at least one there.")
        table = _plain(_columns(dataset, path, required, optional), path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputDataError(f"{path} cannot be read as Parquet ({error}). Write it anew, or name another folder.") from None
    if table.num_rows == 0:
        raise InputDataError(f"{path} has no rows. Put at least one there.")
    for name in required:
        if name != c.TITLE and (num_without := _num_without_value(table[name])):
            raise InputDataError(f"{path}: {num_without} rows have no {name}. Remove them, or fill it in.")
    return table


def _columns(dataset: pads.Dataset, path: Path, required: tuple[str, ...], optional: tuple[str, ...]) -> pa.Table:
    missing = [name for name in required if name not in dataset.schema.names]
    if missing:
        raise SchemaError(f"{path} lacks the column {missing[0]!r}; it has {', '.join(dataset.schema.names)}.")
    return dataset.to_table(columns=[*required, *(name for name in optional if name in dataset.schema.names)])


def _plain(table: pa.Table, path: Path) -> pa.Table:
    """Values instead of the dictionaries that pandas writes for categories, and text in one of Arrow's three forms of it."""
    for place, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            kind = pa.string()
        if field.name in (c.USER_ID, c.ITEM_ID) and not (pa.types.is_string(kind) or _is_number(kind)):
            raise SchemaError(f"{path}: `{field.name}` is {kind}; give text or numbers.")
        if field.name == c.TITLE and not (pa.types.is_string(kind) or pa.types.is_null(kind)):
            raise SchemaError(f"{path}: `{field.name}` is {kind}; give text.")
        if kind != field.type:
            table = table.set_column(place, field.name, table.column(place).cast(kind))
    return table


def _num_without_value(column: pa.ChunkedArray) -> int:
    """Rows that are null or, among floats, NaN or infinite."""
    if not pa.types.is_floating(column.type):
        return int(column.null_count)
    return len(column) - int(pc.sum(pc.is_finite(column)).as_py() or 0)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
