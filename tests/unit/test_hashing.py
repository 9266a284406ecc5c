from pathlib import Path

from cesrec_core.hashing import BLOCK_BYTES, content_hash, short_hash


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_short_hash_reads_the_value_and_not_its_order() -> None:
    # The first 16 digits of `printf '{"a": 1, "b": [2]}' | sha256sum`.
    assert short_hash({"b": [2], "a": 1}) == short_hash({"a": 1, "b": [2]}) == "ae8a9a5052464275"
    assert short_hash({"a": 1, "b": [3]}) != short_hash({"a": 1, "b": [2]})


def test_a_file_is_known_by_all_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"a" * BLOCK_BYTES + b"b")
    before = content_hash(path)
    assert content_hash(path) == before
    path.write_bytes(b"a" * BLOCK_BYTES + b"c")
    assert content_hash(path) != before


def test_a_folder_is_known_by_its_visible_files(tmp_path: Path) -> None:
    folder = write(tmp_path, a="1", day__b="2")
    before = content_hash(folder)
    write(folder, **{".a.crc": "checksum"})
    assert content_hash(folder) == before
    write(folder, c="3")
    assert content_hash(folder) != before


def test_a_partition_of_another_name_is_other_content(tmp_path: Path) -> None:
    """A partition's folder carries a column's value."""
    monday = write(tmp_path / "one", **{"day=mon__part": "rows"})
    tuesday = write(tmp_path / "two", **{"day=tue__part": "rows"})
    assert content_hash(monday) != content_hash(tuesday)


def test_bytes_that_move_from_one_file_to_the_next_are_other_content(tmp_path: Path) -> None:
    assert content_hash(write(tmp_path / "one", a="1b2", b="3")) != content_hash(write(tmp_path / "two", a="1", b="2b3"))
