"""Rewriting a history: putting items into masked places, and telling what changed.

Works on any kind of item key; positions are zero-based from the oldest item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Item = TypeVar("Item")
Placement = Literal["in_place", "recent_end"]


@dataclass(frozen=True)
class Difference(Generic[Item]):
    """Where two sequences of one length differ.

    Attributes:
        replaced_positions: places whose item differs, ascending.
        replaced_items: what stood there before.
    """

    replaced_positions: list[int]
    replaced_items: list[Item]


def apply_rewrite(
    history: Sequence[Item], masked_positions: Sequence[int], new_items: Sequence[Item], placement: Placement
) -> list[Item]:
    """Put `new_items[n]` in the stead of the item at `masked_positions[n]`.

    `in_place` puts it where the old item stood; `recent_end` takes the old items out and appends the new ones, in order,
    after the newest item, where sequential recommenders look hardest. The length stays the same either way.

    Raises:
        ValueError: the two lists differ in length, or a position repeats or lies outside the history.
    """
    if len(masked_positions) != len(new_items):
        raise ValueError(f"{len(masked_positions)} masked places but {len(new_items)} new items; give one item per place.")
    _check_positions(masked_positions, len(history))
    if placement == "recent_end":
        return [*drop_masked(history, masked_positions), *new_items]
    rewritten = list(history)
    for position, item in zip(masked_positions, new_items, strict=True):
        rewritten[position] = item
    return rewritten


def drop_masked(history: Sequence[Item], masked_positions: Sequence[int]) -> list[Item]:
    """The history without its masked places: the paper's "mask only" ablation."""
    _check_positions(masked_positions, len(history))
    masked = set(masked_positions)
    return [item for position, item in enumerate(history) if position not in masked]


def difference(before: Sequence[Item], after: Sequence[Item]) -> Difference[Item]:
    """Place by place; with `undo` the sequence before can be had back.

    Raises:
        ValueError: the lengths differ.
    """
    if len(before) != len(after):
        raise ValueError(f"Sequences of {len(before)} and {len(after)} items cannot be compared place by place.")
    positions = [position for position, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    return Difference(positions, [before[position] for position in positions])


def undo(after: Sequence[Item], change: Difference[Item]) -> list[Item]:
    """The sequence before, from the sequence after and their difference."""
    return apply_rewrite(after, change.replaced_positions, change.replaced_items, "in_place")


def _check_positions(positions: Sequence[int], length: int) -> None:
    if len(set(positions)) < len(positions) or any(not 0 <= position < length for position in positions):
        raise ValueError(f"Masked places {list(positions)} are not distinct places of a history of {length} items.")
