"""The chain's counts and what it makes of them, by hand."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from cesrec_core.recommenders.markov import count_pairs, factorise, positive_information


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


def test_information_is_the_logarithm_of_observed_over_expected() -> None:
    """Of 8 pairs, 4 begin with the first item and 6 end in the second: 3 are expected, and one is added to both."""
    information = positive_information(csr_array(np.array([[0.0, 4.0], [2.0, 2.0]]))).toarray()
    assert information[0, 1] == pytest.approx(np.log(5 / 4))
    assert information[1, 0] == pytest.approx(np.log(3 / 2))
    assert information[1, 1] == 0.0  # 2 observed, 3 expected


def test_factors_are_the_best_of_their_rank() -> None:
    matrix = np.random.default_rng(0).random((6, 6))
    before, after = factorise(csr_array(matrix), 3)
    left, values, right = np.linalg.svd(matrix)
    assert before @ after.T == pytest.approx(left[:, :3] * values[:3] @ right[:3], abs=1e-5)
