"""Cuts by hand."""

import numpy as np
import pytest

from cesrec_core.datasets import Histories
from cesrec_core.errors import ConfigError, InputDataError
from cesrec_core.sequences import input_and_target, training_part
from cesrec_core.splits import NOWHERE, cut_histories


def histories(*lengths: int, timestamps: list[int] | None = None) -> Histories:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = None if timestamps is None else np.array(timestamps, np.int64)
    return Histories([f"u{user}" for user in range(len(lengths))], np.zeros(offsets[-1], np.int32), offsets, times)


@pytest.mark.parametrize(
    ("split", "training_end", "validation_at", "test_at"),
    [
        ("all", [2, 3, 5], [-1, -1, -1], [-1, -1, -1]),
        ("leave_one_out", [2, 1, 3], [-1, 1, 3], [-1, 2, 4]),
        ("leave_last_out", [2, 2, 4], [-1, -1, -1], [-1, 2, 4]),
    ],
)
def test_by_place(split: str, training_end: list[int], validation_at: list[int], test_at: list[int]) -> None:
    cuts = cut_histories(histories(2, 3, 5), split)
    assert cuts.training_end.tolist() == training_end
    assert cuts.targets_at("validation").tolist() == validation_at
    assert cuts.targets_at("test").tolist() == test_at


@pytest.mark.parametrize("length", range(1, 8))
@pytest.mark.parametrize("split", ["all", "leave_one_out"])
def test_the_nightly_job_cuts_in_the_same_places(length: int, split: str) -> None:
    history = list(range(length))
    cuts = cut_histories(histories(length), split)
    assert history[: cuts.training_end[0]] == training_part(history, split)
    for at in ("validation", "test"):
        place = int(cuts.targets_at(at)[0])
        found = None if place == NOWHERE else (history[:place], history[place])
        assert found == (input_and_target(history, at) if split == "leave_one_out" else None)


def test_by_moment() -> None:
    """20 interactions at squares of 0..19: validation from 16, test from 18. The third user comes too late to have a past."""
    first, second, third = [0, 2, 4, 6, 8, 10, 16, 18], [1, 3, 5, 7, 9, 11, 12, 13, 14, 17], [15, 19]
    cuts = cut_histories(histories(8, 10, 2, timestamps=[moment**2 for moment in (*first, *second, *third)]), "global_timeline")
    assert cuts.boundaries == {"validation_from": 16**2, "test_from": 18**2}
    assert cuts.training_end.tolist() == [6, 9, 1]
    assert cuts.validation_at.tolist() == [6, 9, -1]
    assert cuts.test_at.tolist() == [7, -1, 1]


def test_a_user_without_a_past_is_nobodys_target() -> None:
    cuts = cut_histories(histories(10, 10, timestamps=[moment**2 for moment in range(20)]), "global_timeline")
    assert cuts.training_end.tolist() == [10, 6]
    late = cut_histories(histories(18, 2, timestamps=[moment**2 for moment in range(20)]), "global_timeline")
    assert late.test_at.tolist() == [-1, -1]


def test_days_on_which_most_people_begin_are_real() -> None:
    """200 people, active on seven days of ten: most begin on the first of them."""
    rng = np.random.default_rng(0)
    first_day, day = 1_700_000_000_000_000, 86_400_000_000
    active = [np.flatnonzero(rng.random(60) < 0.7) for _ in range(200)]
    times = [first_day + day * int(number) for days in active for number in days]
    cuts = cut_histories(histories(*(len(days) for days in active), timestamps=times), "global_timeline")
    assert (cuts.test_at > 0).mean() > 0.9


def test_numbered_items_are_not_real_timestamps() -> None:
    with pytest.raises(InputDataError, match=r"2 users share 5 different ones.*Use leave_one_out"):
        cut_histories(histories(5, 4, timestamps=[0, 1, 2, 3, 4, 0, 1, 2, 3]), "global_timeline")
    gaps = [0, 2, 5, 6, 0, 1, 3, 4, 1, 5, 7]  # places again, of which some are missing
    with pytest.raises(InputDataError, match=r"2 of 3 users begin at the same one \(0\).*Use leave_one_out"):
        cut_histories(histories(4, 4, 3, timestamps=gaps), "global_timeline")
    with pytest.raises(InputDataError, match=r"all 9 interactions are equally far apart, .*Use leave_one_out"):
        cut_histories(histories(5, 4, timestamps=[0, 20, 40, 60, 160, 80, 100, 120, 140]), "global_timeline")  # rows of a file
    with_gaps = [0, 1, 3, 4, 6, 7, 8, 10]  # rows of a file that is sorted by user, some of them left out
    with pytest.raises(InputDataError, match=r"each of 3 users ends before the next begins"):
        cut_histories(histories(3, 3, 2, timestamps=with_gaps), "global_timeline")
    with pytest.raises(InputDataError, match=r"2 users share 2 different ones"):
        cut_histories(histories(5, 4, timestamps=[0, 0, 0, 1, 1, 0, 0, 1, 1]), "global_timeline")
    with pytest.raises(InputDataError, match="no column `timestamp`"):
        cut_histories(histories(5, 4), "global_timeline")


def numbered(rng: np.random.Generator, kept: float, first: int, step: int, num_users: int = 300) -> tuple[list[int], list[int]]:
    """Lengths and moments of histories whose places were turned into moments, of which a share is kept."""
    places = [np.flatnonzero(rng.random(int(rng.geometric(1 / 40)) + 2) < kept) for _ in range(num_users)]
    return [len(of_user) for of_user in places], [first + step * int(place) for of_user in places for place in of_user]


HOUR = 3_600_000_000
SINCE_2015 = 1_420_070_400_000_000


@pytest.mark.parametrize("kept", [0.999, 0.97, 0.5])
@pytest.mark.parametrize(("first", "step"), [(SINCE_2015, HOUR), (SINCE_2015 // 1_000_000, 3600), (SINCE_2015 // 1000, 1000)])
def test_places_that_were_turned_into_moments_are_not_real(kept: float, first: int, step: int) -> None:
    lengths, times = numbered(np.random.default_rng(0), kept, first, step)
    with pytest.raises(InputDataError, match=r"global timeline needs real timestamps.*Use leave_one_out"):
        cut_histories(histories(*lengths, timestamps=times), "global_timeline")


def test_places_that_begin_on_any_day_are_not_real() -> None:
    rng = np.random.default_rng(0)
    starts = [SINCE_2015 + 24 * HOUR * int(day) for day in rng.integers(0, 1000, 100)]
    by_user = [[start + HOUR * place for place in range(12)] for start in starts]
    with pytest.raises(InputDataError, match="steps within histories are equally long"):
        cut_histories(histories(*[12] * 100, timestamps=[time for user in by_user for time in user]), "global_timeline")


@pytest.mark.parametrize("step", [1, 1_000_000, HOUR])
def test_people_who_come_and_go_are_real_in_any_resolution(step: int) -> None:
    """A service that began one day: half of its people in the first tenth of the year, each at times of their own."""
    rng = np.random.default_rng(0)
    lengths, times = [], []
    for _ in range(300):
        begun = rng.random() ** 3 * 365 * 24 * HOUR
        of_user = np.sort(begun + rng.exponential(50 * HOUR, 30).cumsum()) // step * step
        lengths.append(30)
        times += [SINCE_2015 + int(moment) for moment in of_user]
    assert (cut_histories(histories(*lengths, timestamps=times), "global_timeline").test_at > 0).any()


@pytest.mark.parametrize("step", [HOUR // 60, HOUR])
def test_a_window_cut_from_a_running_service_is_real(step: int) -> None:
    """Half of all people come on its first day, and there is somebody at every minute or hour of it."""
    rng = np.random.default_rng(0)
    times = [np.unique(rng.exponential(24 * HOUR, 200).cumsum() // step * step).astype(np.int64) for _ in range(1500)]
    times = [of_user[of_user < 90 * 24 * HOUR] + SINCE_2015 for of_user in times]
    moments = [int(moment) for of_user in times for moment in of_user]
    assert (cut_histories(histories(*map(len, times), timestamps=moments), "global_timeline").test_at > 0).any()


def test_who_vouches_for_timestamps_is_believed() -> None:
    lengths, times = numbered(np.random.default_rng(0), 0.97, SINCE_2015, HOUR)
    moments = histories(*lengths, timestamps=times)
    with pytest.raises(InputDataError, match=r"give --set dataset\.has_real_timestamps=true"):
        cut_histories(moments, "global_timeline")
    assert (cut_histories(moments, "global_timeline", has_real_timestamps=True).test_at > 0).any()


def test_who_had_nothing_between_the_two_moments_is_tested_all_the_same() -> None:
    """20 interactions at squares of 0..19: validation from 16, test from 18. The first user's past ends before 16."""
    first, second = [0, 2, 4, 18], [1, 3, *range(5, 18), 19]
    cuts = cut_histories(histories(4, 16, timestamps=[moment**2 for moment in (*first, *second)]), "global_timeline")
    assert cuts.boundaries == {"validation_from": 16**2, "test_from": 18**2}
    assert (cuts.validation_at.tolist(), cuts.test_at.tolist()) == ([-1, 13], [3, 15])
    # Somebody whose past lies between the two moments alone has one before the test, and none before validation.
    between = [16, 18]
    others = [*range(16), 17, 19]
    cuts = cut_histories(histories(2, 18, timestamps=[moment**2 for moment in (*between, *others)]), "global_timeline")
    assert (cuts.validation_at.tolist()[0], cuts.test_at.tolist()[0]) == (-1, 1)


def test_real_days_may_be_fewer_than_somebodys_items() -> None:
    """Thirty days; one user has forty items, several on some days, another one every third day."""
    forty = sorted([*range(30), *range(0, 20, 2)])
    cuts = cut_histories(histories(40, 10, timestamps=[*forty, *range(1, 30, 3)]), "global_timeline")
    assert (cuts.training_end < [40, 10]).all()
    assert (cuts.test_at > 0).all()


def test_unknown_splits_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no split 'random'.*leave_last_out"):
        cut_histories(histories(3), "random")
