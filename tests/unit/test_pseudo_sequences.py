import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesrec_core.rewriting.pseudo_sequences import apply_rewrite, difference, drop_masked, undo

HISTORY = ["a", "b", "c", "d"]


def test_in_place_keeps_everything_else_where_it_was() -> None:
    assert apply_rewrite(HISTORY, [1, 3], ["x", "y"], "in_place") == ["a", "x", "c", "y"]


def test_recent_end_moves_new_items_behind_the_newest() -> None:
    assert apply_rewrite(HISTORY, [1, 3], ["x", "y"], "recent_end") == ["a", "c", "x", "y"]


def test_mask_only() -> None:
    assert drop_masked(HISTORY, [0, 2]) == ["b", "d"]
    assert drop_masked(HISTORY, []) == HISTORY


def test_difference_names_places_and_what_stood_there() -> None:
    change = difference(HISTORY, ["a", "x", "c", "y"])
    assert (change.replaced_positions, change.replaced_items) == ([1, 3], ["b", "d"])


def test_an_item_put_back_is_no_difference() -> None:
    assert difference(HISTORY, HISTORY).replaced_positions == []


@pytest.mark.parametrize("positions", [[1, 1], [-1, 0], [3, 4]])
def test_places_outside_or_twice_are_refused(positions: list[int]) -> None:
    with pytest.raises(ValueError, match="not distinct places of a history of 4 items"):
        apply_rewrite(HISTORY, positions, ["x", "y"], "in_place")


def test_one_item_per_place() -> None:
    with pytest.raises(ValueError, match="2 masked places but 1 new items"):
        apply_rewrite(HISTORY, [1, 2], ["x"], "recent_end")


def test_sequences_of_different_length_are_not_compared() -> None:
    with pytest.raises(ValueError, match="4 and 3 items"):
        difference(HISTORY, HISTORY[:3])


histories = st.lists(st.integers(1, 6), min_size=1, max_size=12)


@given(histories, st.data(), st.sampled_from(["in_place", "recent_end"]))
def test_rewrite_then_undo(history: list[int], data: st.DataObject, placement: str) -> None:
    positions = data.draw(st.lists(st.integers(0, len(history) - 1), unique=True, max_size=4).map(sorted))
    new_items = data.draw(st.lists(st.integers(100, 999), unique=True, min_size=len(positions), max_size=len(positions)))
    rewritten = apply_rewrite(history, positions, new_items, placement)  # type: ignore[arg-type]
    assert len(rewritten) == len(history)
    assert undo(rewritten, difference(history, rewritten)) == history
