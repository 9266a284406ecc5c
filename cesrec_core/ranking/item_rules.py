"""Allow-lists and block-lists of a run, for everybody or for a segment of users."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ALLOW, BLOCK = "allow", "block"


@dataclass(frozen=True)
class ItemRules:
    """Which items whom may be recommended, beyond being active.

    An item on a block-list that applies to a user is never recommended to them. An allow-list without a segment applies to
    everybody: nothing else is recommended to anybody. Of that, a user in segments with allow-lists gets what stands on one
    of these.

    Attributes:
        items_of: item_idx on each list, by rule and segment; the segment None is everybody.
    """

    items_of: dict[tuple[str, str | None], list[int]] = field(default_factory=dict)

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, str | None, str]], idx_of: dict[str, int]) -> "ItemRules":
        """From (rule, segment, item_id); items outside the vocabulary cannot be recommended anyway."""
        items_of: dict[tuple[str, str | None], list[int]] = {}
        for rule, segment, item_id in rows:
            # An allow-list of unknown items still closes all others.
            items = items_of.setdefault((rule, segment), [])
            if item_id in idx_of:
                items.append(idx_of[item_id])
        return cls(items_of)

    def named(self, segments: Iterable[str]) -> tuple[str, ...]:
        """Those of these segments that any list is for: users who share them are allowed the same."""
        return tuple(name for name in segments if (ALLOW, name) in self.items_of or (BLOCK, name) in self.items_of)

    def allowed(self, segments: Iterable[str], num_items: int) -> NDArray[np.bool_]:
        """bool [num_items + 1] for a user of these segments."""
        own: list[str | None] = list(segments)
        result = self._listed([None], num_items) & self._listed(own, num_items)
        for name in (None, *own):
            result[self.items_of.get((BLOCK, name), [])] = False
        return result

    def _listed(self, names: list[str | None], num_items: int) -> NDArray[np.bool_]:
        """What stands on an allow-list of one of these segments; everything where there is no such list."""
        allow_lists = [self.items_of[ALLOW, name] for name in names if (ALLOW, name) in self.items_of]
        result = np.full(num_items + 1, not allow_lists)
        for items in allow_lists:
            result[items] = True
        return result
