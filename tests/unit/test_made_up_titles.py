"""What the page of a run tells of a decoder that wrote titles of no item."""

import json
from pathlib import Path

import pytest

from cesrec_core.constructor.title_analysis import most_frequent
from cesrec_core.stages.construct_pseudo_sequences import rejected_titles_path
from cesrec_core.stages.report_contents import NUM_EXAMPLES, made_up_titles


def test_the_most_frequent_come_first_each_with_its_nearest_title(tmp_path: Path) -> None:
    counts = {"Toy Story 7": 9, "zzz": 2, "Alien\nreturns": 4, "rare": 1}
    file = rejected_titles_path(tmp_path, "run-1")
    file.parent.mkdir()
    file.write_text(json.dumps(most_frequent(counts, ["Toy Story", "Alien"], 10)), encoding="utf-8")
    assert made_up_titles(file) == (
        "Toy Story 7 (9 times); nearest: Toy Story",
        "Alien returns (4 times); nearest: Alien",
        "zzz (2 times); nearest: none",
    )
    assert NUM_EXAMPLES == 3


def test_a_decoder_of_items_makes_nothing_up(tmp_path: Path) -> None:
    assert made_up_titles(rejected_titles_path(tmp_path, "run-1")) == ()


@pytest.mark.parametrize(
    "content", [b'[{"text": "Toy', b"\xff\xfe", b"{}", b"[5]", b'[{"text": "a", "count": 1}]', b'[{"text": 5, "nearest": []}]']
)
def test_a_damaged_list_of_them_is_left_out(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "run-1.json"
    file.write_bytes(content)
    assert made_up_titles(file) == ()
    (message,) = caplog.messages
    assert f"{file} is no list of titles that can be read" in message
