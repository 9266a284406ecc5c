"""Pictures of a dataset of three people and five items, counted by hand."""

import datetime as dt

import numpy as np
import pytest
from drawn import lengths_of_bars, words_on

from cesrec_core.report.data_figures import (
    activity_figure,
    attributes_figure,
    density_figure,
    exposure_figure,
    feedback_figure,
    history_lengths_figure,
    lorenz_curve,
    popularity_figure,
)
from cesrec_core.report.data_profile import AttributeUse, DataProfile

DAY = dt.date(2026, 3, 1)
# One person has 1 item, two have 4; one item nobody has, three were taken once, one six times.
PROFILE = DataProfile(
    lengths=((1, 1), (4, 2)),
    popularity=((0, 1), (1, 3), (6, 1)),
    days=((DAY, 5), (DAY + dt.timedelta(days=2), 4)),
    attributes=(AttributeUse("red", 4, 3), AttributeUse("$round", 1, 6)),
    feedback={"human": 3, "rating": 12},
    pairs={(0, 2): 1, (2, 0): 3, (2, 2): 2},
)


def test_sizes() -> None:
    assert (PROFILE.num_users, PROFILE.num_items, PROFILE.num_interactions) == (3, 5, 9)
    assert PROFILE.filled_share == pytest.approx(6 / 15)


def test_histories_are_counted_by_length() -> None:
    axes = history_lengths_figure(PROFILE).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [1, 0, 0, 2]
    assert any("half have 4 or fewer" in words for words in words_on(axes.figure))


def test_one_length_is_one_number() -> None:
    axes = history_lengths_figure(DataProfile(((9, 60),), (), (), (), {}, {})).axes[0]
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [9]


def test_long_histories_are_binned_and_none_is_lost() -> None:
    profile = DataProfile(((1, 10), (900, 3), (1000, 7)), (), (), (), {}, {})
    assert sum(bar.get_height() for bar in history_lengths_figure(profile).axes[0].patches) == 20


def test_the_most_popular_items_come_first() -> None:
    """Of nine interactions the one item has six, the next three one each, the last none."""
    of_items, of_interactions = lorenz_curve(PROFILE.popularity)
    assert of_items == pytest.approx(np.array([0, 1, 4, 5]) / 5)
    assert of_interactions == pytest.approx(np.array([0, 6, 9, 9]) / 9)


def test_the_head_of_the_catalogue_is_named() -> None:
    """The first tenth of the items is half of the first fifth, which has two thirds of the interactions."""
    assert "10% of the items:\n33% of the interactions" in words_on(popularity_figure(PROFILE))


def test_density_is_a_share_of_the_pairs_that_could_be() -> None:
    """Two people with four items and three items taken once make six pairs, of which three have met."""
    picture = density_figure(PROFILE)
    table = picture.axes[0].images[0].get_array().data
    assert table == pytest.approx(np.array([[0, 1.0], [0.5, 1.0]]))
    assert {"4–7", "1", "50%"} <= set(words_on(picture))


def test_days_are_bars_and_gaps_stay_empty() -> None:
    bars = activity_figure(PROFILE).axes[0].containers[0]
    assert [bar.get_height() for bar in bars] == [5, 4]
    assert bars[1].get_x() - bars[0].get_x() == 2


def test_attributes_are_shares_of_items_and_of_interactions() -> None:
    picture = attributes_figure(PROFILE)
    assert lengths_of_bars(picture) == pytest.approx([4 / 5, 1 / 5, 3 / 9, 6 / 9])
    assert "$round" in words_on(picture)


def test_feedback_is_counted_by_source() -> None:
    assert lengths_of_bars(feedback_figure(PROFILE)) == [3, 12]
    empty = DataProfile(PROFILE.lengths, PROFILE.popularity, PROFILE.days, (), {}, {})
    assert "Nobody has said anything yet." in words_on(feedback_figure(empty))
    assert any("No item has an attribute" in words for words in words_on(attributes_figure(empty)))


def test_exposure_tells_which_share_is_shown() -> None:
    picture = exposure_figure([(0, 0, 3), (5, 2, 1)])
    assert any("25% of the catalogue" in words for words in words_on(picture))
    assert picture.axes[0].collections[0].get_offsets().tolist() == [[0, 0], [5, 2]]
