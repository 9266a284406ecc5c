"""What somebody wants by all that they have said. `frames.histories.words_by_user` says the same in Spark."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Said(Protocol):
    """One utterance as it was understood."""

    @property
    def is_clear(self) -> bool: ...
    @property
    def wanted_attributes(self) -> tuple[str, ...]: ...
    @property
    def unwanted_attributes(self) -> tuple[str, ...]: ...
    @property
    def wanted_item_ids(self) -> tuple[str, ...]: ...
    @property
    def unwanted_item_ids(self) -> tuple[str, ...]: ...


class Wishes(NamedTuple):
    """What somebody wants and does not want by all that they said."""

    wanted_attributes: tuple[str, ...]
    unwanted_attributes: tuple[str, ...]
    wanted_item_ids: tuple[str, ...]
    unwanted_item_ids: tuple[str, ...]


def settled(said: Iterable[Said]) -> Wishes:
    """What clear utterances of one user mean together, oldest first: of what is spoken of twice the later word counts."""
    attributes: dict[str, bool] = {}
    items: dict[str, bool] = {}
    for one in said:
        if one.is_clear:
            attributes |= dict.fromkeys(one.wanted_attributes, True) | dict.fromkeys(one.unwanted_attributes, False)
            items |= dict.fromkeys(one.wanted_item_ids, True) | dict.fromkeys(one.unwanted_item_ids, False)
    return Wishes(
        *(
            tuple(name for name, is_wanted in of_kind.items() if is_wanted is wanted)
            for of_kind in (attributes, items)
            for wanted in (True, False)
        )
    )
