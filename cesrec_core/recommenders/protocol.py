"""What every base recommender offers, and the vocabulary all of them share.

Dimensions: B users, L sequence length, D embedding_dim, V items. `item_idx` of an item = its place in `item_ids` + 1;
0 is padding, always on the left.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PADDING_IDX = 0


@runtime_checkable
class Recommender(Protocol):
    """A sequential recommender whose score is a dot product, so that top-k over all items is one matrix product.

    It is fitted by the loop of `training/train_recommender.py`, by gradients or `CountingRecommender.fit_counts`; `artifact`
    saves and loads it.

    Attributes:
        item_ids: vocabulary, V external keys.
        max_history_items: only that many of the newest items are read.
        embedding_dim: D.
        average_state: float32 [D], of people with a history: what is known of one without. Zeros before the end of training.
    """

    item_ids: list[str]
    max_history_items: int
    embedding_dim: int
    average_state: Tensor

    def states(self, item_idx: Tensor) -> Tensor:
        """State after every place: int64 [B, L], left-padded, L <= max_history_items -> float32 [B, L, D].

        The state of a place depends on no item but its own and older ones; where places have learned vectors, these count
        from the newest, so it depends on how many follow as well. States of padding are undefined.
        """
        ...

    def encode(self, item_idx: Tensor) -> Tensor:
        """State after the newest item: int64 [B, L], left-padded, any L -> float32 [B, D]."""
        ...

    def item_vectors(self) -> Tensor:
        """The collaborative embeddings, float32 [V + 1, D]; row 0 is zeros."""
        ...


class TrainableRecommender(torch.nn.Module, ABC):
    """What the registry builds: a torch module that is a Recommender. Subclasses write `states` and `item_vectors`."""

    def __init__(self, item_ids: list[str], max_history_items: int, embedding_dim: int) -> None:
        super().__init__()
        self.item_ids = item_ids
        self.max_history_items = max_history_items
        self.embedding_dim = embedding_dim
        self.average_state: Tensor
        self.register_buffer("average_state", torch.zeros(embedding_dim))

    @abstractmethod
    def states(self, item_idx: Tensor) -> Tensor:
        """See `Recommender.states`."""

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """See `Recommender.item_vectors`."""

    def encode(self, item_idx: Tensor) -> Tensor:
        """See `Recommender.encode`."""
        return self.states(item_idx[:, -self.max_history_items :])[:, -1]


class CountingRecommender(TrainableRecommender):
    """A recommender that is fitted in one go from counts, without gradients; its tensors are buffers."""

    @abstractmethod
    def fit_counts(self, sequences: Sequence[NDArray[np.int64]]) -> None:
        """Fit on histories of item_idx, oldest first; 0 is an item outside the vocabulary."""


@dataclass(frozen=True)
class Vocabulary:
    """From external keys to `item_idx` and back.

    Attributes:
        item_ids: V external keys; item_idx = place + 1.
    """

    item_ids: list[str] = field(repr=False)

    @cached_property
    def idx_of(self) -> dict[str, int]:
        return {item_id: idx for idx, item_id in enumerate(self.item_ids, start=1)}

    def __len__(self) -> int:
        return len(self.item_ids)

    def encode(self, item_ids: list[str]) -> NDArray[np.int64]:
        """Item keys -> item_idx, int64; keys outside the vocabulary are left out, since no vector stands for them."""
        known = (self.idx_of.get(item_id, PADDING_IDX) for item_id in item_ids)
        return np.fromiter((idx for idx in known if idx != PADDING_IDX), np.int64)

    def decode(self, item_idx: NDArray[np.int64]) -> list[str]:
        """item_idx -> item keys; padding is left out."""
        return [self.item_ids[idx - 1] for idx in item_idx if idx != PADDING_IDX]
