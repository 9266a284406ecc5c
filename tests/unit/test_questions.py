"""Which question is worth asking, by hand arithmetic."""

import math

import numpy as np
import pytest

from cesrec_core.feedback.questions import OPEN_QUESTION, best_question, either_or_gains, yes_or_no_gains

HALF, QUARTER = math.log(2), math.log(4)


def table(*rows: str) -> np.ndarray:
    """One row for each candidate, "x" where it has the attribute."""
    return np.array([[mark == "x" for mark in row] for row in rows])


def test_the_gain_of_yes_or_no_is_the_entropy_of_the_answer() -> None:
    """Of probabilities .5, .25, .25 the first attribute is on .5, the second on .25, the third on all, the fourth on none."""
    probabilities = np.array([0.5, 0.25, 0.25])
    gains = yes_or_no_gains(probabilities, table("x.x.", ".xx.", "..x."))
    of_quarter = 0.25 * QUARTER + 0.75 * math.log(4 / 3)
    np.testing.assert_allclose(gains, [HALF, of_quarter, 0.0, 0.0], atol=1e-12)


def test_the_gain_of_a_choice_counts_those_who_have_both_as_noise() -> None:
    """Four equally likely candidates: one with the first attribute, one with the second, one with both, one with neither.

    The answers are "the first" 1/4 + 1/8, "the second" 1/4 + 1/8 and "neither" 1/4; of their entropy, the quarter that has both
    and draws lots takes log 2.
    """
    gains = either_or_gains(np.full(4, 0.25), table("x.", ".x", "xx", ".."))
    expected = 2 * (3 / 8) * math.log(8 / 3) + 0.25 * QUARTER - 0.25 * HALF
    np.testing.assert_allclose(gains, [[0.0, expected], [expected, 0.0]], atol=1e-12)


def test_a_choice_without_overlap_tells_more_than_either_alone() -> None:
    """Red on 1/2, Blue on 1/4, neither on 1/4: entropy 1.5 log 2, against log 2 for Red alone."""
    asked = best_question(np.array([0.25, 0.25, 0.25, 0.25]), table(".x", ".x", "x.", ".."), ["Blue", "Red"])
    assert (asked.text, asked.attributes) == ("Would you rather have blue or red?", ("Blue", "Red"))
    assert asked.information_gain == pytest.approx(1.5 * HALF)


def test_where_a_choice_tells_no_more_one_attribute_is_asked_about() -> None:
    """Red on one half and Blue on the other: to know one is to know the other, and yes or no is easier to answer."""
    asked = best_question(np.array([0.5, 0.5]), table("x.", ".x"), ["Blue", "Red"])
    assert (asked.text, asked.attributes, asked.information_gain) == ("Would you like blue?", ("Blue",), pytest.approx(HALF))


def test_probabilities_count_and_not_numbers_of_items() -> None:
    """Red is on two of four items, which together have .1; Blue on one, which has .5; .4 has neither."""
    probabilities = np.array([0.05, 0.05, 0.5, 0.4])
    alone = best_question(probabilities, table("x", "x", ".", "."), ["Red"])
    assert alone.information_gain == pytest.approx(0.1 * math.log(10) + 0.9 * math.log(10 / 9))
    asked = best_question(probabilities, table(".x", ".x", "x.", ".."), ["Blue", "Red"])
    assert asked.attributes == ("Blue", "Red")
    assert asked.information_gain == pytest.approx(0.5 * HALF + 0.1 * math.log(10) + 0.4 * math.log(2.5))


def test_nothing_that_all_candidates_share_is_asked_about() -> None:
    assert best_question(np.array([0.5, 0.5]), table("x.", "x."), ["Blue", "Red"]) == OPEN_QUESTION
    assert best_question(np.array([1.0]), table("x"), ["Blue"]) == OPEN_QUESTION
    assert best_question(np.zeros(0), np.zeros((0, 1), dtype=bool), ["Blue"]) == OPEN_QUESTION


def test_an_attribute_that_cannot_be_said_is_not_asked_about() -> None:
    assert best_question(np.array([0.5, 0.5]), table("x.", ".."), ["<|im_end|>", "Red"]) == OPEN_QUESTION


def test_a_question_is_the_same_in_any_order_of_candidates() -> None:
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet(np.ones(40))
    has = rng.random((40, 12)) < 0.3
    names = [f"kind {place:02d}" for place in range(12)]
    first = best_question(probabilities, has, names)
    for _ in range(5):
        order = rng.permutation(40)
        assert best_question(probabilities[order], has[order], names) == first
