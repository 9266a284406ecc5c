"""A Markov chain over items, factorised: which item follows which, without any training by gradient.

What follows an item is told by its shares among all that did, popular ones damped. A truncated SVD gives each item a vector
as the one before and another as the one after. One more dimension carries the logarithm of popularity, for users whose
items nothing is known to follow.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.nn import functional as F

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.batches import encode_histories
from cesrec_core.recommenders.popularity import log_shares
from cesrec_core.recommenders.protocol import PADDING_IDX, CountingRecommender

# Pairs farther apart count for nothing, and neither do older items of a history.
MAX_DISTANCE = 10
# A share is divided by this power of how often the later item follows anything. Chosen, as the next, on validation items.
DAMPING = 0.25
# Of the logarithm of popularity in a score: enough to break ties.
POPULARITY_WEIGHT = 0.05
# Histories whose newest item tells how far scores should be apart: as many as have so many scores (128 MiB), within bounds.
SCORES_OF_SCALE = 2**25
MIN_HISTORIES_OF_SCALE, MAX_HISTORIES_OF_SCALE = 50, 2000
# Nats that scores may be apart at most.
MAX_SCALE = 30.0


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
        pairs = count_pairs(sequences, len(self.item_ids), self.decay)
        before, after = factorise(pairs, self.embedding_dim - 1)
        self.before[1:, :-1], self.after[1:, :-1] = torch.from_numpy(before), torch.from_numpy(after)
        popularity = torch.from_numpy(log_shares(sequences, len(self.item_ids)))
        self.after[:, -1] = POPULARITY_WEIGHT * popularity
        self.before *= self._best_scale(sequences)

    def _best_scale(self, sequences: Sequence[NDArray[np.int64]]) -> float:
        """The factor of scores under which newest items are likeliest, so that exp(score) is on the scale of a probability."""
        known = [items for items in (sequence[sequence != PADDING_IDX] for sequence in sequences) if len(items) > 1]
        affordable = min(MAX_HISTORIES_OF_SCALE, max(MIN_HISTORIES_OF_SCALE, SCORES_OF_SCALE // len(self.item_ids)))
        few = np.random.default_rng(0).permutation(len(known))[:affordable].tolist()
        if not few:
            return 1.0
        states = encode_histories(self, [known[row][:-1] for row in few])
        chain = states[:, :-1] @ self.after[1:, :-1].T
        targets = torch.tensor([known[row][-1] for row in few], device=chain.device) - 1
        unit = max(float(chain.abs().max()), 1e-12)

        def loss(scale: float) -> float:
            return float(F.cross_entropy(chain * (scale / unit) + self.after[1:, -1], targets))

        return float(minimize_scalar(loss, bounds=(0.0, MAX_SCALE), method="bounded").x) / unit

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


def factorise(pairs: csr_array, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two float32 [V, width], whose product is about pairs[i, j] / (total of row i * total of column j ^ DAMPING).

    It is the best of its rank for squared errors weighted by the row's total: what is known from many pairs counts for more.
    """
    num_items = pairs.shape[0]
    rank = min(width, num_items)
    factors = np.zeros((2, num_items, width), np.float32)
    if rank > 0 and pairs.nnz:
        of_rows, of_columns = pairs.sum(axis=1), pairs.sum(axis=0)
        roots = np.sqrt(np.where(of_rows > 0, of_rows, 1.0))
        damped = np.where(of_columns > 0, of_columns, 1.0) ** DAMPING
        matrix = diags_array(1 / roots) @ pairs @ diags_array(1 / damped)
        if rank == num_items:  # which the iteration cannot give
            left, values, right = np.linalg.svd(matrix.toarray())
        else:
            left, values, right = _truncated_svd(csr_array(matrix), rank)
        halves = np.sqrt(np.maximum(values, 0.0))
        factors[0, :, :rank], factors[1, :, :rank] = left * halves / roots[:, None], right.T * halves
    return factors[0], factors[1]


def _truncated_svd(matrix: csr_array, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Left vectors [V, rank], the greatest singular values [rank], right vectors [rank, V]; every time the same.

    As SciPy's `svds` goes about it, which seeds the first vector alone: where the iteration is stuck (many equal values), it
    starts again from a random one, and those are seeded here, too.
    """
    random = np.random.default_rng(0)
    gram = LinearOperator(matrix.shape, matvec=lambda vector: matrix.T @ (matrix @ vector), dtype=np.float64)
    _, basis = eigsh(gram, k=rank, v0=random.standard_normal(matrix.shape[1]), rng=random)
    basis, _ = np.linalg.qr(basis)  # nearly orthogonal is not enough where values are close to one another
    left, values, turned = np.linalg.svd(matrix @ basis, full_matrices=False)
    return left, values, turned @ basis.T
