"""Ranks of a single hidden target, and what they are worth.

A target's rank is the place it would have in the published list: higher scores first, equal scores by item_idx
ascending, as `ranking.top_k` orders. So HR@10 is the share of users whose top 10 holds the target, and a
scorer that ties items is judged by what users would really be shown.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cesrec_core.errors import ArtifactError

Ranks = NDArray[np.int64]

# Rank of a target that no list of this recommender can hold: outside the vocabulary, not allowed, or filtered as seen.
UNREACHABLE = np.iinfo(np.int64).max


def full_ranks(
    scores: NDArray[np.float32],
    target_idx: NDArray[np.int64],
    seen: Sequence[NDArray[np.int64]],
    allowed: NDArray[np.bool_] | None = None,
) -> Ranks:
    """Rank of each target among all items, those that the user has seen left out.

    Args:
        scores: float [B, V + 1]; column 0 is padding and never a candidate.
        target_idx: int64 [B]; 0 where the target is outside the vocabulary.
        seen: B arrays of item_idx to leave out.
        allowed: bool [V + 1], True where an item may be recommended; all where None.

    Returns:
        int64 [B], from 1; UNREACHABLE where the target is not a candidate.

    Raises:
        ArtifactError: a candidate's score is NaN.
    """
    is_allowed = np.ones(scores.shape[1], np.bool_) if allowed is None else allowed.copy()
    is_allowed[0] = False
    candidates = np.where(is_allowed, scores, -np.inf)
    for row, items in enumerate(seen):
        candidates[row, items] = -np.inf
    target_scores = np.take_along_axis(candidates, target_idx[:, None], axis=1)
    # What this costs is passes over all scores, so those that only ties and targets out of reach need are made for them alone.
    is_plain = np.isfinite(target_scores[:, 0]) & ~np.isnan(candidates.max(axis=1))
    is_plain &= np.count_nonzero(candidates == target_scores, axis=1) == 1
    ranks: Ranks = 1 + np.count_nonzero(candidates > target_scores, axis=1)
    rest = np.flatnonzero(~is_plain)
    is_candidate = np.tile(is_allowed, (len(rest), 1))
    for place, row in enumerate(rest.tolist()):
        is_candidate[place, seen[row]] = False
    ranks[rest] = _ranks(scores[rest], np.arange(scores.shape[1])[None, :], is_candidate, target_idx[rest])
    return ranks


def sample_negatives(
    num_items: int, interacted: Sequence[NDArray[np.int64]], num_negatives: int, seed: int
) -> NDArray[np.int64]:
    """Uniform negatives, without repetition, among the items that the user has never interacted with.

    Drawn once and shared by all variants under comparison. A user's draw depends on the seed and the user's place only.

    Args:
        num_items: V.
        interacted: B arrays of item_idx, the targets included.

    Returns:
        int64 [B, num_negatives] of item_idx, ascending; 0 fills up where a user has fewer left.
    """
    negatives = np.zeros((len(interacted), num_negatives), np.int64)
    for row, items in enumerate(interacted):
        is_left = np.ones(num_items + 1, np.bool_)
        is_left[0] = False
        is_left[items] = False
        left = np.flatnonzero(is_left)
        size = min(num_negatives, len(left))
        drawn = np.random.default_rng([seed, row]).choice(left, size=size, replace=False)
        negatives[row, :size] = np.sort(drawn)
    return negatives


def sampled_ranks(scores: NDArray[np.float32], target_idx: NDArray[np.int64], negatives: NDArray[np.int64]) -> Ranks:
    """Rank of each target among itself and its negatives: the protocol of many papers, which reorders methods.

    Args:
        scores: float [B, V + 1].
        target_idx: int64 [B]; 0 where the target is outside the vocabulary.
        negatives: int64 [B, N] from `sample_negatives`; 0 is nothing.

    Raises:
        ArtifactError: a candidate's score is NaN.
    """
    candidates = np.concatenate([negatives, target_idx[:, None]], axis=1)
    return _ranks(np.take_along_axis(scores, candidates, axis=1), candidates, candidates != 0, target_idx)


def _ranks(
    scores: NDArray[np.float32], item_idx: NDArray[np.int64], is_candidate: NDArray[np.bool_], target_idx: NDArray[np.int64]
) -> Ranks:
    """All [B, C]; `item_idx` may be [1, C]."""
    if np.isnan(scores[is_candidate]).any():
        raise ArtifactError(
            "Scores to be ranked hold NaN: the model that gave them has diverged. Train it with a lower learning_rate."
        )
    is_target = is_candidate & (item_idx == target_idx[:, None])
    target_scores = np.where(is_target, scores, -np.inf).max(axis=1, keepdims=True)
    is_before = (scores > target_scores) | ((scores == target_scores) & (item_idx < target_idx[:, None]))
    ranks: Ranks = 1 + (is_candidate & is_before).sum(axis=1, dtype=np.int64)
    ranks[~is_target.any(axis=1)] = UNREACHABLE
    return ranks


def hits(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """Per user: 1 where the target is among the first k. Its mean is HR@k."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """Per user: 1 / log2(1 + rank) within the first k, else 0. With a single target the ideal gain is 1. Mean: NDCG@k."""
    return np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks.astype(np.float64)), 0.0)


def reciprocal_ranks(ranks: Ranks) -> NDArray[np.float64]:
    """Per user: 1 / rank; 0 for what cannot be reached. Its mean is MRR."""
    return np.where(ranks == UNREACHABLE, 0.0, 1.0 / ranks.astype(np.float64))
