"""A Markov chain over items, factorised: which item follows which, without any training by gradient.

What follows an item is told by pointwise mutual information of the pairs (item, later item), positive and smoothed; its
truncated SVD (Levy & Goldberg 2014, NIPS) gives each item a vector as the one before and another as the one after. One
more dimension carries the logarithm of popularity, so that a score approximates log P(next item | newest item).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import svds
from torch import Tensor

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.popularity import log_shares
from cesrec_core.recommenders.protocol import PADDING_IDX, CountingRecommender

# Pairs farther apart count for nothing, and neither do older items of a history.
MAX_DISTANCE = 10
# Pairs expected by chance that are added to each pair's count, so that one meeting of two rare items proves little.
SHRINKAGE = 1.0


class Markov(CountingRecommender):
    """See `Recommender` for what the methods promise.

    With `markov_decay` 0 only the newest item counts: the first-order chain. Above it an item counts the decay to the power
    of its distance, as an item-to-item nearest-neighbour model over recent items.
    """

    before: Tensor
    after: Tensor

    def __init__(self, item_ids: list[str], settings: TrainRecommenderSection) -> None:
        super().__init__(item_ids, settings.max_history_items, settings.embedding_dim)
        self.decay = settings.markov_decay
        self.register_buffer("before", torch.zeros(len(item_ids) + 1, self.embedding_dim))
        self.register_buffer("after", torch.zeros(len(item_ids) + 1, self.embedding_dim))

    def fit_counts(self, sequences: Sequence[NDArray[np.int64]]) -> None:
        """See `CountingRecommender.fit_counts`."""
        information = positive_information(count_pairs(sequences, len(self.item_ids), self.decay))
        before, after = factorise(information, self.embedding_dim - 1)
        self.before[1:, :-1], self.after[1:, :-1] = torch.from_numpy(before), torch.from_numpy(after)
        self.after[:, -1] = torch.from_numpy(log_shares(sequences, len(self.item_ids)))

    def states(self, item_idx: Tensor) -> Tensor:
        """int64 [B, L], left-padded -> float32 [B, L, D]: a weighted mean of the newest items' vectors, and a one."""
        length = item_idx.shape[1]
        places = torch.arange(length, device=item_idx.device)
        distance = places[:, None] - places[None, :]  # [L, L], place minus item
        counts = (distance >= 0) & (distance < MAX_DISTANCE)
        weights = torch.where(counts, self.decay ** distance.clamp(min=0).float(), 0.0)  # 0 ** 0 is 1
        weights = weights * (item_idx != PADDING_IDX)[:, None, :]  # [B, L, L]
        weights = weights / weights.sum(dim=2, keepdim=True).clamp(min=1e-12)
        mixed = weights @ self.before[item_idx]  # [B, L, D]
        mixed[..., -1] = 1.0
        return mixed

    def item_vectors(self) -> Tensor:
        """float32 [V + 1, D]; row 0 is zeros."""
        return self.after


def count_pairs(sequences: Sequence[NDArray[np.int64]], num_items: int, decay: float) -> csr_array:
    """How often an item (row) came before another (column), float64 [V, V]; a pair at distance d counts decay^(d - 1)."""
    # One array with gaps of MAX_DISTANCE between users, so that all pairs at one distance are one slice.
    gap = np.zeros(MAX_DISTANCE, np.int64)
    items = np.concatenate([gap, *(part for sequence in sequences for part in (sequence, gap))])
    total = csr_array((num_items, num_items), dtype=np.float64)
    for distance in range(1, MAX_DISTANCE + 1):
        weight = float(decay) ** (distance - 1)
        if weight == 0.0:
            break
        first, second = items[:-distance], items[distance:]
        is_pair = (first > 0) & (second > 0) & (first != second)
        places = (first[is_pair] - 1, second[is_pair] - 1)
        total = total + coo_array((np.full(len(places[0]), weight), places), shape=(num_items, num_items)).tocsr()
    return csr_array(total)


def positive_information(pairs: csr_array) -> csr_array:
    """log(observed / expected) where above zero, observed and expected both shrunk towards each other; [V, V]."""
    observed = coo_array(pairs)
    total = max(float(observed.sum()), 1e-12)
    of_first, of_second = np.asarray(pairs.sum(axis=1)).ravel(), np.asarray(pairs.sum(axis=0)).ravel()
    rows, columns = observed.coords
    expected = of_first[rows] * of_second[columns] / total
    information = np.log((observed.data + SHRINKAGE) / (expected + SHRINKAGE))
    kept = information > 0
    return coo_array((information[kept], (rows[kept], columns[kept])), shape=pairs.shape).tocsr()


def factorise(matrix: csr_array, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two float32 [V, width] whose product is the best approximation of the matrix of that rank."""
    num_items = matrix.shape[0]
    rank = min(width, num_items - 1)
    factors = np.zeros((2, num_items, width), np.float32)
    if rank > 0 and matrix.nnz:
        # The iteration starts, and starts again where it is stuck, from random vectors: seeded, to be always the same.
        left, values, right = svds(matrix, k=rank, rng=np.random.default_rng(0))
        roots = np.sqrt(np.maximum(values, 0.0))
        factors[0, :, :rank], factors[1, :, :rank] = left * roots, right.T * roots
    return factors[0], factors[1]
