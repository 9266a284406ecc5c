import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from cesrec_core.config import MaskOutliersSection
from cesrec_core.item_lists import ItemLists
from cesrec_core.rewriting.outliers import (
    ITEMS_PER_BLOCK,
    MIN_DEVIATION_SHARE,
    OutlierRule,
    WhyKept,
    _middle_and_deviation,
    _Space,
    explain,
    find_outliers,
)

EAST, NORTH, WEST, NOTHING, UNKNOWN = 1, 2, 3, 0, 4
NAN = float("nan")
ALIGNED = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [NAN, NAN]])


def rule(num_masked: int = 1, min_kept_items: int = 2, max_history_items: int = 100) -> OutlierRule:
    return OutlierRule(num_masked, min_kept_items, max_history_items)


def histories(*items: np.ndarray) -> ItemLists:
    return ItemLists.of(items)


def history(*items: int) -> np.ndarray:
    return np.array(items, np.int64)


def test_paper_rule_by_hand() -> None:
    """u = mean of (2,0), (2,0), (0,1) = (4/3, 1/3); cos to east = 4/sqrt(17), to north = 1/sqrt(17)."""
    [found] = find_outliers(histories(history(EAST, NORTH, EAST)), ALIGNED, rule())
    assert found.positions.tolist() == [1]
    assert found.similarities == pytest.approx([4 / 17**0.5, 1 / 17**0.5, 4 / 17**0.5], abs=1e-6)


def test_the_lowest_are_masked_and_given_in_ascending_order() -> None:
    [found] = find_outliers(histories(history(EAST, NORTH, EAST, EAST, WEST, EAST)), ALIGNED, rule(num_masked=2))
    assert found.positions.tolist() == [1, 4]


def test_ties_mask_the_older_place() -> None:
    [found] = find_outliers(histories(history(EAST, NORTH, EAST, NORTH, EAST)), ALIGNED, rule())
    assert found.positions.tolist() == [1]


def test_what_rounding_tells_apart_is_a_tie() -> None:
    """The last but one lies 2e-8 nearer by cosine than the last, which a batch of another shape might not see."""
    vectors = around(0, 0, 0, 60, 60 + 3e-6).double()
    similarities = torch.cosine_similarity(vectors, vectors.sum(dim=0, keepdim=True)).numpy()
    assert 0 < similarities[3] - similarities[4] < 5e-7
    [found] = find_outliers(histories(np.arange(5)), vectors, rule())
    assert found.positions.tolist() == [3]


@pytest.mark.parametrize(("length", "num_found"), [(1, 0), (3, 0), (4, 1), (5, 1)])
def test_short_histories_stay_whole(length: int, num_found: int) -> None:
    [found] = find_outliers(histories(history(*[EAST] * length)), ALIGNED, rule(num_masked=1, min_kept_items=3))
    assert len(found.positions) == num_found
    assert len(found.similarities) == length


@pytest.mark.parametrize("without_vector", [NOTHING, UNKNOWN])
def test_items_without_a_vector_are_never_masked_and_do_not_move_the_mean(without_vector: int) -> None:
    [found] = find_outliers(
        histories(history(EAST, without_vector, NORTH, EAST)), ALIGNED, rule(num_masked=3, min_kept_items=0)
    )
    assert found.positions.tolist() == [0, 2, 3]
    assert np.isnan(found.similarities).tolist() == [False, True, False, False]
    assert found.similarities[2] == pytest.approx(1 / 17**0.5, abs=1e-6)


def test_only_items_with_a_vector_count_as_those_that_are_kept() -> None:
    """One that there is nothing to compare with does not lie far from anything."""
    alone = history(EAST, NOTHING, NOTHING, UNKNOWN)
    enough = history(EAST, NOTHING, NORTH, EAST, EAST)
    found = find_outliers(histories(alone, enough), ALIGNED, rule(num_masked=1, min_kept_items=3))
    assert [one.positions.tolist() for one in found] == [[], [2]]


def test_only_the_newest_items_are_read() -> None:
    [found] = find_outliers(histories(history(WEST, EAST, NORTH, EAST)), ALIGNED, rule(max_history_items=3))
    assert found.positions.tolist() == [2]
    assert np.isnan(found.similarities).tolist() == [True, False, False, False]


def test_a_mask_does_not_hang_on_its_batch() -> None:
    rng = np.random.default_rng(0)
    aligned = torch.from_numpy(rng.normal(size=(200, 48)).astype(np.float32))
    users = [rng.integers(0, 200, size=length) for length in (7, 61, 3, 20, 150)]
    together = find_outliers(histories(*users), aligned, rule(num_masked=3))
    for user, found in zip(users, together, strict=True):
        [alone] = find_outliers(histories(user), aligned, rule(num_masked=3))
        assert found.positions.tolist() == alone.positions.tolist()
        assert np.array_equal(found.similarities, alone.similarities, equal_nan=True)


def test_agrees_with_numpy_argsort() -> None:
    rng = np.random.default_rng(1)
    aligned = rng.normal(size=(50, 8)).astype(np.float32)
    user = rng.permutation(50)[:30]
    vectors = aligned[user]
    centre = vectors.mean(axis=0)
    cosines = vectors @ centre / np.linalg.norm(vectors, axis=1) / np.linalg.norm(centre)
    [found] = find_outliers(histories(user), torch.from_numpy(aligned), rule(num_masked=5))
    assert found.positions.tolist() == sorted(np.argsort(cosines)[:5].tolist())


def test_no_users() -> None:
    assert len(find_outliers(histories(), ALIGNED, rule())) == 0


def test_blocks_change_nothing() -> None:
    """More items than a block holds, a history longer than one, and users without items."""
    rng = np.random.default_rng(2)
    aligned = torch.from_numpy(rng.normal(size=(300, 4)).astype(np.float32))
    lengths = [*rng.integers(0, 60, 900), ITEMS_PER_BLOCK + 5, 0, 3]
    users = [rng.integers(0, 300, length) for length in lengths]
    for by in (rule(2), OutlierRule(2, 2, 10**6, min_deviations=1.5), OutlierRule(2, 2, 10**6, random_seed=7)):
        together = find_outliers(histories(*users), aligned, by)
        assert len(together) == len(users)
        for user in (0, 1, 450, 899, 900, 901, 902):
            [alone] = find_outliers(histories(users[user]), aligned, by)
            assert together[user].positions.tolist() == alone.positions.tolist()
            assert np.array_equal(together[user].similarities, alone.similarities, equal_nan=True)


def around(*degrees: float) -> torch.Tensor:
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angles.cos(), angles.sin()], dim=1).float()


ADAPTIVE = OutlierRule(num_masked=2, min_kept_items=2, max_history_items=100, min_deviations=4.0)


@pytest.mark.parametrize(
    ("degrees", "masked"),
    [
        ((0, 8, -9, 5, 90, -4, 12), [4]),  # one item out of line
        ((0, 8, -9, 5, 90, -4, 12, 0, 3, -100), [4, 9]),  # two, and no more are allowed
        ((0, 1, -1, 2, -2, 1, 4), []),  # a coherent user: what lies farthest is still close
        ((0, 25, -30, 50, -60, 80, -85), []),  # an eclectic one: everything is spread out
    ],
)
def test_adaptive_masks_only_what_stands_out_of_the_users_own_spread(degrees: tuple[float, ...], masked: list[int]) -> None:
    [found] = find_outliers(histories(np.arange(len(degrees))), around(*degrees), ADAPTIVE)
    assert found.positions.tolist() == masked


@pytest.mark.parametrize("num_of_second_taste", [0, 2, 4, 6, 8, 10])
@pytest.mark.parametrize(
    ("noise", "most_lose", "least_found"), [(0.1, 0.0, 0.5), (0.3, 0.0, 0.5), (0.6, 0.005, 0.2), (1.0, 0.02, 0.0)]
)
def test_adaptive_leaves_whole_who_has_one_taste_or_two(
    num_of_second_taste: int, noise: float, most_lose: float, least_found: float
) -> None:
    """1,000 users of 20 items around two directions of their own, in 32 dimensions; a stray item of a third is found.

    The noise is up to as long as a direction: then two items of one taste lie as far apart as 60 degrees on average.
    """
    rng = np.random.default_rng(0)
    num_users, length, width = 1000, 20, 32
    tastes = rng.normal(size=(num_users, 3, width))
    tastes /= np.linalg.norm(tastes, axis=2, keepdims=True)
    which = np.where(np.arange(length) < num_of_second_taste, 1, 0)
    which_with_stray = np.where(np.arange(length) == length - 1, 2, which)
    users = histories(*np.arange(num_users * length).reshape(num_users, length))
    adaptive = OutlierRule(num_masked=2, min_kept_items=2, max_history_items=100, min_deviations=4.0)
    noises = rng.normal(scale=noise / np.sqrt(width), size=(num_users, length, width))

    def masked(of_item: np.ndarray) -> np.ndarray:
        vectors = torch.from_numpy((tastes[:, of_item] + noises).reshape(-1, width))
        found = find_outliers(users, vectors, adaptive)
        return np.array([[place in one.positions for place in range(length)] for one in found])

    assert masked(which).any(axis=1).mean() <= most_lose
    assert masked(which_with_stray)[:, -1].mean() > least_found


def test_adaptive_finds_strays_also_where_nothing_is_far_from_anything() -> None:
    """As among a language model's means, whose vectors have most of their length in common; people's likes come and go."""
    rng = np.random.default_rng(0)
    num_users, length, width = 500, 20, 64
    common, tastes = np.eye(width)[0] * 3, rng.normal(size=(num_users, 2, width)) / np.sqrt(width)
    noises = rng.normal(scale=0.3 / np.sqrt(width), size=(num_users, length, width))
    users = histories(*np.arange(num_users * length).reshape(num_users, length))
    is_stray = (np.arange(length) == length - 1).astype(int)
    for of_item, least, most in ((0 * is_stray, 0.0, 0.01), (is_stray, 0.95, 1.0)):
        vectors = torch.from_numpy((common + tastes[:, of_item] + noises).reshape(-1, width))
        masked = [one.positions.tolist() == [length - 1] for one in find_outliers(users, vectors, ADAPTIVE)]
        assert least <= np.mean(masked) <= most


def test_the_least_deviation_hangs_on_items_that_have_a_vector() -> None:
    """Of 400 among 50,000, which lie in all directions: their typical angle is a right one."""
    rng = np.random.default_rng(0)
    vectors = torch.full((50_000, 16), NAN)
    vectors[torch.from_numpy(rng.choice(50_000, 400, replace=False))] = torch.from_numpy(rng.normal(size=(400, 16))).float()
    assert _Space(vectors).least_deviation == pytest.approx(MIN_DEVIATION_SHARE * math.pi / 2, rel=0.05)


def test_adaptive_leaves_whole_whose_items_are_all_the_same() -> None:
    for catalogue in (torch.ones(1, 2), torch.ones(9, 2), ALIGNED):
        [found] = find_outliers(histories(np.zeros(9, np.int64)), catalogue, ADAPTIVE)
        assert found.positions.tolist() == []


def test_adaptive_masks_two_strays_that_have_nothing_in_common() -> None:
    """And neither of two that are alike, however far from the others."""
    degrees = (0, 8, -9, 5, -4, 12, 0, 3)
    for strays, masked in (((90, -100), [8, 9]), ((90, 95), [])):
        user = (*degrees, *strays)
        [found] = find_outliers(histories(np.arange(len(user))), around(*user), ADAPTIVE)
        assert found.positions.tolist() == masked


def test_adaptive_masks_as_many_as_may_be_spared() -> None:
    """Of five like ones and one opposite that one, however many more might be."""
    user = history(EAST, EAST, WEST, EAST, EAST)
    for num_masked, min_kept, expected in ((1, 3, [2]), (3, 3, [2]), (3, 4, [2]), (1, 5, [])):
        adaptive = OutlierRule(num_masked, min_kept, 100, min_deviations=4.0)
        [found] = find_outliers(histories(user), ALIGNED, adaptive)
        assert found.positions.tolist() == expected


def test_a_random_control_masks_as_many_as_the_adaptive_rule_and_anywhere() -> None:
    """200 users of nine like items and one opposite, and 50 of like items alone."""
    rng = np.random.default_rng(0)
    planted = [np.insert(np.full(9, EAST, np.int64), place, WEST) for place in rng.integers(0, 10, 200)]
    users = histories(*planted, *[np.full(10, EAST, np.int64)] * 50)
    adaptive = OutlierRule(2, 3, 100, min_deviations=4.0)
    found = list(find_outliers(users, ALIGNED, adaptive))
    # The seed makes the histories' noise; like histories have like noise.
    by_chance = list(find_outliers(users, ALIGNED, dataclasses.replace(adaptive, random_seed=1)))
    assert [len(one.positions) for one in by_chance] == [len(one.positions) for one in found] == [1] * 200 + [0] * 50
    same = np.mean([one.positions[0] == other.positions[0] for one, other in zip(found[:200], by_chance[:200], strict=True)])
    assert same < 0.6


def plain_qn(numbers: np.ndarray) -> float:
    """Q_n as it is written down, of 10 numbers or more, or of 5."""
    number = len(numbers)
    differences = sorted(abs(one - other) for one, other in itertools.combinations(numbers.tolist(), 2))
    correction = {5: 0.844}.get(number, number / (number + (1.4 if number % 2 else 3.8)))
    return 2.2191 * correction * differences[math.comb(number // 2 + 1, 2) - 1]


def test_deviations_by_hand() -> None:
    """Of five angles to u. What lies at 35 degrees has company at 10."""
    vectors = around(0, 10, -20, 35, -120)
    user = np.arange(5)
    [found] = find_outliers(histories(user), vectors, rule())
    angles = np.arccos(found.similarities.astype(np.float64))
    expected = (angles - np.median(angles)) / plain_qn(angles)
    adaptive = dataclasses.replace(ADAPTIVE, min_deviations=1.3)
    explained = [explain(user, vectors, adaptive, position) for position in range(5)]
    assert [reason.deviations for reason in explained] == pytest.approx(expected, abs=1e-4)
    assert (expected >= 1.3).tolist() == [False, False, False, True, True]
    assert [reason.is_masked for reason in explained] == [False, False, False, False, True]


def test_deviations_are_those_of_each_history_whatever_stands_beside_it() -> None:
    """Histories of 10 to 40 items in one block, some of whose items have no vector."""
    rng = np.random.default_rng(3)
    aligned = torch.from_numpy(rng.normal(size=(200, 4)).astype(np.float32) + 1.0)
    aligned[::7] = torch.nan
    users = [rng.choice(np.flatnonzero(np.arange(200) % 7), length) for length in rng.integers(10, 40, 30)]
    users = [np.append(user, 7) for user in users]
    found = find_outliers(histories(*users), aligned, OutlierRule(40, 1, 100, min_deviations=1e-9))
    directions = torch.nn.functional.normalize(aligned[~aligned.isnan().any(dim=1)].double(), dim=1)
    half = len(directions) // 2
    typical = np.median(np.arccos((directions[:half] * directions[half : 2 * half]).sum(dim=1).numpy()))
    least = MIN_DEVIATION_SHARE * typical
    for user, one in zip(users, found, strict=True):
        angles = np.arccos(one.similarities[:-1].astype(np.float64))
        spread = max(plain_qn(angles), least)
        deviations = (angles - np.median(angles)) / spread
        told = [explain(user, aligned, ADAPTIVE, place).deviations for place in (0, 5, len(user) - 2)]
        assert told == pytest.approx(deviations[[0, 5, -1]], abs=1e-4)


def test_a_spread_is_the_standard_deviation_of_normal_numbers_however_few() -> None:
    rng = np.random.default_rng(4)
    for number in (2, 3, 4, 5, 6, 7, 8, 9, 10, 21, 50):
        numbers = np.full((20_000, 60), np.nan)
        numbers[:, :number] = rng.normal(scale=3.0, size=(20_000, number))
        deviation = _middle_and_deviation(numbers, 0.0)[1]
        assert deviation.mean() == pytest.approx(3.0, rel=0.03), number


def test_a_stray_that_somebody_had_twice_is_one_still() -> None:
    vectors = around(0, 5, -5, 10, -10, 3, -3, 120)
    once, twice = np.arange(8), np.array([*range(8), 7])
    found = find_outliers(histories(once, twice), vectors, OutlierRule(2, 3, 100, min_deviations=4.0))
    assert [one.positions.tolist() for one in found] == [[7], [7, 8]]


def test_random_masks_have_the_same_size_as_the_rule_gives() -> None:
    random = OutlierRule(num_masked=2, min_kept_items=3, max_history_items=50, random_seed=1)
    users = [np.full(length, EAST) for length in (1, 4, 5, 200)]
    masks = [mask.positions.tolist() for mask in find_outliers(histories(*users), ALIGNED, random)]
    assert [len(mask) for mask in masks] == [0, 0, 2, 2]
    assert all(150 <= position < 200 for position in masks[3])
    assert masks == [sorted(set(mask)) for mask in masks]


def test_random_masks_are_uniform_and_seeded() -> None:
    """3,000 users mask 1 of 10 places: 300 each, standard deviation 16."""
    vectors = torch.eye(40)
    users = histories(*(np.random.default_rng(user).integers(0, 40, 10) for user in range(3000)))
    one, again, other = (find_outliers(users, vectors, OutlierRule(1, 2, 100, random_seed=seed)) for seed in (1, 1, 2))
    assert np.abs(np.bincount(one.positions.idx, minlength=10) - 300).max() < 5 * 16.5
    assert np.array_equal(one.positions.idx, again.positions.idx)
    assert (one.positions.idx != other.positions.idx).mean() > 0.8
    assert np.array_equal(one.similarities, other.similarities)


def test_an_explanation_by_hand() -> None:
    user = history(EAST, NORTH, EAST, UNKNOWN, WEST)
    reason = explain(user, ALIGNED, rule(), 4)
    assert (reason.position, reason.is_masked, reason.rank, reason.num_ranked) == (4, True, 1, 4)
    assert reason.similarity == pytest.approx(-3 / 10**0.5, abs=1e-6)  # u points to (3, 1)
    assert [(near.position, near.similarity) for near in reason.nearest] == [(1, 0.0), (0, -1.0), (2, -1.0)]
    other = explain(user, ALIGNED, rule(), 1, num_nearest=1)
    assert (other.is_masked, other.rank, len(other.nearest)) == (False, 2, 1)


def test_why_an_item_is_kept() -> None:
    coherent = (0, 8, -9, 5, -4, 12, 0, 3)
    pair, strays = around(*coherent, 90, 95), around(*coherent, 90, -100)
    short = OutlierRule(2, 9, 100)

    def told(vectors: torch.Tensor, by: OutlierRule, place: int) -> WhyKept | None:
        return explain(np.arange(len(vectors)), vectors, by, place).why_kept

    assert told(strays, rule(), 9) is None
    assert told(strays, rule(), 8) == WhyKept.OTHERS_FARTHER
    assert told(strays, short, 9) == WhyKept.SHORT_HISTORY
    assert told(strays, OutlierRule(0, 2, 100), 9) == WhyKept.NONE_ASKED_FOR
    assert told(strays, ADAPTIVE, 8) is None
    assert told(strays, dataclasses.replace(ADAPTIVE, num_masked=1), 8) == WhyKept.OTHERS_FARTHER
    assert told(strays, ADAPTIVE, 0) == WhyKept.WITHIN_SPREAD
    assert told(pair, ADAPTIVE, 8) == WhyKept.HAS_COMPANY
    assert told(strays, dataclasses.replace(ADAPTIVE, min_kept_items=10), 9) == WhyKept.SHORT_HISTORY
    by_chance = dataclasses.replace(rule(), random_seed=1)
    reasons = [told(strays, by_chance, place) for place in range(10)]
    assert (reasons.count(None), reasons.count(WhyKept.CHANCE)) == (1, 9)


@pytest.mark.parametrize("position", [-1, 0, 3, 5])
def test_there_is_no_explanation_for_what_was_not_read(position: int) -> None:
    with pytest.raises(ValueError, match="was not read, or its item has no vector"):
        explain(history(EAST, NORTH, EAST, UNKNOWN, WEST), ALIGNED, rule(max_history_items=4), position)


def test_the_rule_of_a_configuration() -> None:
    section = MaskOutliersSection(num_masked=2, min_kept_items=4, max_history_items=30)
    assert OutlierRule.of(section, 5) == OutlierRule(2, 4, 30)
    adaptive = section.model_copy(update={"is_adaptive": True, "min_deviations": 2.5, "space": "semantic"})
    assert OutlierRule.of(adaptive, 5) == OutlierRule(2, 4, 30, min_deviations=2.5, space="semantic")
    assert OutlierRule.of(section.model_copy(update={"space": "random"}), 5) == OutlierRule(2, 4, 30, random_seed=5)
