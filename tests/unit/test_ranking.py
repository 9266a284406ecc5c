import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cesrec_core.errors import ArtifactError
from cesrec_core.ranking.feedback_match import Named, feedback_match
from cesrec_core.ranking.top_k import base_scores, top_k

# One user vector of width 1, so that an item's dot product is its own only number.
USER = torch.ones(1, 1)
NOTHING_SEEN = [np.array([], np.int64)]


def items(*values: float) -> torch.Tensor:
    """Row 0 is padding; its score would win if it were looked at."""
    return torch.tensor([99.0, *values])[:, None]


def scores_of(*values: float) -> torch.Tensor:
    return torch.tensor([[-math.inf, *values]])


def test_best_first_seen_and_closed_items_left_out() -> None:
    item_idx, scores = top_k(scores_of(1.0, 5.0, 3.0, -math.inf, 2.0), [np.array([2])], k=2)
    assert item_idx.tolist() == [[3, 5]]
    assert scores.tolist() == [[3.0, 2.0]]


def test_the_scores_given_are_left_alone() -> None:
    scores = scores_of(1.0, 2.0)
    top_k(scores, [np.array([2])], k=1)
    assert scores.tolist() == scores_of(1.0, 2.0).tolist()


def test_equal_scores_by_item_idx() -> None:
    assert top_k(scores_of(1.0, 2.0, 1.0, 2.0, 1.0), NOTHING_SEEN, k=4)[0].tolist() == [[2, 4, 1, 3]]


def test_negative_zero_ties_with_zero() -> None:
    assert top_k(scores_of(0.0, -0.0, 0.0, -1.0), NOTHING_SEEN, 3)[0].tolist() == [[1, 2, 3]]


def test_too_few_candidates_end_in_padding() -> None:
    item_idx, scores = top_k(scores_of(1.0, 2.0), [np.array([1])], k=4)
    assert item_idx.tolist() == [[2, 0, 0, 0]]
    assert scores[0, 1:].tolist() == [-math.inf] * 3


def test_nothing_to_show() -> None:
    assert top_k(scores_of(1.0, 2.0), [np.array([1, 2])], k=2)[0].tolist() == [[0, 0]]


def test_scores_are_log_probabilities_over_what_is_allowed() -> None:
    vectors = items(math.log(1.0), math.log(2.0), math.log(5.0))
    allowed = torch.tensor([False, True, False, True])
    scores = base_scores(USER, vectors, allowed)
    assert scores[0].exp().tolist() == pytest.approx([0.0, 1 / 6, 0.0, 5 / 6])
    assert allowed.tolist() == [False, True, False, True]


def test_a_score_that_is_no_number_is_refused_and_leaves_nobody_without_a_list_in_silence() -> None:
    users = torch.tensor([[1.0], [math.nan]])
    scores = base_scores(users, items(1.0, 2.0), torch.ones(3, dtype=torch.bool))
    with pytest.raises(ArtifactError, match="not finite: the model that gave it has diverged"):
        top_k(scores, NOTHING_SEEN * 2, 2)


def test_where_nothing_is_allowed_there_is_nothing_to_show() -> None:
    scores = base_scores(USER, items(1.0, 2.0), torch.zeros(3, dtype=torch.bool))
    assert scores.tolist() == [[-math.inf] * 3]
    assert top_k(scores, NOTHING_SEEN, 2)[0].tolist() == [[0, 0]]


def test_padding_is_never_a_candidate_though_it_be_allowed() -> None:
    assert base_scores(USER, items(1.0), torch.ones(2, dtype=torch.bool)).tolist() == [[-math.inf, 0.0]]


@settings(deadline=None)
@given(st.lists(st.sampled_from([-2.5, -1.0, -0.0, 0.0, 0.5, 3.0]), min_size=1, max_size=30), st.integers(1, 12), st.data())
def test_order_is_numpys_stable_argsort(values: list[float], k: int, data: st.DataObject) -> None:
    seen = data.draw(st.sets(st.integers(1, len(values))))
    item_idx, _ = top_k(scores_of(*values), [np.array(sorted(seen), np.int64)], k)
    in_order = [idx for idx in (np.argsort(-np.array(values), kind="stable") + 1).tolist() if idx not in seen]
    assert item_idx[0].tolist() == (in_order + [0] * k)[:k]


# Items 1..5: comedy, comedy + drama, drama, nothing, nothing. From their mean, item 1 and 2 lie east, 3 north, 4
# south-west; 5 has no vector.
ATTRIBUTES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
ALIGNED = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [-3.0, -3.0], [float("nan")] * 2])


def named(attributes: torch.Tensor, items: dict[int, float] | None = None) -> Named:
    """What was said of attributes, and of items of the first user."""
    of_items = torch.zeros(len(attributes), 6)
    for item_idx, value in (items or {}).items():
        of_items[0, item_idx] = value
    return Named(attributes, of_items)


def test_attribute_match_is_a_share_of_what_was_said() -> None:
    wanted = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    unwanted = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    match = feedback_match(named(wanted), named(unwanted), ATTRIBUTES, ALIGNED)
    assert match.attributes[:, 1:].tolist() == [[0.5, 1, 0.5, 0, 0], [1, 0, -1, 0, 0], [0, 0, 0, 0, 0]]


def test_aligned_match_by_hand() -> None:
    """Wanted comedy: items 1, 2, mean east. Unwanted drama: items 2, 3, mean of east and north = 45 degrees."""
    match = feedback_match(named(torch.tensor([[1.0, 0.0]])), named(torch.tensor([[0.0, 1.0]])), ATTRIBUTES, ALIGNED)
    diagonal = 0.5**0.5
    assert match.aligned[0].tolist() == pytest.approx([0, 1 - diagonal, 1 - diagonal, -diagonal, 1 - diagonal, 0], abs=1e-6)


def test_items_that_were_named_are_directions_too() -> None:
    """Item 3 lies north and item 4 south-west, so 45 degrees from neither east nor north but 135 from both."""
    nothing = torch.zeros(1, 2)
    match = feedback_match(named(nothing, {3: 1.0}), named(nothing), ATTRIBUTES, ALIGNED)
    diagonal = 0.5**0.5
    assert match.aligned[0].tolist() == pytest.approx([0, 0, 0, 1, -diagonal, 0], abs=1e-6)
    assert not match.attributes.any()
    turned_down = feedback_match(named(nothing), named(nothing, {3: 1.0}), ATTRIBUTES, ALIGNED)
    assert turned_down.aligned.tolist() == (-match.aligned).tolist()


def test_an_attribute_and_an_item_meet_half_way() -> None:
    """Comedy points east, item 3 north: what is wanted lies at 45 degrees of either."""
    match = feedback_match(named(torch.tensor([[1.0, 0.0]]), {3: 1.0}), named(torch.zeros(1, 2)), ATTRIBUTES, ALIGNED)
    assert match.aligned[0, 1:4].tolist() == pytest.approx([0.5**0.5] * 3, abs=1e-6)


def test_items_with_more_of_what_was_said_weigh_more() -> None:
    """Wanted both: shares 1/2, 1, 1/2 give (1.5, 0.5), so east matches by 3 / sqrt(10)."""
    match = feedback_match(named(torch.tensor([[1.0, 1.0]])), named(torch.zeros(1, 2)), ATTRIBUTES, ALIGNED)
    assert match.aligned[0, 1] == pytest.approx(3 / 10**0.5)


def test_what_all_items_share_does_not_count() -> None:
    """The same vectors far from the origin, where all of them point the same way."""
    wanted, unwanted = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    shifted = torch.where(ALIGNED != 0, ALIGNED, 0.0) + torch.tensor([50.0, -20.0])
    shifted[0] = 0.0
    near, far = (feedback_match(named(wanted), named(unwanted), ATTRIBUTES, vectors).aligned for vectors in (ALIGNED, shifted))
    assert torch.allclose(near, far, atol=1e-5)


def test_attribute_that_no_item_has_matches_nothing() -> None:
    match = feedback_match(named(torch.tensor([[1.0]])), named(torch.zeros(1, 1)), torch.zeros(6, 1), ALIGNED)
    assert not match.attributes.any()
    assert not match.aligned.any()
