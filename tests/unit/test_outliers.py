import numpy as np
import pytest
import torch

from cesrec_core.outliers import OutlierRule, find_outliers, mask_lowest, random_mask

EAST, NORTH, WEST, NOTHING, UNKNOWN = 1, 2, 3, 0, 4
NAN = float("nan")
ALIGNED = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [NAN, NAN]])


def rule(num_masked: int = 1, min_kept_items: int = 2, max_history_items: int = 100) -> OutlierRule:
    return OutlierRule(num_masked, min_kept_items, max_history_items)


def history(*items: int) -> np.ndarray:
    return np.array(items, np.int64)


def test_paper_rule_by_hand() -> None:
    """u = mean of (2,0), (2,0), (0,1) = (4/3, 1/3); cos to east = 4/sqrt(17), to north = 1/sqrt(17)."""
    [found] = find_outliers([history(EAST, NORTH, EAST)], ALIGNED, rule())
    assert found.positions.tolist() == [1]
    assert found.similarities == pytest.approx([4 / 17**0.5, 1 / 17**0.5, 4 / 17**0.5], abs=1e-6)


def test_the_lowest_are_masked_and_given_in_ascending_order() -> None:
    [found] = find_outliers([history(EAST, NORTH, EAST, EAST, WEST, EAST)], ALIGNED, rule(num_masked=2))
    assert found.positions.tolist() == [1, 4]


def test_ties_mask_the_older_place() -> None:
    [found] = find_outliers([history(EAST, NORTH, EAST, NORTH, EAST)], ALIGNED, rule())
    assert found.positions.tolist() == [1]


@pytest.mark.parametrize(("length", "num_found"), [(1, 0), (3, 0), (4, 1), (5, 1)])
def test_short_histories_stay_whole(length: int, num_found: int) -> None:
    [found] = find_outliers([history(*[EAST] * length)], ALIGNED, rule(num_masked=1, min_kept_items=3))
    assert len(found.positions) == num_found
    assert len(found.similarities) == length


@pytest.mark.parametrize("without_vector", [NOTHING, UNKNOWN])
def test_items_without_a_vector_are_never_masked_and_do_not_move_the_mean(without_vector: int) -> None:
    [found] = find_outliers([history(EAST, without_vector, NORTH, EAST)], ALIGNED, rule(num_masked=4, min_kept_items=0))
    assert found.positions.tolist() == [0, 2, 3]
    assert np.isnan(found.similarities).tolist() == [False, True, False, False]
    assert found.similarities[2] == pytest.approx(1 / 17**0.5, abs=1e-6)


def test_only_the_newest_items_are_read() -> None:
    [found] = find_outliers([history(WEST, EAST, NORTH, EAST)], ALIGNED, rule(max_history_items=3))
    assert found.positions.tolist() == [2]
    assert np.isnan(found.similarities).tolist() == [True, False, False, False]


def test_a_mask_does_not_hang_on_its_batch() -> None:
    rng = np.random.default_rng(0)
    aligned = torch.from_numpy(rng.normal(size=(200, 48)).astype(np.float32))
    users = [rng.integers(0, 200, size=length) for length in (7, 61, 3, 20, 150)]
    together = find_outliers(users, aligned, rule(num_masked=3))
    for user, found in zip(users, together, strict=True):
        [alone] = find_outliers([user], aligned, rule(num_masked=3))
        assert found.positions.tolist() == alone.positions.tolist()
        assert np.array_equal(found.similarities, alone.similarities, equal_nan=True)


def test_agrees_with_numpy_argsort() -> None:
    rng = np.random.default_rng(1)
    aligned = rng.normal(size=(50, 8)).astype(np.float32)
    user = rng.permutation(50)[:30]
    vectors = aligned[user]
    centre = vectors.mean(axis=0)
    cosines = vectors @ centre / np.linalg.norm(vectors, axis=1) / np.linalg.norm(centre)
    [found] = find_outliers([user], torch.from_numpy(aligned), rule(num_masked=5))
    assert found.positions.tolist() == sorted(np.argsort(cosines)[:5].tolist())


def test_padding_may_stand_anywhere() -> None:
    vectors = ALIGNED[torch.tensor([[NOTHING, EAST, NORTH, EAST], [EAST, NORTH, EAST, NOTHING]])]
    is_item = torch.tensor([[False, True, True, True], [True, True, True, False]])
    _, is_masked = mask_lowest(vectors, is_item, rule())
    assert is_masked.tolist() == [[False, False, True, False], [False, True, False, False]]


def test_no_users() -> None:
    assert find_outliers([], ALIGNED, rule()) == []


def test_random_mask_has_the_same_size_as_the_rule_gives() -> None:
    lengths = [1, 4, 5, 200]
    masks = random_mask(lengths, rule(num_masked=2, min_kept_items=3, max_history_items=50), seed=1)
    assert [len(mask) for mask in masks] == [0, 0, 2, 2]
    assert all(150 <= position < 200 for position in masks[3])
    assert [mask.tolist() for mask in masks] == [sorted(set(mask.tolist())) for mask in masks]


def test_random_mask_is_uniform_and_seeded() -> None:
    """3,000 users mask 1 of 10 places: 300 each, standard deviation 16."""
    masks = random_mask([10] * 3000, rule(), seed=1)
    assert np.abs(np.bincount(np.concatenate(masks), minlength=10) - 300).max() < 5 * 16.5
    assert np.array_equal(masks, random_mask([10] * 3000, rule(), seed=1))
    assert not np.array_equal(masks, random_mask([10] * 3000, rule(), seed=2))
