"""The worker of recommend."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from cesrec_core import columns as c
from cesrec_core.actors.devices import device_of_worker
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.config import Config
from cesrec_core.constructor.artifact import load_constructor
from cesrec_core.constructor.construction import ConstructionRequest, next_place_scores
from cesrec_core.ranking import base_scores, top_k
from cesrec_core.recommenders.artifact import load_recommender
from cesrec_core.schemas import RECOMMENDATIONS
from cesrec_core.scoring import Scorer

PSEUDO_ITEM_IDS = "pseudo_item_ids"


class Recommend:
    """user_id, item_ids, pseudo_item_ids, round, utterance, wanted_attributes, unwanted_attributes -> recommendations.

    All but the first two are null for users without feedback, who get the base recommender on their own history.
    """

    def __init__(
        self, recommender_folder: Path, constructor_folder: Path, catalogue_folder: Path, config: Config, run_id: str
    ) -> None:
        self.recommender_folder = recommender_folder
        self.constructor_folder = constructor_folder
        self.catalogue_folder = catalogue_folder
        self.config = config
        self.run_id = run_id

    def setup(self) -> None:
        features = CatalogueFeatures.load(self.catalogue_folder)
        recommender, _ = load_recommender(self.recommender_folder)
        self.scorer = Scorer(recommender, features)
        self.constructor = None
        if self.config.recommend.constructor_weight > 0:
            base = Path(self.config.finetune_constructor.model_path)
            constructor = load_constructor(self.constructor_folder, base, features.for_constructor())
            self.constructor = constructor.to(device_of_worker())

    def process(self, shard: pa.Table) -> pa.Table:
        size = self.config.recommend.batch_size
        rows = [row for start in range(0, len(shard), size) for row in self._batch(shard.slice(start, size).to_pylist())]
        return pa.Table.from_pylist(rows, schema=RECOMMENDATIONS.arrow_schema())

    @torch.inference_mode()
    def _batch(self, users: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        vectors = self.scorer.encode([user[PSEUDO_ITEM_IDS] or user[c.ITEM_IDS] for user in users])
        said, heard = self._feedback_scores(users), self._constructor_scores(users)
        parts = [part for part in (said, heard) if part is not None]
        extra = torch.stack(parts).sum(dim=0) if parts else None
        # What a user has had stays seen, whatever the pseudo-sequence put in its place.
        seen = self.scorer.seen([user[c.ITEM_IDS] for user in users])
        chosen, totals = top_k(vectors, self.scorer.item_vectors, seen, self.scorer.allowed, self.config.recommend.top_k, extra)
        base = base_scores(vectors, self.scorer.item_vectors, self.scorer.allowed).gather(1, chosen)
        for row, user in enumerate(users):
            for place in range(chosen.shape[1]):
                idx = int(chosen[row, place])
                if idx == 0:
                    break
                yield {
                    c.RUN_ID: self.run_id,
                    c.USER_ID: user[c.USER_ID],
                    c.RANK: place + 1,
                    c.ITEM_ID: self.scorer.vocabulary.item_ids[idx - 1],
                    c.SCORE: float(totals[row, place]),
                    c.BASE_SCORE: float(base[row, place]),
                    c.FEEDBACK_SCORE: 0.0 if said is None else float(said[row, idx]),
                    c.CONSTRUCTOR_SCORE: 0.0 if heard is None else float(heard[row, idx]),
                    c.ROUND: user[c.ROUND] or 0,
                }

    def _feedback_scores(self, users: Sequence[dict[str, Any]]) -> Tensor | None:
        """Weighted match of words and items, [B, V + 1]; None where nobody in the batch said anything."""
        if not any(user[c.UTTERANCE] for user in users):
            return None
        weights = self.config.recommend
        match = self.scorer.match(
            [user[c.WANTED_ATTRIBUTES] or [] for user in users], [user[c.UNWANTED_ATTRIBUTES] or [] for user in users]
        )
        return weights.attribute_weight * match.attributes + weights.aligned_weight * match.aligned

    def _constructor_scores(self, users: Sequence[dict[str, Any]]) -> Tensor | None:
        """Weighted log-probabilities of the next place, [B, V + 1]; zeros for users without feedback."""
        speaking = [row for row, user in enumerate(users) if user[c.UTTERANCE]]
        if self.constructor is None or not speaking:
            return None
        newest = self.constructor.settings.history_items
        features = self.scorer.features
        requests = []
        for row in speaking:
            codes = features.codes(users[row][PSEUDO_ITEM_IDS] or users[row][c.ITEM_IDS])[-newest:]
            requests.append(ConstructionRequest(codes, [], users[row][c.UTTERANCE], features.is_active))
        result = torch.zeros(len(users), len(self.scorer.codes))
        size = self.config.construct_pseudo_sequences.batch_size
        for start in range(0, len(speaking), size):
            scores = next_place_scores(self.constructor, requests[start : start + size], size)
            result[speaking[start : start + size]] = self.config.recommend.constructor_weight * self.scorer.from_catalogue(
                scores
            )
        return result
