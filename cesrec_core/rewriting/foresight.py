"""Choosing what to put into a history by what the base recommender would then recommend.

What is likeliest at a masked place need not move a recommendation, and what moves it need not be likely there. The
Constructor's distribution over the place *after* the history says what a user who speaks so would take next. An item is as
good for a masked place as the base recommender, once it reads the history with that item, expects the same:

    rating(v) = sum over y of P(y | history, words) log P_base(y | history with v)

Dimensions: B users, N items of the catalogue, V items of the recommender's vocabulary, M items rated.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cesrec_core.constructor.construction import Construction, ItemDecoder, next_place_scores
from cesrec_core.constructor.decoding import ConstructionRequest, Decoding
from cesrec_core.constructor.model import ItemConstructor
from cesrec_core.item_lists import ItemLists
from cesrec_core.ranking.scoring import ReadHistories, Scorer
from cesrec_core.ranking.top_k import base_scores

# What is expected next is told by its likeliest items; the others would cost as much each and weigh little.
NUM_EXPECTED = 50
# Scores of all items for a few of the items that are rated: 128 MiB in float64.
SCORES_PER_BATCH = 2**24


class Expectation:
    """A `Judge` for one user.

    Args:
        scorer: of the base recommender.
        older: int [K], item codes before the history that is rewritten.
        log_probabilities: float [N], of the items for the place after the history, in nats; -inf for those that cannot come.
        num_proposals: of those items, the likeliest that are worth rating at a masked place, too.
    """

    def __init__(self, scorer: Scorer, older: np.ndarray, log_probabilities: Tensor, num_proposals: int) -> None:
        self._scorer = scorer
        self._older = older
        idx_of_code = torch.from_numpy(scorer.idx_of_code)
        known = log_probabilities.double().masked_fill(idx_of_code == 0, -torch.inf)
        values, codes = known.topk(min(max(NUM_EXPECTED, num_proposals), len(known)))
        codes, values = codes[values.isfinite()], values[values.isfinite()]
        self.proposals: Sequence[int] = codes[:num_proposals].tolist()
        self._expected_idx = idx_of_code[codes[:NUM_EXPECTED]]
        self._shares = values[:NUM_EXPECTED].softmax(0)

    def rate(self, codes: np.ndarray, place: int, items: Sequence[int]) -> np.ndarray:
        """See `Judge.rate`; nats."""
        rows = np.tile(np.concatenate([self._older, codes]), (len(items), 1))  # [M, K + L]
        rows[:, len(self._older) + place] = items
        idx = self._scorer.idx_of_code[rows]
        lists = ItemLists.of([row[row > 0] for row in idx])
        scorer = self._scorer
        vectors = scorer.encode(ReadHistories(lists, lists))
        item_vectors, allowed = scorer.exact_item_vectors, scorer.allowed.to(vectors.device)
        expected_idx = self._expected_idx.to(vectors.device)
        blocks = torch.split(vectors, max(1, SCORES_PER_BATCH // len(item_vectors)))
        expected = torch.cat([base_scores(block, item_vectors, allowed)[:, expected_idx] for block in blocks]).cpu()
        # An item that may not be recommended can be expected, and counts alike whatever is put in.
        result: np.ndarray = (torch.where(expected.isfinite(), expected, 0.0) @ self._shares).numpy()
        return result


class ForesightDecoder(ItemDecoder):
    """Decides masked places by what the base recommender would then recommend. Every request gets a judge of its own."""

    def __init__(self, model: ItemConstructor, batch_size: int, decoding: Decoding, scorer: Scorer) -> None:
        super().__init__(model, batch_size, decoding)
        self.scorer = scorer

    def construct(self, requests: Sequence[ConstructionRequest]) -> list[Construction]:
        """See `Decoder`."""
        expected = next_place_scores(self.model, [self._after(request) for request in requests], self.batch_size)
        num_proposals = self.decoding.num_proposals
        judged = [
            dataclasses.replace(request, judge=Expectation(self.scorer, request.older, row, num_proposals))
            for request, row in zip(requests, expected, strict=True)
        ]
        return super().construct(judged)

    def _after(self, request: ConstructionRequest) -> ConstructionRequest:
        """The same words about the place after the history, where nothing comes that the user has had."""
        allowed = np.ones(self.model.num_items, bool) if request.allowed is None else request.allowed.copy()
        allowed[request.history] = False
        return dataclasses.replace(request, masked_positions=(), allowed=allowed)
