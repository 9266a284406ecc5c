"""The chain's counts and what it makes of them, by hand."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch.nn import functional as F

from cesrec_core.config import TrainRecommenderSection
from cesrec_core.recommenders.markov import Markov, count_pairs, factorise


@pytest.mark.parametrize(("decay", "one_apart", "two_apart"), [(0.0, 1.0, 0.0), (0.5, 1.0, 0.5)])
def test_pairs_count_by_distance_and_not_across_users(decay: float, one_apart: float, two_apart: float) -> None:
    """0 is an item outside the vocabulary: it takes a place and is no pair; neither is an item with itself."""
    counts = count_pairs([np.array([1, 2, 3]), np.array([2, 2, 0, 1])], 3, decay).toarray()
    expected = np.zeros((3, 3))
    expected[0, 1] = one_apart  # 1 2
    expected[1, 2] = one_apart  # 2 3
    expected[0, 2] = two_apart  # 1 . 3
    expected[1, 0] = two_apart + decay**2 * (decay > 0)  # 2 . 1 and 2 . . 1 of the second history
    assert counts == pytest.approx(expected)


@pytest.mark.parametrize("width", [3, 4, 6, 8])
def test_factors_are_damped_shares(width: int) -> None:
    """Of rank 3, so that factors of width 3 lose nothing; nothing is known to follow the last item, and it follows nothing."""
    random = np.random.default_rng(0)
    pairs = np.pad(random.random((5, 3)) @ random.random((3, 5)), (0, 1))
    before, after = factorise(csr_array(pairs), width)
    assert before.shape == after.shape == (6, width)
    shares = pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1e-9)
    expected = shares / np.maximum(pairs.sum(axis=0), 1e-9) ** 0.25
    assert before @ after.T == pytest.approx(expected, abs=1e-5)


def test_factors_are_the_best_of_their_rank() -> None:
    """For errors weighted by what is known of a row: by the singular values of the weighted matrix."""
    pairs = np.random.default_rng(0).random((6, 6))
    before, after = factorise(csr_array(pairs), 3)
    roots = np.sqrt(pairs.sum(axis=1, keepdims=True))
    weighted = pairs / roots / pairs.sum(axis=0) ** 0.25
    left, values, right = np.linalg.svd(weighted)
    assert roots * (before @ after.T) == pytest.approx(left[:, :3] * values[:3] @ right[:3], abs=1e-5)


@pytest.mark.parametrize("num_items", [100, 300])
def test_factors_are_always_the_same_where_the_iteration_has_to_start_again(num_items: int) -> None:
    """All singular values of a ring are equal: no start finds more than one of their vectors."""
    ring = count_pairs([np.array([item, item % num_items + 1]) for item in range(1, num_items + 1)], num_items, 0.0)
    first, again = factorise(ring, 16), factorise(ring, 16)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    product = first[0] @ first[1].T
    assert np.linalg.matrix_rank(product, tol=1e-3) == 16
    assert np.linalg.svd(product, compute_uv=False)[:16] == pytest.approx(1.0, abs=1e-4)


def test_scores_are_as_far_apart_as_makes_the_newest_items_likeliest() -> None:
    random = np.random.default_rng(0)
    histories = [(start + random.choice([0, 1, 2, 4], 6).cumsum()) % 20 + 1 for start in range(200)]
    chain = Markov([f"item-{place}" for place in range(20)], TrainRecommenderSection(model="markov", embedding_dim=16))
    chain.fit_counts(histories)
    states = chain.encode(torch.from_numpy(np.stack([history[:-1] for history in histories])))
    newest = torch.tensor([history[-1] for history in histories]) - 1

    def loss(factor: float) -> float:
        scaled = torch.cat([states[:, :-1] * factor, states[:, -1:]], dim=1)
        return float(F.cross_entropy(scaled @ chain.item_vectors()[1:].T, newest))

    assert loss(1.0) < min(loss(0.9), loss(1.1), loss(0.0) - 0.5)


def test_users_whose_items_nothing_follows_get_what_is_popular() -> None:
    chain = Markov(["a", "b", "c", "d"], TrainRecommenderSection(model="markov", embedding_dim=4))
    chain.fit_counts([np.array([1, 2, 3]), np.array([2, 3]), np.array([3]), np.array([4])])
    scores = chain.encode(torch.tensor([[4]])) @ chain.item_vectors()[1:].T
    assert scores[0].argsort(descending=True, stable=True).tolist() == [2, 1, 0, 3]  # had 3, 2, 1 and 1 times


def test_it_is_fitted_where_it_is() -> None:
    """Tensors that name no device come to lie on another one here, as they do where the model is on a GPU."""
    settings = TrainRecommenderSection(model="markov", embedding_dim=4)
    sequences = [np.array([1, 2, 3, 4]), np.array([2, 3, 4, 5]), np.array([5, 1, 2])]
    model, elsewhere = Markov(list("abcde"), settings), Markov(list("abcde"), settings)
    model.fit_counts(sequences)
    with torch.device("meta"):
        elsewhere.fit_counts(sequences)
    assert torch.equal(elsewhere.before, model.before) and model.before.abs().sum() > 0
