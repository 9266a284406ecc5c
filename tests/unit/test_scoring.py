import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_features import tiny_features

from cesrec_core.actors.recommend import Recommend, ScoreParts
from cesrec_core.config import Config
from cesrec_core.ranking.scoring import Scorer
from cesrec_core.ranking.top_k import top_k
from cesrec_core.recommenders import TrainableRecommender


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
    assert scorer.encode(scorer.read([["i5", "i0"], ["i0", "unheard of", "i4"]])).tolist() == [
        [2.0, 1.0, 0.0, 0.0],
        [5.0, 1.0, 0.0, 0.0],
    ]
    read = scorer.read([["i5", "i0"], ["i7", "unheard of", "gone"], []])
    assert [items.tolist() for items in read.idx] == [[1, 2], [3], []]
    assert [codes.tolist() for codes in read.codes] == [[5, 0], [7], []]


def test_users_of_whom_the_recommender_knows_nothing_get_what_people_get_on_average(scorer: Scorer) -> None:
    average = torch.tensor([0.5, 0.0, 0.0, 2.0])
    scorer.recommender.average_state.copy_(average)
    found = scorer.encode(scorer.read([["i1", "i3"], ["i5"], ["unheard of"], []]))
    assert found[[0, 2, 3]].tolist() == [average.tolist()] * 3
    assert found[1].tolist() == [1.0, 1.0, 0.0, 0.0]


def test_scores_of_the_catalogue_find_their_places_in_the_vocabulary(scorer: Scorer) -> None:
    scores = torch.tensor([[10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0], [10.0, 0.0, 0.0, 0.0, -torch.inf, 15.0, 0.0, 0.0]])
    assert scorer.from_catalogue(scores).tolist() == [[0, 15, 10, 0, 0, 14], [0, 15, 10, 0, 0, 0]]


def test_arrow_lists_are_read_like_pythons(scorer: Scorer) -> None:
    histories = [["i5", "i0"], [], ["unheard of", "i4"]]
    whole = pa.chunked_array([pa.array([["i9"]]), pa.array(histories)]).slice(1)
    for lists in (pa.array(histories), whole):
        read = scorer.read(lists)
        assert [items.tolist() for items in read.idx] == [[1, 2], [], [5]]


def test_top_items_are_what_the_recommender_likes_most(scorer: Scorer) -> None:
    """Vectors are (n, 1): after i0 = (2, 1) the greatest allowed n wins; what one had is left out."""
    assert scorer.top_items(scorer.read([["i0"], ["i0", "i4"]]), 2) == [["i4", "i5"], ["i5"]]


def test_cold_items_join_with_their_aligned_vectors() -> None:
    """i1, i3, i6 and i7 are in the catalogue, and the recommender has never seen them."""
    features = tiny_features(inactive=(2, 6))
    scorer = Scorer(LastItem(["i5", "i0", "gone", "i2", "i4"], 10, 4), features, include_cold_items=True)
    assert scorer.vocabulary.item_ids == ["i5", "i0", "gone", "i2", "i4", "i1", "i3", "i6", "i7"]
    np.testing.assert_array_equal(scorer.item_vectors[6:, :4].numpy(), features.aligned[[1, 3, 6, 7]])
    assert scorer.item_vectors[:, 4].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert scorer.allowed.tolist() == [False, True, True, False, False, True, True, True, False, True]
    without = Scorer(LastItem(["i5", "i0", "gone", "i2", "i4"], 10, 4), features)
    for history in (["i0", "i3"], ["i3", "i1"], []):
        expected = torch.cat([without.encode(without.read([history])), torch.zeros(1, 1)], dim=1)
        torch.testing.assert_close(scorer.encode(scorer.read([history])), expected)
    assert [items.tolist() for items in scorer.read([["i3", "i0"]]).idx] == [[7, 2]]
    every_item = [scorer.vocabulary.item_ids[idx] for idx in np.flatnonzero(scorer.allowed.numpy()) - 1]
    assert sorted(scorer.top_items(scorer.read([[]]), 9)[0]) == sorted(every_item)


def test_cold_items_whose_text_gave_no_vector_do_not_join() -> None:
    """Vectors of zeros, and the bonus would lift them above all that people do not care for."""
    features = tiny_features()
    features.aligned[3] = 0.0
    scorer = Scorer(LastItem(["i5", "i0", "i2", "i4"], 10, 4), features, include_cold_items=True)
    assert scorer.vocabulary.item_ids == ["i5", "i0", "i2", "i4", "i1", "i6", "i7"]


def test_the_bonus_of_cold_items_makes_up_for_what_their_vectors_may_be_off() -> None:
    """The whole of it gives the mean of exp(score) over vectors drawn about the aligned one; half of it, half the exponent."""
    generator = torch.Generator().manual_seed(0)
    root = 0.3 * torch.randn(4, 4, generator=generator)
    features = dataclasses.replace(tiny_features(), residual_covariance=(root @ root.T).numpy())
    recommender = LastItem(["i5", "i0"], 10, 4)
    scores = {}
    for share in (0.0, 0.5, 1.0):
        scorer = Scorer(recommender, features, include_cold_items=True, cold_item_bonus=share)
        scores[share] = (scorer.encode(scorer.read([["i5"]])) @ scorer.item_vectors.T)[0]
    user = torch.tensor([1.0, 1.0, 0.0, 0.0])
    cold = torch.from_numpy(features.aligned[1])  # i1, the first of them
    drawn = cold + torch.randn(400_000, 4, generator=generator) @ root.T
    assert scores[1.0][3].exp().item() == pytest.approx((drawn @ user).exp().mean().item(), rel=0.01)
    assert scores[0.5][3].item() == pytest.approx((scores[0.0][3] + scores[1.0][3]).item() / 2, rel=1e-5)
    assert scores[1.0][:3].tolist() == scores[0.0][:3].tolist()


def test_sums_that_differ_by_rounding_are_ties() -> None:
    """Neither the processor nor the other users of a batch decide then, but the order of the vocabulary."""
    base, nothing = torch.tensor([[0.3, 0.1 + 0.2]], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    assert base[0, 0] < base[0, 1]
    assert top_k(ScoreParts(base, nothing, nothing, nothing).total, [np.empty(0, np.int64)], 2)[0].tolist() == [[0, 1]]


def test_what_people_have_had_stays_closed_whatever_was_written_in_its_place(scorer: Scorer) -> None:
    worker = Recommend(Path(), Path(), Path(), None, Config(), "r")
    worker.scorer = scorer
    text = pa.list_(pa.string())
    users = pa.table(
        {
            "item_ids": pa.array([["i5", "i0"], ["i4"]], text),
            "closed_item_ids": pa.array([None, None], text),
            "pseudo_item_ids": pa.array([["i4", "i0"], None], text),
        }
    )
    read, closed = worker._read(users)
    assert [items.tolist() for items in read.idx] == [[5, 2], [5]]
    assert [items.tolist() for items in closed] == [[1, 2], [5]]
