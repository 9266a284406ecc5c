import numpy as np
import pytest
import torch
from tiny_features import tiny_features

from cesrec_core.recommenders import TrainableRecommender
from cesrec_core.scoring import Scorer


class LastItem(TrainableRecommender):
    """The state of a place is the vector of its item: item_idx n has (n, 1, 0, 0)."""

    def states(self, item_idx: torch.Tensor) -> torch.Tensor:
        return self.item_vectors()[item_idx]

    def item_vectors(self) -> torch.Tensor:
        vectors = torch.zeros(len(self.item_ids) + 1, 4)
        vectors[1:, 0] = torch.arange(1.0, len(self.item_ids) + 1)
        vectors[1:, 1] = 1.0
        return vectors


@pytest.fixture
def scorer() -> Scorer:
    """The recommender knows i5, i0, an item that left the catalogue, i2 (inactive) and i4, in this order."""
    return Scorer(LastItem(["i5", "i0", "gone", "i2", "i4"], 10, 4), tiny_features(inactive=(2,)))


def test_only_active_items_of_the_catalogue_are_allowed(scorer: Scorer) -> None:
    assert scorer.allowed.tolist() == [False, True, True, False, False, True]
    assert scorer.item_attributes.tolist() == [
        [0, 0, 0],
        [0, 1, 0],  # i5: Red
        [1, 0, 1],  # i0: Blue, Round
        [0, 0, 0],
        [0, 0, 0],
        [1, 0, 1],  # i4: Blue, Round
    ]
    assert scorer.aligned[[0, 3, 4]].abs().sum() == 0
    np.testing.assert_array_equal(scorer.aligned[1].numpy(), scorer.features.aligned[5])


def test_attribute_match_is_wanted_share_minus_unwanted_share(scorer: Scorer) -> None:
    """User 1 wants Blue and Red: each item has one of two. User 2 wants Round, not Blue: 1 - 1. User 3 names the unknown."""
    match = scorer.match([["Blue", "Red"], ["Round"], ["Green"]], [[], ["Blue"], []])
    assert match.attributes.tolist() == [[0, 0.5, 0.5, 0, 0, 0.5], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    assert match.aligned[2].abs().sum() == 0


def test_a_history_is_read_in_the_recommenders_vocabulary(scorer: Scorer) -> None:
    assert scorer.encode([["i5", "i0"], ["i0", "unheard of", "i4"]]).tolist() == [[2.0, 1.0, 0.0, 0.0], [5.0, 1.0, 0.0, 0.0]]
    assert [seen.tolist() for seen in scorer.seen([["i5", "i0"], ["i7"]])] == [[1, 2], []]


def test_a_history_of_items_unknown_to_the_recommender_is_the_mean_of_its_aligned_vectors(scorer: Scorer) -> None:
    aligned = scorer.features.aligned
    found = scorer.encode([["i1", "i3"], ["i5"], ["unheard of"]])
    np.testing.assert_allclose(found[0].numpy(), (aligned[1] + aligned[3]) / 2, rtol=1e-6)
    assert found[1].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert found[2].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_scores_of_the_catalogue_find_their_places_in_the_vocabulary(scorer: Scorer) -> None:
    scores = torch.tensor([[10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0], [10.0, 0.0, 0.0, 0.0, -torch.inf, 15.0, 0.0, 0.0]])
    assert scorer.from_catalogue(scores).tolist() == [[0, 15, 10, 0, 0, 14], [0, 15, 10, 0, 0, 0]]
