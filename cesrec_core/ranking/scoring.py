"""The parts of a score, for batches of users: the one place where recommender, catalogue and words meet.

Dimensions: B users, V items of the recommender's vocabulary (column 0 = padding), N items of the catalogue, A attributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from cesrec_core.arrow import places_in
from cesrec_core.catalogue import CatalogueFeatures
from cesrec_core.item_lists import ItemLists
from cesrec_core.ranking.feedback_match import FeedbackMatch, Named, feedback_match
from cesrec_core.ranking.product_search import TopProducts, top_products
from cesrec_core.recommenders import Recommender, Vocabulary
from cesrec_core.recommenders.batches import encode_histories


@dataclass(frozen=True)
class ReadHistories:
    """Histories of B users as the scorer reads them.

    Attributes:
        idx: item_idx in the scorer's vocabulary; other items are left out.
        codes: catalogue codes; items outside the catalogue are left out.
    """

    idx: ItemLists
    codes: ItemLists

    def __len__(self) -> int:
        return len(self.idx)


class Scorer:
    """Encodes histories and matches words, over the items that the recommender knows.

    Cold items, which the recommender has never seen, join its vocabulary, at the end, each with its aligned vector m, where it
    has one: the Adapter puts it where an item of such a text would be learned on average. But scores are exponents, and an
    item may well lie off that average: for residuals with covariance S the expected exp(u . v) is exp(u . m + u S u / 2). The
    second term is a bonus that all cold items share and that only the user's vector decides; it becomes one more dimension, 1
    for cold items and 0 for the rest.

    Args:
        include_cold_items: whether they join.
        cold_item_bonus: share of the bonus that counts. Without it hardly a cold item reaches a list; with the whole of it
            they take more places than they earn, for real residuals are not as long-tailed as Gaussian ones.
    """

    def __init__(
        self,
        recommender: Recommender,
        features: CatalogueFeatures,
        include_cold_items: bool = False,
        cold_item_bonus: float = 0.0,
    ) -> None:
        self.recommender = recommender
        self.features = features
        self.include_cold_items = include_cold_items
        self.cold_item_bonus = cold_item_bonus
        code_of = features.catalogue.code_of
        known = set(recommender.item_ids)
        with_vector = [features.catalogue.item_ids[code] for code in np.flatnonzero(features.aligned.any(axis=1))]
        cold = [item_id for item_id in with_vector if include_cold_items and item_id not in known]
        self.num_known = len(recommender.item_ids)
        self.vocabulary = Vocabulary([*recommender.item_ids, *cold])
        item_ids = self.vocabulary.item_ids
        self.item_vectors = recommender.item_vectors()  # [V + 1, D], D + 1 with cold items
        # Only a recommender whose vectors the Adapter has learned can be joined by vectors of the Adapter.
        if cold:
            cold_vectors = torch.from_numpy(features.aligned[features.codes(cold)]).to(self.item_vectors)
            self.item_vectors = torch.cat([self.item_vectors, cold_vectors])
        if include_cold_items:
            is_cold = torch.arange(len(self.item_vectors), device=self.item_vectors.device) > self.num_known
            self.item_vectors = torch.cat([self.item_vectors, is_cold[:, None].to(self.item_vectors)], dim=1)
        # Items that the catalogue no longer lists get code 0 and are never allowed.
        self.codes = np.array([0, *(code_of.get(item_id, 0) for item_id in item_ids)])  # [V + 1]
        is_listed = np.array([False, *(item_id in code_of for item_id in item_ids)])
        self.allowed = torch.from_numpy(is_listed & features.is_active[self.codes])  # bool [V + 1]

    @cached_property
    def idx_of_code(self) -> np.ndarray:
        """int64 [N], item_idx of each item of the catalogue; 0 where the vocabulary lacks it."""
        result = np.zeros(len(self.features.catalogue), np.int64)
        result[self.features.codes(self.vocabulary.item_ids)] = [
            idx for idx, item_id in enumerate(self.vocabulary.item_ids, 1) if item_id in self.features.catalogue.code_of
        ]
        return result

    @cached_property
    def exact_item_vectors(self) -> Tensor:
        """`item_vectors` in float64, for who multiplies them for one user at a time."""
        return self.item_vectors.double()

    @cached_property
    def vocabulary_array(self) -> pa.Array:
        """The vocabulary as Arrow strings."""
        return pa.array(self.vocabulary.item_ids, pa.string())

    def read(self, histories: Sequence[list[str]] | pa.ListArray | pa.ChunkedArray) -> ReadHistories:
        """Item keys -> numbers, for B histories, oldest item first."""
        lists = histories if isinstance(histories, pa.Array | pa.ChunkedArray) else pa.array(histories, pa.list_(pa.string()))
        places = places_in(lists, self.vocabulary_array)
        return ReadHistories(ItemLists(places.idx + 1, places.offsets), self.features.code_lists(lists))

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
    def encode(self, histories: ReadHistories) -> Tensor:
        """User vectors, float32 [B, D], or [B, D + 1] with cold items.

        Of a user none of whose items the recommender knows, it knows what people are like on average. (Not where their
        items lie: what comes after an item need not lie where the item does.)
        """
        vectors = encode_histories(self.recommender, [items[items <= self.num_known] for items in histories.idx])
        if not self.include_cold_items:
            return vectors
        uncertainty = torch.from_numpy(self.features.residual_covariance).to(vectors)
        bonus = self.cold_item_bonus * ((vectors @ uncertainty) * vectors).sum(dim=1, keepdim=True) / 2
        return torch.cat([vectors, bonus], dim=1)

    def top_items(self, histories: ReadHistories, k: int) -> list[list[str]]:
        """The base recommender's k best items for each user, best first, as keys; what they have had is left out."""
        found = self.best(histories, histories.idx, self.allowed, k)
        return [self.vocabulary.decode(row) for row in found.item_idx.cpu().numpy()]

    def best(self, histories: ReadHistories, closed: ItemLists, allowed: Tensor, k: int) -> TopProducts:
        """The base recommender's k best items for each user.

        Args:
            closed: what each user must not be shown.
            allowed: bool [V + 1], what anybody may be.
        """
        return top_products(self.encode(histories), self.item_vectors, closed, allowed.to(self.item_vectors.device), k)

    def match(
        self,
        wanted: Sequence[Sequence[str]],
        unwanted: Sequence[Sequence[str]],
        wanted_items: Sequence[Sequence[str]] = (),
        unwanted_items: Sequence[Sequence[str]] = (),
    ) -> FeedbackMatch:
        """Match of B users' words with all items; attributes and items that are not known here count for nothing.

        Args:
            wanted, unwanted: attributes.
            wanted_items, unwanted_items: item ids; left out: nobody named any.
        """
        asked, refused = self._named(wanted, wanted_items), self._named(unwanted, unwanted_items)
        return feedback_match(asked, refused, self.item_attributes, self.aligned)

    def _named(self, attributes: Sequence[Sequence[str]], items: Sequence[Sequence[str]]) -> Named:
        of_items = _multi_hot(items or [[]] * len(attributes), self.vocabulary.idx_of, len(self.codes))
        return Named(_multi_hot(attributes, self._attribute_places, len(self._attribute_places)), of_items)

    def from_catalogue(self, scores: Tensor) -> Tensor:
        """Scores over the catalogue [B, N] -> over the vocabulary [B, V + 1]; 0 where an item is not allowed anyway."""
        picked = scores[:, torch.from_numpy(self.codes)]
        return torch.where(self.allowed & torch.isfinite(picked), picked, 0.0)


def _multi_hot(named: Sequence[Sequence[str]], place_of: Mapping[str, int], num_places: int) -> Tensor:
    """float32 [B, num_places], 1 at the places of what each user named."""
    result = torch.zeros(len(named), num_places)
    for user, names in enumerate(named):
        for name in names:
            if name in place_of:
                result[user, place_of[name]] = 1.0
    return result
