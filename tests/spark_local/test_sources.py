import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from cesrec_core.errors import ConfigError, InputDataError, SchemaError
from cesrec_core.raw_sources.discover import find_sources
from cesrec_core.raw_sources.formats import read_source, readable, recognise
from cesrec_core.raw_sources.tables import newest_version
from cesrec_core.raw_sources.uris import listing_hash


def rows(frame: DataFrame, *columns: str) -> list[tuple]:
    return [tuple(row) for row in frame.orderBy("source_position").select(*columns).collect()]


def write(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_text(text, encoding=encoding)
    return str(path)


def write_gz(path: Path, records: list[dict]) -> str:
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in records)
    return str(path)


def test_recbole_atomic_files(spark: SparkSession, tmp_path: Path) -> None:
    inter = write(
        tmp_path / "x.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n9\t7\t3\t881250949\n8\t7\t4\t5\n"
    )
    item = write(
        tmp_path / "x.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "7\tToy Story\t1995\tAnimation Children's\n8\tHeat (1995)\t1995\tDrama\n9\t\"Odd\tV\tunknown\n",
    )
    found = read_source(spark, "interactions", inter)
    assert rows(found, "user_id", "item_id", "rating", "timestamp") == [("9", "7", 3.0, "881250949"), ("8", "7", 4.0, "5")]
    assert rows(read_source(spark, "items", item), "item_id", "title", "attributes") == [
        ("7", "Toy Story (1995)", ["Animation", "Children's"]),
        ("8", "Heat (1995)", ["Drama"]),
        ("9", '"Odd', ["unknown"]),
    ]


def test_movielens_files_are_latin_1(spark: SparkSession, tmp_path: Path) -> None:
    ratings = write(tmp_path / "ratings.dat", "1::1193::5::978300760\n2::661::3::978302109\n")
    movies = write(tmp_path / "movies.dat", '1193::Les Misérables (1995)::Drama|Musical\n661::Ed\'s ("1")::Comedy\n', "latin-1")
    assert rows(read_source(spark, "interactions", ratings), "user_id", "item_id", "rating", "timestamp") == [
        ("1", "1193", 5.0, "978300760"),
        ("2", "661", 3.0, "978302109"),
    ]
    assert rows(read_source(spark, "items", movies), "item_id", "title", "attributes") == [
        ("1193", "Les Misérables (1995)", ["Drama", "Musical"]),
        ("661", 'Ed\'s ("1")', ["Comedy"]),
    ]


def test_amazon_dumps(spark: SparkSession, tmp_path: Path) -> None:
    reviews = write_gz(
        tmp_path / "reviews.json.gz",
        [{"reviewerID": "A1", "asin": "B1", "overall": 4.0, "unixReviewTime": 1400000000, "reviewText": "fine"}],
    )
    meta = write_gz(
        tmp_path / "meta.json.gz",
        [
            {
                "asin": "B1",
                "title": "Pad",
                "categories": [["Games", "Wii"], ["Toys"]],
                "brand": "Acme",
                "description": ["One,", "two."],
            },
            {"asin": "B2", "title": "Disc", "category": ["Games"], "description": "Plain, text"},
        ],
    )
    assert rows(read_source(spark, "interactions", reviews), "user_id", "item_id", "rating", "timestamp") == [
        ("A1", "B1", 4.0, "1400000000")
    ]
    items = rows(read_source(spark, "items", meta), "item_id", "title", "attributes", "description")
    assert items[0] == ("B1", "Pad", ["Games", "Wii", "Toys", "Acme"], "One, two.")
    assert items[1][:2] == ("B2", "Disc")
    assert items[1][3] == "Plain, text"


def test_csv_with_quotes_line_breaks_and_damaged_lines(spark: SparkSession, tmp_path: Path) -> None:
    items = write(tmp_path / "items.csv", 'item_id,title,attributes\n1,"A ""b"", c\nd",x|y\n2,Two,x,too,many\n3,Three,\n')
    found = read_source(spark, "items", items)
    assert rows(found, "item_id", "title", "attributes", "is_malformed") == [
        ("1", 'A "b", c\nd', ["x", "y"], False),
        ("2", "Two", ["x"], True),
        ("3", "Three", [], False),
    ]
    record = json.loads(rows(found.where("is_malformed"), "record")[0][0])
    assert record == {"line": "2,Two,x,too,many"}


def test_json_lines_keep_the_raw_line(spark: SparkSession, tmp_path: Path) -> None:
    lines = ['{"user_id": 1, "item_id": "a", "timestamp": 5, "extra": [1]}', "{broken", '"text"', ""]
    found = read_source(spark, "interactions", write(tmp_path / "interactions.jsonl", "\n".join(lines)))
    kept, broken, text = rows(found, "user_id", "timestamp", "is_malformed", "record")
    assert kept == ("1", "5", False, lines[0])
    assert (broken[2], json.loads(broken[3])) == (True, {"line": "{broken"})
    assert (text[2], json.loads(text[3])) == (True, {"line": '"text"'})


def test_feedback_lines(spark: SparkSession, tmp_path: Path) -> None:
    line = {"feedback_id": "f", "user_id": "u", "created_at": "2024-01-01T00:00:00Z", "utterance": "no, less"}
    found = read_source(
        spark, "feedback", write_gz(tmp_path / "feedback.jsonl.gz", [{**line, "recommended_item_ids": ["b", "a"]}])
    )
    assert rows(found, "feedback_id", "utterance", "recommended_item_ids") == [("f", "no, less", ["b", "a"])]


def test_parquet_folder_and_position(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.range(5).select(
        F.col("id").alias("user_id"),
        F.lit("i").alias("item_id"),
        F.col("id").alias("timestamp"),
        (10 - F.col("id")).alias("position"),
    )
    frame.write.parquet(str(tmp_path / "interactions"))
    found = read_source(spark, "interactions", str(tmp_path / "interactions"))
    assert rows(found, "source_position", "user_id") == [(6, "4"), (7, "3"), (8, "2"), (9, "1"), (10, "0")]


FIRST = "'u' user_id, 'old' item_id, 5L timestamp"
SECOND = "'u' user_id, 'new' item_id, 6L timestamp"


@pytest.fixture
def delta_folder(spark: SparkSession, tmp_path: Path) -> str:
    """Version 0 holds FIRST, version 1 holds SECOND."""
    path = str(tmp_path / "interactions")
    spark.sql(f"select {FIRST}").write.format("delta").save(path)
    spark.sql(f"select {SECOND}").write.format("delta").mode("overwrite").save(path)
    return path


@pytest.fixture
def delta_table(spark: SparkSession, delta_folder: str) -> Iterator[str]:
    name = "default.raw_interactions_of_a_test"
    spark.sql(f"create table {name} using delta location '{delta_folder}'")
    yield name
    spark.sql(f"drop table {name}")


@pytest.mark.parametrize("source", ["delta_folder", "delta_table"])
def test_delta_sources_with_and_without_version(spark: SparkSession, source: str, request: pytest.FixtureRequest) -> None:
    location = request.getfixturevalue(source)
    assert recognise(location) == {"delta_folder": "delta", "delta_table": "table"}[source]
    assert newest_version(spark, location) == 1
    wanted = ("item_id", "timestamp", "source_position")
    assert rows(read_source(spark, "interactions", location), *wanted) == [("new", 6, 0)]
    assert rows(read_source(spark, "interactions", location, version=0), *wanted) == [("old", 5, 0)]
    assert rows(read_source(spark, "interactions", location, version=1), *wanted) == [("new", 6, 0)]
    with pytest.raises(InputDataError, match=r"at version 7\. Correct it in the dataset section, or run again") as raised:
        read_source(spark, "interactions", location, version=7)
    assert location in str(raised.value)


@pytest.mark.parametrize("version", [None, 3])
def test_missing_delta_sources_are_named(spark: SparkSession, tmp_path: Path, version: int | None) -> None:
    names = ("default.no_such_table_anywhere", "no-such-schema.interactions", "no-such-catalog.raw.interactions")
    for location in ((tmp_path / "gone").as_uri(), *names):
        with pytest.raises(InputDataError, match=r"There is no .*table .*Correct it in the dataset section") as raised:
            read_source(spark, "interactions", location, version)
        assert location in str(raised.value)
        with pytest.raises(InputDataError, match=r"There is no Delta table .*Correct it in the dataset section") as raised:
            newest_version(spark, location)
        assert location in str(raised.value)
    with pytest.raises(InputDataError, match=r"There is nothing at .*gone\. Correct the path in the dataset section"):
        read_source(spark, "interactions", str(tmp_path / "gone"), version)


def test_a_named_table_that_is_not_delta_has_no_version(spark: SparkSession) -> None:
    spark.sql(f"select {FIRST}").createOrReplaceTempView("a_view_of_interactions")
    assert rows(read_source(spark, "interactions", "a_view_of_interactions"), "item_id") == [("old",)]
    with pytest.raises(InputDataError, match="There is no Delta table a_view_of_interactions"):
        newest_version(spark, "a_view_of_interactions")


def test_json_columns_that_first_appear_far_down(spark: SparkSession, tmp_path: Path) -> None:
    early = [{"item_id": f"i{number:03}", "title": "T"} for number in range(250)]
    late = {"item_id": "late", "title": "T", "genres": ["a", "b"], "description": "Text", "brand": "Acme"}
    found = read_source(spark, "items", write_gz(tmp_path / "items.jsonl.gz", [*early, late]))
    assert rows(found.where("item_id = 'late'"), "attributes", "description") == [(["a", "b", "Acme"], "Text")]
    assert [row[0] for row in rows(found, "item_id")] == [record["item_id"] for record in [*early, late]]


def test_json_aliases_may_change_within_a_source(spark: SparkSession, tmp_path: Path) -> None:
    early = [{"USER_ID": "u", "asin": f"i{number}", "unixReviewTime": number} for number in range(250)]
    late = {"USER_ID": "u", "item_id": "late", "timestamp": 9, "overall": 4}
    found = read_source(spark, "interactions", write_gz(tmp_path / "interactions.jsonl.gz", [*early, late]))
    kept = rows(found, "user_id", "item_id", "timestamp", "rating")
    assert (kept[0], kept[-1]) == (("u", "i0", "0", None), ("u", "late", "9", 4.0))


def test_rows_without_a_position_keep_their_place_in_the_file(spark: SparkSession, tmp_path: Path) -> None:
    lines = [{"user_id": "u", "item_id": name, "timestamp": 1} for name in ("c", "b", "a")]
    found = read_source(spark, "interactions", write_gz(tmp_path / "interactions.jsonl.gz", lines))
    assert rows(found, "item_id", "source_position") == [("c", 0), ("b", 1), ("a", 2)]


def test_source_position_follows_the_lines_of_a_file(spark: SparkSession, tmp_path: Path) -> None:
    lines = "".join(f"{number},i,{number}\n" for number in range(500))
    path = write(tmp_path / "interactions.csv", "user_id,item_id,timestamp\n" + lines)
    assert [row[0] for row in rows(read_source(spark, "interactions", path), "user_id")] == [str(n) for n in range(500)]


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        ("interactions", "'u' user_id, 'i' item_id", r"lacks the column 'timestamp'.*it has user_id, item_id"),
        ("interactions", "'u' user_id, 'i' item_id, true timestamp", r"'timestamp' is boolean.*has to be a timestamp"),
        ("interactions", "'u' user_id, array('i') item_id, 1 timestamp", r"'item_id' is array<string>.*a string or a whole"),
        ("interactions", "1.5D user_id, 'i' item_id, 1 timestamp", r"'user_id' is double"),
        ("items", "'i' item_id, 1 title", r"'title' is int.*has to be a string"),
        ("items", "'i' item_id, 't' title, map('a', 1) attributes", r"'attributes' is map<string,int>"),
        ("feedback", "'f' feedback_id, 'u' user_id, 1 created_at", r"lacks the column 'utterance'"),
    ],
)
def test_wrong_columns_are_named(spark: SparkSession, tmp_path: Path, kind: str, columns: str, message: str) -> None:
    path = str(tmp_path / "source.parquet")
    spark.sql(f"select {columns}").write.parquet(path)
    with pytest.raises(SchemaError, match=message) as raised:
        read_source(spark, kind, path)
    assert path in str(raised.value)


def test_json_lines_without_a_required_column(spark: SparkSession, tmp_path: Path) -> None:
    path = write_gz(tmp_path / "interactions.jsonl.gz", [{"user_id": "u", "item_id": "i"}])
    with pytest.raises(SchemaError, match="lacks the column 'timestamp'"):
        read_source(spark, "interactions", path)


@pytest.mark.parametrize("text", ["", "\n\n", "not json\n"])
def test_text_without_records(spark: SparkSession, tmp_path: Path, text: str) -> None:
    with pytest.raises(InputDataError, match="does not begin with any JSON object"):
        read_source(spark, "interactions", write(tmp_path / "interactions.jsonl", text))
    with pytest.raises((InputDataError, SchemaError), match=r"empty|lacks the column"):
        read_source(spark, "interactions", write(tmp_path / "interactions.csv", text))


@pytest.mark.parametrize("name", ["text.`/etc/hostname`", "a.b.c.d", "drop table x", "a;b", "parquet.`/x`", ""])
def test_hostile_table_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"not a usable source.*such as catalog\.schema\.interactions") as raised:
        recognise(name)
    assert repr(name) in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("feedback", "feedback.jsonl"), ("feedback", "f.csv"), ("item_rules", "r.csv"), ("feedback", "f.jsonl.gz")],
)
def test_sources_that_may_be_absent_may_be_empty_too(spark: SparkSession, tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"\n") if name.endswith(".gz") else b" \n")
    assert read_source(spark, kind, str(path)).count() == 0


def test_names_that_look_like_patterns(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "my data [v1] {a,b}*?"
    folder.mkdir()
    pq.write_table(pa.table({"item_id": ["1"], "title": ["Heat"]}), folder / "items.parquet")
    write(folder / "items.csv", "item_id,title\n1,Heat\n")
    write(folder / "items.jsonl", '{"item_id": "1", "title": "Heat"}\n')
    for name in ("items.parquet", "items.csv", "items.jsonl"):
        assert rows(read_source(spark, "items", str(folder / name)), "item_id", "title") == [("1", "Heat")]


def test_files_at_a_uri_are_known_by_their_listing(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_id": ["1"], "title": ["Heat"]}), path)
    before = listing_hash(spark, path.as_uri())
    assert listing_hash(spark, path.as_uri()) == before
    pq.write_table(pa.table({"item_id": ["1", "2"], "title": ["Heat", "Ran"]}), path)
    assert listing_hash(spark, path.as_uri()) != before
    assert rows(read_source(spark, "items", path.as_uri()), "item_id", "title") == [("1", "Heat"), ("2", "Ran")]
    with pytest.raises(InputDataError, match=r"gone\.parquet cannot be listed \(FileNotFoundException\)"):
        listing_hash(spark, (tmp_path / "gone.parquet").as_uri())
    with pytest.raises(InputDataError, match="cannot be listed"):
        listing_hash(spark, "nosuch://bucket/items.parquet")


def test_recognise(tmp_path: Path) -> None:
    (tmp_path / "table" / "_delta_log").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    assert recognise(str(tmp_path / "table")) == "delta"
    assert recognise("main.sales.interactions") == "table"
    assert recognise("s3://bucket/items.parquet") == "parquet"
    assert recognise("abfss://lake@x/items") == "delta"
    with pytest.raises(InputDataError, match="neither a Delta table nor Parquet"):
        recognise(str(tmp_path / "empty"))
    with pytest.raises(InputDataError, match=r"There is no file .*gone\.csv"):
        recognise(str(tmp_path / "gone.csv"))
    with pytest.raises(InputDataError, match="There is nothing at"):
        recognise(str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="no known format"):
        recognise(write(tmp_path / "notes.txt", ""))


def test_find_sources(tmp_path: Path) -> None:
    for name in ("ratings.dat", "movies.dat", "feedback.jsonl", "notes.txt"):
        write(tmp_path / name, "")
    assert find_sources(tmp_path) == {
        "interactions": str(tmp_path / "ratings.dat"),
        "items": str(tmp_path / "movies.dat"),
        "feedback": str(tmp_path / "feedback.jsonl"),
    }
    write(tmp_path / "interactions.csv", "")
    assert find_sources(tmp_path)["interactions"] == str(tmp_path / "interactions.csv")


def test_find_sources_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="no dataset folder"):
        find_sources(tmp_path / "gone")
    write(tmp_path / "items.csv", "")
    with pytest.raises(
        InputDataError, match=r"holds no interactions\. Looked for: .*interactions\.parquet.*ratings\.dat.*items\.csv"
    ):
        find_sources(tmp_path)
    write(tmp_path / "interactions.csv", "")
    write(tmp_path / "interactions.jsonl", "")
    with pytest.raises(InputDataError, match=r"more than one source of interactions: interactions\.csv, interactions\.jsonl"):
        find_sources(tmp_path)


@pytest.mark.parametrize("name", ["items.parquet", "items.jsonl.gz", "items.csv.gz"])
def test_a_damaged_file_is_named(spark: SparkSession, tmp_path: Path, name: str) -> None:
    """Cut off in the middle, as an interrupted copy leaves it."""
    rows = [{"item_id": f"i{number}", "title": f"Title {number * 7919}"} for number in range(5000)]
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines = [json.dumps(row) if "json" in name else f"{row['item_id']},{row['title']}" for row in rows]
        with gzip.open(path, "wt", encoding="utf-8") as stream:
            stream.write("\n".join(lines if "json" in name else ["item_id,title", *lines]))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputDataError, match=rf"{name} cannot be read.*Write it again"), readable(str(path)):
        read_source(spark, "items", str(path)).write.format("noop").mode("overwrite").save()
