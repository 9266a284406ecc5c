"""How much less likely a rewrite makes what a user kept: the measure of feedback drift.

Dimensions: B users, L longest history, V items of the recommender's vocabulary.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cesrec_core.item_lists import ItemLists
from cesrec_core.ranking.scoring import Scorer
from cesrec_core.recommenders import Recommender
from cesrec_core.recommenders.batches import PAIRS_PER_BATCH, left_pad
from cesrec_core.recommenders.protocol import PADDING_IDX

# Scores of all places of a few users at once: 128 MiB in float64.
SCORES_PER_BATCH = 2**24


def likelihood_drops(scorer: Scorer, before: ItemLists, after: ItemLists) -> NDArray[np.float64]:
    """By how much a rewrite lowers the base recommender's mean log-probability of the items that were kept.

    Each kept item is judged by what stands before it in either history; a first item, which follows nothing, is not judged.

    Args:
        before, after: B histories as catalogue codes, oldest first.

    Returns:
        float64 [B], nats per kept item; 0 where there is none that the recommender knows.
    """
    item_ids = scorer.features.catalogue.item_ids
    read = [scorer.read([[item_ids[code] for code in history] for history in lists]).idx for lists in (before, after)]
    known = [[items[items <= scorer.num_known] for items in lists] for lists in read]
    of_before, of_after = (_log_probabilities(scorer.recommender, histories) for histories in known)
    drops = np.zeros(len(before))
    for user, (old, new) in enumerate(zip(of_before, of_after, strict=True)):
        kept = sorted(old.keys() & new.keys())
        if kept:
            drops[user] = np.mean([old[item] - new[item] for item in kept])
    return drops


@torch.inference_mode()
def _log_probabilities(recommender: Recommender, histories: list[NDArray[np.int64]]) -> list[dict[int, float]]:
    """For each history, the log-probability of each item that follows another, by item_idx."""
    vectors = recommender.item_vectors().double()
    longest = recommender.max_history_items
    size = max(1, min(SCORES_PER_BATCH // (len(vectors) * longest), PAIRS_PER_BATCH // longest**2))
    result: list[dict[int, float]] = []
    for start in range(0, len(histories), size):
        padded = left_pad(histories[start : start + size], recommender.max_history_items).to(vectors.device)
        result += [_of_row(row, values) for row, values in zip(padded, _judge(recommender, vectors, padded), strict=True)]
    return result


def _judge(recommender: Recommender, vectors: Tensor, padded: Tensor) -> Tensor:
    """float64 [B, L - 1], log-probability of the items of places 1 to L - 1 by what stands before them."""
    scores = recommender.states(padded)[:, :-1].double() @ vectors.T
    scores[..., PADDING_IDX] = float("-inf")
    return torch.log_softmax(scores, -1).gather(-1, padded[:, 1:, None]).squeeze(-1).cpu()


def _of_row(row: Tensor, values: Tensor) -> dict[int, float]:
    items = row.tolist()
    pairs = zip(items, items[1:], values.tolist(), strict=False)
    return {item: value for context, item, value in pairs if context != PADDING_IDX}
