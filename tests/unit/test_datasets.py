import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cesrec_core.datasets import read_catalogue, read_dataset
from cesrec_core.errors import InputDataError, SchemaError


def write(folder: Path, name: str, **columns: list[object]) -> None:
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def write_items(folder: Path, *item_ids: str) -> None:
    write(folder, "items", item_id=list(item_ids), title=[f"Title {item_id}" for item_id in item_ids])


def histories_by_user(folder: Path) -> dict[str, list[str]]:
    dataset = read_dataset(folder)
    codes = (dataset.histories[user] for user in range(len(dataset.histories)))
    item_ids = dataset.catalogue.item_ids
    return {
        user_id: [item_ids[code] for code in history]
        for user_id, history in zip(dataset.histories.user_ids, codes, strict=True)
    }


def test_order_is_time_then_position_then_item_id(tmp_path: Path) -> None:
    write_items(tmp_path, "d", "a", "c", "b")
    write(
        tmp_path,
        "interactions",
        user_id=["u2", "u1", "u1", "u1", "u1"],
        item_id=["c", "d", "c", "b", "a"],
        timestamp=[1, 5, 5, 5, 9],
        position=[0, 2, 1, 1, 0],
    )
    assert histories_by_user(tmp_path) == {"u1": ["b", "c", "d", "a"], "u2": ["c"]}


def test_order_without_timestamps(tmp_path: Path) -> None:
    write_items(tmp_path, "a", "b")
    write(tmp_path, "interactions", user_id=["u", "u"], item_id=["a", "b"], position=[1, 0])
    assert histories_by_user(tmp_path) == {"u": ["b", "a"]}


def test_catalogue_is_sorted_and_codes_are_places(tmp_path: Path) -> None:
    write(tmp_path, "items", item_id=["b", "a"], title=["B &amp; C", None], attributes=[["x", "&eacute;"], None])
    write(tmp_path, "interactions", user_id=["u"], item_id=["b"], position=[0])
    catalogue = read_dataset(tmp_path).catalogue
    assert catalogue.item_ids == ["a", "b"]
    assert catalogue.titles == ["", "B & C"]
    assert catalogue.attributes == [(), ("x", "é")]
    assert catalogue.code_of == {"a": 0, "b": 1}


def test_a_folder_of_part_files_is_one_table(tmp_path: Path) -> None:
    write_items(tmp_path, "a", "b")
    parts = tmp_path / "interactions.parquet"
    parts.mkdir()
    write(parts, "part-1", user_id=["u"], item_id=["b"], timestamp=[2])
    write(parts, "part-0", user_id=["u"], item_id=["a"], timestamp=[1])
    assert histories_by_user(tmp_path) == {"u": ["a", "b"]}


def test_a_folder_without_part_files(tmp_path: Path) -> None:
    write_items(tmp_path, "a")
    (tmp_path / "interactions.parquet").mkdir()
    with pytest.raises(InputDataError, match=r"interactions\.parquet is a folder without Parquet files"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int32(), pa.string()), pa.large_string(), pa.string_view()], ids=str)
def test_text_in_every_form(tmp_path: Path, kind: pa.DataType) -> None:
    """pandas writes the first for a column of categories."""
    write(tmp_path, "items", item_id=pa.array(["b", "a"], kind), title=pa.array(["B", "A"], kind))
    moments = pa.array(["2024-01-02", "2024-01-01"], kind)
    write(tmp_path, "interactions", user_id=pa.array(["u", "u"], kind), item_id=pa.array(["b", "a"], kind), timestamp=moments)
    assert read_dataset(tmp_path).catalogue.titles == ["A", "B"]
    assert histories_by_user(tmp_path) == {"u": ["a", "b"]}


@pytest.mark.parametrize("user_ids", [[b"\xff", b"\xfe"], [[1], [2]], [True, False]])
def test_ids_that_are_neither_text_nor_numbers_are_refused(tmp_path: Path, user_ids: list[object]) -> None:
    write_items(tmp_path, "a", "b")
    write(tmp_path, "interactions", user_id=user_ids, item_id=["a", "b"], position=[0, 1])
    with pytest.raises(SchemaError, match=r"interactions\.parquet: `user_id` is .*; give text or numbers"):
        read_dataset(tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match=r"items\.parquet is missing"):
        read_dataset(tmp_path)


def test_missing_column(tmp_path: Path) -> None:
    write_items(tmp_path, "a")
    write(tmp_path, "interactions", user=["u"], item_id=["a"])
    with pytest.raises(SchemaError, match=r"lacks the column 'user_id'; it has user, item_id"):
        read_dataset(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    write(tmp_path, "items", item_id=pa.array([], pa.string()), title=pa.array([], pa.string()))
    with pytest.raises(InputDataError, match="has no rows"):
        read_dataset(tmp_path)


def test_item_twice(tmp_path: Path) -> None:
    write_items(tmp_path, "a", "a")
    with pytest.raises(InputDataError, match="holds an item_id twice"):
        read_dataset(tmp_path)


def test_unknown_item(tmp_path: Path) -> None:
    write_items(tmp_path, "a")
    write(tmp_path, "interactions", user_id=["u", "u"], item_id=["a", "ghost"], position=[0, 1])
    with pytest.raises(InputDataError, match=r"1 interactions name items that items\.parquet lacks"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    "moments",
    [
        ["2024-01-02T00:00:00Z", "2024-01-01T00:00:00+00:00"],
        ["2024-01-02", "2024-01-01 00:00:00"],
        pa.array([1_704_153_600_000_000_001, 1_704_067_200_000_000_000], pa.timestamp("ns")),
        [1_704_153_600.0, 1_704_067_200.0],
        [1_704_153_600.000_001, 1_704_067_200.000_001],
        [dt.date(2024, 1, 2), dt.date(2024, 1, 1)],
    ],
)
def test_moments_in_every_form(tmp_path: Path, moments: list[object]) -> None:
    write_items(tmp_path, "a", "b")
    write(tmp_path, "interactions", user_id=["u", "u"], item_id=["b", "a"], timestamp=moments)
    assert histories_by_user(tmp_path) == {"u": ["a", "b"]}
    timestamps = read_dataset(tmp_path).histories.timestamps
    assert timestamps is not None
    is_seconds = isinstance(moments[0], float) and moments[0].is_integer()
    unit = 1 if is_seconds else 1_000_000
    assert (timestamps // unit).tolist() == [1_704_067_200, 1_704_153_600]


def test_fractions_of_a_second_are_moments_apart(tmp_path: Path) -> None:
    write_items(tmp_path, "a", "b")
    write(tmp_path, "interactions", user_id=["u", "u"], item_id=["b", "a"], timestamp=[0.75, 0.25])
    timestamps = read_dataset(tmp_path).histories.timestamps
    assert timestamps is not None and timestamps.tolist() == [250_000, 750_000]


@pytest.mark.parametrize(("unit", "fraction"), [(1e3, 0.25), (1e6, 0.5)], ids=["milliseconds", "microseconds"])
def test_fractions_of_smaller_units_are_of_the_same_moment(tmp_path: Path, unit: float, fraction: float) -> None:
    write_items(tmp_path, "a", "b")
    moments = [1_704_153_600 * unit + fraction, 1_704_067_200 * unit]
    write(tmp_path, "interactions", user_id=["u", "u"], item_id=["b", "a"], timestamp=moments)
    timestamps = read_dataset(tmp_path).histories.timestamps
    assert timestamps is not None
    assert (timestamps // 1_000_000).tolist() == [1_704_067_200, 1_704_153_600]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"timestamp": [np.nan, 1.0]}, "1 of 2 rows have no usable"),
        ({"timestamp": [None, 1]}, "1 of 2 rows have no usable"),
        ({"timestamp": ["yesterday", "2024-01-01"]}, "not ISO 8601 throughout"),
        ({"timestamp": [True, False]}, "`timestamp` is bool"),
        ({"user_id": ["u", None]}, "1 rows have no user_id"),
        ({"position": ["first", "2"]}, "`position` is text, and not of whole numbers"),
        ({"position": [[1], [2]]}, "`position` is list"),
        ({"position": [None, 1]}, "1 of 2 rows have no `position`"),
        ({"position": [np.nan, 1.0]}, "1 of 2 rows have no `position`"),
        ({"user_id": [np.nan, 1.0], "position": [1, 2]}, "1 rows have no user_id"),
        ({"timestamp": pa.array([2**63, 1], pa.uint64())}, "a `timestamp` is no moment"),
        ({"timestamp": [1e300, 1.0]}, "a `timestamp` is no moment"),
    ],
)
def test_unusable_values_are_named(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    write_items(tmp_path, "a", "b")
    write(tmp_path, "interactions", **{"user_id": ["u", "u"], "item_id": ["a", "b"], **columns})
    with pytest.raises(InputDataError, match=message):
        read_dataset(tmp_path)


def test_positions_that_are_text_are_numbers(tmp_path: Path) -> None:
    items = [f"i{number:02d}" for number in range(12)]
    write_items(tmp_path, *items)
    places = [str(number) for number in range(12)]
    write(tmp_path, "interactions", user_id=["u"] * 12, item_id=items[::-1], position=places[::-1])
    assert histories_by_user(tmp_path) == {"u": items}


def test_a_title_that_is_no_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "items", item_id=["a", "b"], title=[["A"], ["B"]])
    with pytest.raises(SchemaError, match=r"`title` is list.*; give text"):
        read_catalogue(tmp_path)


@pytest.mark.parametrize("attributes", [["Red|Blue", "Red"], [[1, 2], [3]]])
def test_attributes_that_are_no_lists_of_text_are_refused(tmp_path: Path, attributes: list[object]) -> None:
    """A text would be taken apart into its letters."""
    write(tmp_path, "items", item_id=["a", "b"], title=["A", "B"], attributes=attributes)
    with pytest.raises(SchemaError, match=r"`attributes` is .*; give a list of strings"):
        read_catalogue(tmp_path)


def test_what_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items.parquet").write_text("item_id,title\n", encoding="utf-8")
    with pytest.raises(InputDataError, match=r"items\.parquet cannot be read as Parquet"):
        read_dataset(tmp_path)


def test_rows_that_are_there_twice_count_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same item at another moment is another interaction; at another place only where there are no moments."""
    write_items(tmp_path, "a", "b")
    columns = {"user_id": ["u", "u", "u", "v", "u"], "item_id": ["b", "a", "b", "b", "a"], "timestamp": [2, 1, 2, 2, 3]}
    write(tmp_path, "interactions", **columns)
    dataset = read_dataset(tmp_path)
    assert [dataset.histories.item_codes[:3].tolist(), dataset.histories.offsets.tolist()] == [[0, 1, 0], [0, 3, 4]]
    assert "1 rows are there more than once" in caplog.text
    write(tmp_path, "interactions", **columns, position=[7, 8, 9, 10, 11])
    assert read_dataset(tmp_path).histories.offsets.tolist() == [0, 3, 4]
    del columns["timestamp"]
    write(tmp_path, "interactions", **columns, position=[1, 1, 2, 1, 1])
    assert read_dataset(tmp_path).histories.offsets.tolist() == [0, 3, 4]


def test_of_rows_that_are_there_twice_the_first_stays(tmp_path: Path) -> None:
    """Repeats need not stand beside each other: three items of one moment, written twice."""
    write_items(tmp_path, "a", "b", "c")
    twice = {"item_id": ["c", "a", "b"] * 2, "position": [1, 2, 3, 4, 5, 6], "timestamp": [5] * 6, "user_id": ["u"] * 6}
    write(tmp_path, "interactions", **twice)
    assert histories_by_user(tmp_path) == {"u": ["c", "a", "b"]}


def test_without_any_order_nothing_is_read(tmp_path: Path) -> None:
    write_items(tmp_path, "a", "b")
    write(tmp_path, "interactions", user_id=["u", "u"], item_id=["b", "a"])
    with pytest.raises(SchemaError, match=r"neither `timestamp` nor `position`, so nobody knows what came first"):
        read_dataset(tmp_path)
