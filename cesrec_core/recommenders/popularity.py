"""Popularity: everybody is offered what most people had. The floor that every other recommender has to clear."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.protocol import CountingRecommender

# Added to every count, so that an item without interactions has a logarithm.
SMOOTHING = 0.5


class Popularity(CountingRecommender):
    """See `Recommender` for what the methods promise. Width 1, whatever `embedding_dim` says; scores are log shares."""

    log_share: Tensor

    def __init__(self, item_ids: list[str], settings: TrainRecommenderSection) -> None:
        super().__init__(item_ids, settings.max_history_items, embedding_dim=1)
        self.register_buffer("log_share", torch.zeros(len(item_ids) + 1, 1))

    def fit_counts(self, sequences: Sequence[NDArray[np.int64]]) -> None:
        """See `CountingRecommender.fit_counts`."""
        self.log_share.copy_(torch.from_numpy(log_shares(sequences, len(self.item_ids)))[:, None])

    def states(self, item_idx: Tensor) -> Tensor:
        """int64 [B, L] -> ones, float32 [B, L, 1]."""
        return torch.ones(*item_idx.shape, 1, device=self.log_share.device)

    def item_vectors(self) -> Tensor:
        """float32 [V + 1, 1]; row 0 is zeros."""
        return self.log_share


def log_shares(sequences: Sequence[NDArray[np.int64]], num_items: int) -> NDArray[np.float32]:
    """Logarithm of each item's smoothed share of all interactions, float32 [V + 1]; 0 for padding."""
    items = np.concatenate([np.zeros(0, np.int64), *sequences])
    counts = np.bincount(items[items > 0], minlength=num_items + 1) + SMOOTHING
    result: NDArray[np.float32] = np.log(counts / counts[1:].sum()).astype(np.float32)
    result[0] = 0.0
    return result
