"""Which items left a history and which came, for people to read."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from cesrec_core import columns as c
from cesrec_core.report.contents import Replacement


def replacements(row: Mapping[str, Any], titles: Mapping[str, str]) -> tuple[Replacement, ...]:
    """Of a row of `pseudo_sequences`, in the order of the places.

    With the placement at the recent end kept items move up, so that their places differ too; they neither left nor came.

    Args:
        titles: of items by id; one that is missing is shown by its id.
    """
    after: Sequence[str] = row[c.ITEM_IDS]
    places: Sequence[int] = row[c.REPLACED_POSITIONS]
    replaced: Sequence[str] = row[c.REPLACED_ITEM_IDS]
    runner_ups = row[c.RUNNER_UP_ITEM_IDS] or [None] * len(places)
    margins = row[c.MARGINS] or [None] * len(places)
    is_after, was_there = set(after), set(replaced)
    left = [item for item in replaced if item not in is_after]
    came = [number for number, place in enumerate(places) if after[place] not in was_there]
    result = []
    for item, number in zip_longest(left, came):
        runner_up = None if number is None else runner_ups[number]
        result.append(
            Replacement(
                before=None if item is None else titles.get(item, item),
                after=None if number is None else titles.get(after[places[number]], after[places[number]]),
                probability=None if number is None else row[c.PROBABILITIES][number],
                runner_up=None if runner_up is None else titles.get(runner_up, runner_up),
                margin=None if number is None else margins[number],
            )
        )
    return tuple(result)
