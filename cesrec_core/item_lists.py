"""Lists of items of uneven length in two flat arrays: a million histories without a million objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ItemLists:
    """B lists of item_idx, one after the other.

    Attributes:
        idx: int64, all lists' items.
        offsets: int64 [B + 1]; list b is idx[offsets[b]:offsets[b + 1]].
    """

    idx: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, lists: Sequence[NDArray[np.int64]]) -> "ItemLists":
        """Join separate arrays."""
        offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        return cls(np.concatenate([np.zeros(0, np.int64), *lists]).astype(np.int64, copy=False), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int64]:
        return self.idx[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return (self[row] for row in range(len(self)))

    def rows(self, start: int, stop: int) -> "ItemLists":
        """Lists start .. stop - 1."""
        offsets = self.offsets[start : min(stop, len(self)) + 1]
        return ItemLists(self.idx[offsets[0] : offsets[-1]], offsets - offsets[0])

    def row_numbers(self) -> NDArray[np.int64]:
        """int64, parallel to `idx`: the list that each item stands in."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def without(self, idx: int) -> "ItemLists":
        """The lists without one item_idx: 0, say, which stands for nothing."""
        is_kept = self.idx != idx
        kept_before = np.concatenate([[0], np.cumsum(is_kept)])
        return ItemLists(self.idx[is_kept], kept_before[self.offsets])
