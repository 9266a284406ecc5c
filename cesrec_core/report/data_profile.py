"""What a dataset looks like, in numbers that are few however large it is."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class AttributeUse:
    """An attribute of the catalogue: how many items have it, and how many interactions are with them."""

    name: str
    num_items: int
    num_interactions: int


@dataclass(frozen=True)
class DataProfile:
    """Of the tables `user_sequences`, `interactions`, `items` and `feedback`.

    Attributes:
        lengths: people by length of their history, ascending.
        popularity: active items by number of interactions, ascending; 0 where nobody has had them.
        days: interactions by day (UTC), ascending.
        attributes: the most frequent first.
        feedback: utterances by source.
        pairs: different pairs of person and item, by the whole part of the binary logarithms of the history's length and of
            the item's interactions.
    """

    lengths: tuple[tuple[int, int], ...]
    popularity: tuple[tuple[int, int], ...]
    days: tuple[tuple[dt.date, int], ...]
    attributes: tuple[AttributeUse, ...]
    feedback: Mapping[str, int]
    pairs: Mapping[tuple[int, int], int]

    @property
    def num_users(self) -> int:
        return sum(count for _, count in self.lengths)

    @property
    def num_items(self) -> int:
        return sum(count for _, count in self.popularity)

    @property
    def num_interactions(self) -> int:
        return sum(count for _, count in self.days)

    @property
    def filled_share(self) -> float:
        """Of all pairs of a person and an item, those that have met."""
        return sum(self.pairs.values()) / max(1, self.num_users * self.num_items)
