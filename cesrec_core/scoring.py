"""The parts of a score, for batches of users: the one place where recommender, catalogue and words meet.

Dimensions: B users, V items of the recommender's vocabulary (column 0 = padding), N items of the catalogue, A attributes.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.ranking import FeedbackMatch, feedback_match
from cesrec_core.recommenders import Recommender, Vocabulary
from cesrec_core.recommenders.batches import left_pad


class Scorer:
    """Encodes histories and matches words, over the items that the recommender knows."""

    def __init__(self, recommender: Recommender, features: CatalogueFeatures) -> None:
        self.recommender = recommender
        self.features = features
        self.vocabulary = Vocabulary(recommender.item_ids)
        self.item_vectors = recommender.item_vectors()  # [V + 1, D]
        code_of = features.catalogue.code_of
        # Items that the catalogue no longer lists get code 0 and are never allowed.
        self.codes = np.array([0, *(code_of.get(item_id, 0) for item_id in recommender.item_ids)])  # [V + 1]
        is_listed = np.array([False, *(item_id in code_of for item_id in recommender.item_ids)])
        self.allowed = torch.from_numpy(is_listed & features.is_active[self.codes])  # bool [V + 1]

    @cached_property
    def item_attributes(self) -> Tensor:
        """float32 [V + 1, A], 1 where the item has the attribute."""
        place_of = self._attribute_places
        result = torch.zeros(len(self.codes), len(place_of))
        for row in torch.nonzero(self.allowed).flatten().tolist():
            for attribute in self.features.catalogue.attributes[self.codes[row]]:
                result[row, place_of[attribute]] = 1.0
        return result

    @cached_property
    def aligned(self) -> Tensor:
        """float32 [V + 1, D]; zeros for padding and items not allowed."""
        return torch.from_numpy(self.features.aligned[self.codes]) * self.allowed[:, None]

    @cached_property
    def _attribute_places(self) -> dict[str, int]:
        return {attribute: place for place, attribute in enumerate(self.features.attribute_names)}

    @torch.inference_mode()
    def encode(self, histories: Sequence[list[str]]) -> Tensor:
        """User vectors, float32 [B, D].

        A user none of whose items the recommender knows is represented by the mean of their items' aligned vectors: the
        Adapter puts them into the same space.
        """
        indices = [self.vocabulary.encode(history) for history in histories]
        vectors = self.recommender.encode(left_pad(indices, self.recommender.max_history_items))
        for user, known in enumerate(indices):
            if len(known) == 0:
                codes = self.features.codes(histories[user])
                aligned = self.features.aligned[codes].mean(axis=0) if len(codes) else np.zeros(vectors.shape[1], np.float32)
                vectors[user] = torch.from_numpy(aligned)
        return vectors

    def seen(self, histories: Sequence[list[str]]) -> list[np.ndarray]:
        """item_idx of each history, for removal from its list."""
        return [self.vocabulary.encode(history) for history in histories]

    def match(self, wanted: Sequence[Sequence[str]], unwanted: Sequence[Sequence[str]]) -> FeedbackMatch:
        """Match of B users' words with all items; attributes that the catalogue does not have count for nothing."""
        return feedback_match(self._multi_hot(wanted), self._multi_hot(unwanted), self.item_attributes, self.aligned)

    def from_catalogue(self, scores: Tensor) -> Tensor:
        """Scores over the catalogue [B, N] -> over the vocabulary [B, V + 1]; 0 where an item is not allowed anyway."""
        picked = scores[:, torch.from_numpy(self.codes)]
        return torch.where(self.allowed & torch.isfinite(picked), picked, 0.0)

    def _multi_hot(self, said: Sequence[Sequence[str]]) -> Tensor:
        result = torch.zeros(len(said), len(self._attribute_places))
        for user, attributes in enumerate(said):
            for attribute in attributes:
                if attribute in self._attribute_places:
                    result[user, self._attribute_places[attribute]] = 1.0
        return result
