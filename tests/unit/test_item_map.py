"""Maps of items: which directions, and which colours."""

import numpy as np
import pytest
from drawn import words_on
from tiny_features import tiny_features

from cesrec_core.report.vector_figures import item_map, telling_attributes, two_directions


def test_directions_are_those_in_which_points_differ_most() -> None:
    points = np.array([[0.0, 4.0, 0.0], [0.0, -4.0, 0.0], [2.0, 0.0, 0.0], [-2.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    assert two_directions(points) == pytest.approx(np.array([[0, 1, 0], [1, 0, 0]]))


def test_an_item_is_told_by_its_rarest_attribute() -> None:
    """Round is the rarest of three; an item that is not active does not count but has a colour all the same."""
    names, numbers = telling_attributes(tiny_features(inactive=(1,)), 8)
    assert names == ["Blue", "Red", "Round"]
    assert numbers.tolist() == [2, 1, 0, 1, 2, 1, 0, 1]
    names, numbers = telling_attributes(tiny_features(inactive=(1,)), 1)
    assert (names, numbers.tolist()) == (["Blue"], [0, -1] * 4)


def test_every_active_item_with_a_vector_is_a_point() -> None:
    """i3 is not active, and i7 has no collaborative vector."""
    features = tiny_features(inactive=(3,))
    picture = item_map(features, ["semantic", "collaborative", "aligned"])
    num_points = [sum(len(line.get_xdata()) for line in axes.lines) for axes in picture.axes]
    assert num_points == [7, 6, 7]
    assert {"Blue", "Red", "Round", "Items by who takes them"} <= set(words_on(picture))


def test_spaces_of_one_width_are_seen_from_the_same_side() -> None:
    features = tiny_features()
    same = features.__class__(**{**vars(features), "aligned": features.collaborative, "has_collaborative": np.ones(8, bool)})
    collaborative, aligned = item_map(same, ["collaborative", "aligned"]).axes
    for one, other in zip(collaborative.lines, aligned.lines, strict=True):
        assert one.get_xydata() == pytest.approx(other.get_xydata())
