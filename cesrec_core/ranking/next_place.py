"""The Constructor's opinion of what comes next, as a part of the score."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from cesrec_core.constructor.construction import next_place_scores
from cesrec_core.constructor.decoding import ConstructionRequest
from cesrec_core.constructor.model import ItemConstructor
from cesrec_core.ranking.scoring import Scorer


def next_place_part(
    constructor: ItemConstructor,
    scorer: Scorer,
    histories: Iterable[np.ndarray],
    utterances: Sequence[str],
    batch_size: int,
    advance: Callable[[int], None] = lambda amount: None,
) -> Tensor:
    """Log-probabilities of the place after each history, float32 [B, V + 1]; 0 where an item is not allowed anyway.

    Args:
        histories: of B users, as catalogue codes, oldest first.
        utterances: what they said.
    """
    newest = constructor.settings.history_items
    is_active = scorer.features.is_active
    requests = [
        ConstructionRequest(codes[-newest:], [], said, is_active) for codes, said in zip(histories, utterances, strict=True)
    ]
    result = torch.zeros(len(requests), len(scorer.codes))
    for start in range(0, len(requests), batch_size):
        scores = next_place_scores(constructor, requests[start : start + batch_size], batch_size)
        result[start : start + batch_size] = scorer.from_catalogue(scores)
        advance(len(scores))
    return result
