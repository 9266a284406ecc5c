"""Ranks of a single hidden target, and what they are worth.

A target's rank is the place it would have in the published list: higher scores first, equal scores by item_idx
ascending, as `ranking.top_k` orders. So HR@10 is the share of users whose top 10 holds the target, and a
scorer that ties items is judged by what users would really be shown.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cesrec_core.errors import ArtifactError

Ranks = NDArray[np.int64]

# Rank of a target that no list of this recommender can hold: outside the vocabulary, not allowed, or filtered as seen.
UNREACHABLE = np.iinfo(np.int64).max

DIVERGED = "Scores to be ranked hold NaN: the model that gave them has diverged. Train it with a lower learning_rate."
# Scores of `ranks_of_sums` at once, by device: what is read again for every choice of weights stays in a processor's cache; an
# accelerator has to be kept busy.
SCORES_PER_BLOCK = {"cpu": 2**17, "cuda": 2**26}


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


def ranks_of_sums(
    base: Tensor,
    terms: Sequence[Tensor],
    weights: Sequence[Sequence[float]],
    target_idx: NDArray[np.int64],
    seen: Sequence[NDArray[np.int64]],
    allowed: NDArray[np.bool_],
    device: torch.device | None = None,
) -> Ranks:
    """`full_ranks` of base + the sum of weight * term, for many choices of weights; each score is read from memory once.

    Args:
        base: float32 [B, V + 1].
        terms: T of the same shape; finite where an item is a candidate.
        weights: W choices of T weights.
        target_idx, seen, allowed: as for `full_ranks`.
        device: where sums are made and compared; None: where the scores are.

    Returns:
        int64 [W, B].

    Raises:
        ArtifactError: as `full_ranks` does.
    """
    num_users, num_columns = base.shape
    ranks: Ranks = np.empty((len(weights), num_users), np.int64)
    may_be_chosen = torch.from_numpy(allowed.copy())
    may_be_chosen[0] = False
    device = device or base.device
    rows = max(1, SCORES_PER_BLOCK[device.type] // num_columns)
    for start in range(0, num_users, rows):
        block = slice(start, start + rows)
        excluded = ~may_be_chosen.repeat(len(base[block]), 1)
        for row, items in enumerate(seen[block]):
            excluded[row, torch.from_numpy(items)] = True
        excluded = excluded.to(device)
        # 0 for the terms of what is no candidate: whatever stands there, the sum stays -inf.
        parts = [term[block].to(device).masked_fill(excluded, 0.0) for term in terms]
        first = base[block].to(device).masked_fill(excluded, -torch.inf)
        if any(bool(scores.isnan().any()) for scores in (first, *parts)):
            raise ArtifactError(DIVERGED)
        # Made once: a fresh one of this size costs more in page faults than it takes to fill.
        total = torch.empty_like(first)
        for number, choice in enumerate(weights):
            total.copy_(first)
            for weight, part in zip(choice, parts, strict=True):
                total.add_(part, alpha=weight)
            ranks[number, block] = _ranks_in_block(total, torch.from_numpy(target_idx[block]).to(device))
    return ranks


def _ranks_in_block(scores: Tensor, targets: Tensor) -> Ranks:
    """Ranks [b] of targets [b] by scores [b, V + 1], -inf where an item is no candidate."""
    own = scores.gather(1, targets[:, None])
    better, as_good = _count_by_row(scores > own), _count_by_row(scores >= own)
    ranks: Ranks = 1 + better
    for row in np.flatnonzero(as_good - better > 1).tolist():
        ranks[row] += int((scores[row, : int(targets[row])] == own[row]).sum())
    ranks[~own[:, 0].isfinite().cpu().numpy()] = UNREACHABLE
    return ranks


def _count_by_row(is_counted: Tensor) -> NDArray[np.int64]:
    if is_counted.device.type == "cpu":
        # Row by row: along an axis they add up integers, which takes several times as long.
        return np.array([np.count_nonzero(row) for row in is_counted.numpy()])
    counts: NDArray[np.int64] = is_counted.sum(dim=1).cpu().numpy()
    return counts


def sample_negatives(
    num_items: int,
    interacted: Sequence[NDArray[np.int64]],
    num_negatives: int,
    seed: int,
    is_candidate: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Uniform negatives, without repetition, among the items that the user has never interacted with.

    Drawn once and shared by all variants under comparison. A user's draw depends on the seed and the user's place only.

    Args:
        num_items: V, of a vocabulary or a catalogue; numbered from 1 here.
        interacted: B arrays of such numbers, the targets included.
        is_candidate: bool [V + 1], what may be drawn for anybody; all but 0 where it is None.

    Returns:
        int64 [B, min(num_negatives, V)] of such numbers, ascending; 0 fills up where a user has fewer left.
    """
    negatives = np.zeros((len(interacted), min(num_negatives, num_items)), np.int64)
    is_there = np.ones(num_items + 1, np.bool_) if is_candidate is None else is_candidate.copy()
    is_there[0] = False
    for row, items in enumerate(interacted):
        is_left = is_there.copy()
        is_left[items] = False
        left = np.flatnonzero(is_left)
        size = min(num_negatives, len(left))
        drawn = np.random.default_rng([seed, row]).choice(left, size=size, replace=False)
        negatives[row, :size] = np.sort(drawn)
    return negatives


def sampled_ranks(
    full: Ranks, scores: NDArray[np.float32], target_idx: NDArray[np.int64], negatives: NDArray[np.int64]
) -> Ranks:
    """Rank of each target among itself and its negatives: the protocol of many papers, which reorders methods.

    What no list can hold is not found among negatives either: an item that the user has had scores high as a rule.

    Args:
        full: [B] from `full_ranks`, which tell what no list can hold.
        scores: float [B, V + 1].
        target_idx: int64 [B]; 0 where the target is outside the vocabulary.
        negatives: int64 [B, N] from `sample_negatives`; 0 is nothing.

    Raises:
        ArtifactError: a candidate's score is NaN.
    """
    candidates = np.concatenate([negatives, target_idx[:, None]], axis=1)
    among = _ranks(np.take_along_axis(scores, candidates, axis=1), candidates, candidates != 0, target_idx)
    return np.where(full == UNREACHABLE, UNREACHABLE, among)


def _ranks(
    scores: NDArray[np.float32], item_idx: NDArray[np.int64], is_candidate: NDArray[np.bool_], target_idx: NDArray[np.int64]
) -> Ranks:
    """All [B, C]; `item_idx` may be [1, C]."""
    if np.isnan(scores[is_candidate]).any():
        raise ArtifactError(DIVERGED)
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
