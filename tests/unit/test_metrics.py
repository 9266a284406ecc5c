"""Expected values are hand arithmetic."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cesrec_core.errors import ArtifactError
from cesrec_core.evaluation import metrics
from cesrec_core.evaluation.metrics import (
    UNREACHABLE,
    full_ranks,
    hits,
    ndcg,
    ranks_of_sums,
    reciprocal_ranks,
    sample_negatives,
    sampled_ranks,
)

NOTHING_SEEN = [np.array([], np.int64)]


def scores_of(*values: float) -> np.ndarray:
    """One user; column 0 is padding and gets the best score, which must never matter."""
    return np.array([[99.0, *values]], np.float32)


def test_rank_counts_better_unseen_items() -> None:
    scores = scores_of(0.9, 0.8, 0.7, 0.6)
    assert full_ranks(scores, np.array([4]), NOTHING_SEEN).tolist() == [4]
    assert full_ranks(scores, np.array([4]), [np.array([1, 3])]).tolist() == [2]


def test_ties_rank_by_item_idx() -> None:
    scores = scores_of(0.5, 0.5, 0.5)
    assert [full_ranks(scores, np.array([target]), NOTHING_SEEN)[0] for target in (1, 2, 3)] == [1, 2, 3]


def test_items_not_allowed_do_not_compete() -> None:
    allowed = np.array([True, False, True, True])
    assert full_ranks(scores_of(0.9, 0.8, 0.7), np.array([3]), NOTHING_SEEN, allowed).tolist() == [2]


@pytest.mark.parametrize("target", [0, 1, 2])
def test_target_that_no_list_can_hold_is_unreachable(target: int) -> None:
    """0 = outside the vocabulary, 1 = seen before, 2 = not allowed."""
    allowed = np.array([True, True, False, True])
    ranks = full_ranks(scores_of(0.9, 0.8, 0.7), np.array([target]), [np.array([1])], allowed)
    assert ranks.tolist() == [UNREACHABLE]
    assert [hits(ranks, 10), ndcg(ranks, 10), reciprocal_ranks(ranks)] == [0.0, 0.0, 0.0]


def test_nan_scores_are_refused() -> None:
    with pytest.raises(ArtifactError, match=r"NaN.*lower learning_rate"):
        full_ranks(scores_of(0.9, math.nan), np.array([1]), NOTHING_SEEN)


def test_values_of_ranks() -> None:
    ranks = np.array([1, 2, 3, 10, 11])
    assert hits(ranks, 10).tolist() == [1, 1, 1, 1, 0]
    assert ndcg(ranks, 10) == pytest.approx([1, 1 / math.log2(3), 0.5, 1 / math.log2(11), 0])
    assert reciprocal_ranks(ranks) == pytest.approx([1, 1 / 2, 1 / 3, 1 / 10, 1 / 11])


def test_means_over_users() -> None:
    ranks = np.array([1, 3, 7, UNREACHABLE])
    assert hits(ranks, 5).mean() == pytest.approx(2 / 4)
    assert hits(ranks, 10).mean() == pytest.approx(3 / 4)
    assert ndcg(ranks, 5).mean() == pytest.approx((1 + 0.5) / 4)
    assert ndcg(ranks, 10).mean() == pytest.approx((1 + 0.5 + 1 / 3) / 4)
    assert reciprocal_ranks(ranks).mean() == pytest.approx((1 + 1 / 3 + 1 / 7) / 4)


def test_sampled_rank_looks_at_the_negatives_only() -> None:
    scores = scores_of(0.9, 0.8, 0.7, 0.6)
    reached = np.array([3])
    assert sampled_ranks(reached, scores, np.array([4]), np.array([[2, 3]])).tolist() == [3]
    assert sampled_ranks(reached, scores, np.array([4]), np.array([[3, 0]])).tolist() == [2]
    assert sampled_ranks(reached, scores, np.array([0]), np.array([[2, 3]])).tolist() == [UNREACHABLE]
    assert sampled_ranks(np.array([UNREACHABLE]), scores, np.array([4]), np.array([[2, 3]])).tolist() == [UNREACHABLE]


def test_negatives_are_distinct_and_never_interacted() -> None:
    interacted = [np.arange(1, 50), np.array([7])]
    negatives = sample_negatives(200, interacted, 100, seed=3)
    for row, items in enumerate(interacted):
        assert len(set(negatives[row])) == 100
        assert not set(negatives[row]) & {0, *items.tolist()}
    assert np.array_equal(negatives, sample_negatives(200, interacted, 100, seed=3))
    assert not np.array_equal(negatives, sample_negatives(200, interacted, 100, seed=4))


def test_negatives_are_candidates() -> None:
    is_candidate = np.arange(201) % 2 == 0
    negatives = sample_negatives(200, [np.arange(1, 50)], 100, 3, is_candidate)
    assert negatives[negatives > 0].tolist() == list(range(50, 201, 2))
    assert is_candidate[0]  # what was given is left as it was


def test_negatives_are_uniform() -> None:
    """4,000 users draw 5 of 20 items: each is expected 1,000 times, standard deviation 27."""
    counts = np.bincount(sample_negatives(20, [np.array([], np.int64)] * 4000, 5, seed=0).ravel(), minlength=21)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 1000).max() < 5 * 27.4


def test_negatives_run_out_into_zeros() -> None:
    assert sample_negatives(4, [np.array([2])], 5, seed=0).tolist() == [[1, 3, 4, 0]]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5]), min_size=1, max_size=12), st.data())
def test_rank_is_the_place_in_a_stable_sort(values: list[float], data: st.DataObject) -> None:
    target = data.draw(st.integers(1, len(values)))
    in_order = np.argsort(-np.array(values), kind="stable") + 1
    assert full_ranks(scores_of(*values), np.array([target]), NOTHING_SEEN)[0] == in_order.tolist().index(target) + 1


@pytest.mark.parametrize("scores_at_once", [1, 40, 2**19])
def test_ranks_by_many_weights_are_those_of_one_choice_after_the_other(
    scores_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    # Whole numbers tie often, and their sums are exact.
    base, *terms = (torch.from_numpy(rng.integers(-2, 3, (30, 12)).astype(np.float32)) for _ in range(3))
    allowed = rng.random(12) < 0.8
    terms[0][:, ~allowed] = torch.nan
    targets = rng.integers(0, 12, 30)
    seen = [rng.choice(np.arange(1, 12), 3, replace=False) for _ in range(30)]
    weights = [(0.0, 0.0), (1.0, 0.0), (0.5, 2.0)]
    monkeypatch.setitem(metrics.SCORES_PER_BLOCK, "cpu", scores_at_once)
    found = ranks_of_sums(base, terms, weights, targets, seen, allowed)
    for choice, ranks in zip(weights, found, strict=True):
        scores = base + sum(weight * term for weight, term in zip(choice, terms, strict=True))
        assert ranks.tolist() == full_ranks(scores.numpy(), targets, seen, allowed).tolist()
    assert len(np.unique(found)) > 5 and (found == UNREACHABLE).any()


def test_no_sum_is_ranked_that_holds_nan() -> None:
    base, term = torch.zeros(1, 3), torch.tensor([[0.0, 1.0, torch.nan]])
    with pytest.raises(ArtifactError, match="NaN"):
        ranks_of_sums(base, [term], [(0.0,)], np.array([1]), NOTHING_SEEN, np.ones(3, bool))
