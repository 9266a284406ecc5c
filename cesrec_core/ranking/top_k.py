"""From vectors to lists: base scores, and exact top-k.

Every score is on one scale: the base score is log P(item | history) over the items allowed, in nats. That is what dot
products mean that were trained with cross-entropy, sampled or whole; those of gBCE and BCE, for comparison, are not. A
weight w on a match in [-1, 1] then multiplies an item's odds by up to e^w, for every user alike. (A z-score per user would
blow up the scores of a user about whom the recommender knows little, just where the words should count most.)
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cesrec_core.ranking.product_search import refuse_unless


def base_scores(user_vectors: Tensor, item_vectors: Tensor, allowed: Tensor) -> Tensor:
    """log softmax of the dot products over the allowed items.

    Args:
        user_vectors: float32 [B, D].
        item_vectors: float32 [V + 1, D].
        allowed: bool [V + 1].

    Returns:
        float64 [B, V + 1]; -inf where not allowed, and for padding (column 0).
    """
    scores = user_vectors.double() @ item_vectors.double().T
    is_closed = ~allowed
    is_closed[0] = True
    # Closed once more: where nothing is open, the logarithm of nothing is NaN.
    return scores.masked_fill_(is_closed, -torch.inf).log_softmax(dim=1).masked_fill_(is_closed, -torch.inf)


def top_k(scores: Tensor, seen: Sequence[NDArray[np.int64]], k: int) -> tuple[Tensor, Tensor]:
    """The k best items of each user by scores that are made already; `product_search` is for scores that are products.

    Args:
        scores: float [B, V + 1], -inf where an item may not be recommended, and for padding (column 0).
        seen: B arrays of item_idx that the user must not be shown again.
        k: length of the lists.

    Returns:
        item_idx int64 [B, k] and scores [B, k], best first, equal scores by item_idx ascending. Where a user has
        fewer candidates, the end holds item_idx 0 and score -inf.

    Raises:
        ArtifactError: a score is NaN.
    """
    refuse_unless(not scores.isnan().any())
    open_scores = scores.clone()
    for row, items in enumerate(seen):
        open_scores[row, torch.as_tensor(items, device=scores.device)] = -torch.inf
    return _best(open_scores, k)


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Exact and deterministic, though `torch.topk` promises nothing about ties: [B, V + 1] -> two [B, k].

    Only where the last place of the list ties with the one after it does it matter which of the equals are chosen; those
    rows are few, and take a slower way.
    """
    kept = min(k, scores.shape[1])
    values, item_idx = scores.topk(min(kept + 1, scores.shape[1]), dim=1)
    is_tied_at_the_end = (values[:, kept - 1] == values[:, -1]) & (values.shape[1] > kept)
    item_idx, by_idx = item_idx[:, :kept].sort(dim=1)
    best_scores, by_score = values.gather(1, by_idx).sort(dim=1, descending=True, stable=True)
    item_idx = item_idx.gather(1, by_score)
    if is_tied_at_the_end.any():
        in_order, by_key = scores[is_tied_at_the_end].sort(dim=1, descending=True, stable=True)
        item_idx[is_tied_at_the_end], best_scores[is_tied_at_the_end] = by_key[:, :kept], in_order[:, :kept]
    item_idx = torch.where(best_scores > -torch.inf, item_idx, 0)
    padding = (0, k - kept)
    return torch.nn.functional.pad(item_idx, padding), torch.nn.functional.pad(best_scores, padding, value=-torch.inf)
