"""Allow- and block-lists by hand; six items a to f are item_idx 1 to 6."""

import pyarrow as pa
import pytest

from cesrec_core import columns as c
from cesrec_core.actors.open_items import by_segments
from cesrec_core.ranking.item_rules import ItemRules

IDX_OF = {item_id: idx for idx, item_id in enumerate("abcdef", start=1)}
ROWS = [
    ("block", None, "a"),
    ("block", "children", "b"),
    ("allow", "trial", "b"),
    ("allow", "trial", "c"),
    ("allow", "press", "d"),
    ("allow", "press", "unheard of"),
    ("allow", "nothing left", "unheard of"),
]


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([], "bcdef"),
        (["children"], "cdef"),
        (["trial"], "bc"),
        (["trial", "children"], "c"),
        (["trial", "press"], "bcd"),
        (["nothing left"], ""),
        (["of no list"], "bcdef"),
    ],
)
def test_what_a_segment_may_see(segments: list[str], expected: str) -> None:
    allowed = ItemRules.from_rows(ROWS, IDX_OF).allowed(segments, len(IDX_OF))
    assert "".join(item_id for item_id, idx in IDX_OF.items() if allowed[idx]) == expected


def test_a_segment_gets_no_more_than_everybody() -> None:
    rows = [("allow", None, "a"), ("allow", None, "b"), ("allow", "children", "b"), ("allow", "children", "c")]
    rules = ItemRules.from_rows(rows, IDX_OF)
    assert rules.allowed([], 6).nonzero()[0].tolist() == [1, 2]
    assert rules.allowed(["children"], 6).nonzero()[0].tolist() == [2]


def test_without_rules_all_is_allowed() -> None:
    assert ItemRules().allowed(["any"], 6).all()


def test_only_segments_that_rules_name_tell_users_apart() -> None:
    segments = [["children", "x"], ["y"], None, ["press", "trial"], ["x", "y"], ["children"], ["nothing left", "z"]]
    shard = pa.table({c.USER_ID: list("abcdefg"), c.SEGMENTS: pa.array(segments, pa.list_(pa.string()))})
    rules = ItemRules.from_rows(ROWS, IDX_OF)
    groups = [(users[c.USER_ID].to_pylist(), allowed) for users, allowed in by_segments(shard, rules, len(IDX_OF))]
    assert [users for users, _ in groups] == [["a", "f"], ["b", "c", "e"], ["d"], ["g"]]
    for users, allowed in groups:
        for user in users:
            assert allowed.tolist() == rules.allowed(segments["abcdefg".index(user)] or [], len(IDX_OF)).tolist()
    ((everybody, allowed),) = by_segments(shard, ItemRules(), len(IDX_OF))
    assert (everybody.num_rows, allowed.all()) == (7, True)
