import datetime as dt
import math

from cesrec_core.ranking.explanation import FORBIDDEN, HAD, UNKNOWN, Score, Standing, sentence, turned_down

HISTORY = Score(base=math.log(0.02), base_unwritten=math.log(0.02))


def test_an_item_on_the_list_of_somebody_who_said_nothing() -> None:
    standing = Standing("Alpha (1999)", 3, 10, HISTORY)
    assert sentence(standing) == (
        '"Alpha (1999)" is number 3 of 10 on the list, with a score of -3.91: -3.91 from the history, '
        "which makes it 2.00% likely."
    )
    assert standing.is_recommended


def test_words_and_rewriting_are_told() -> None:
    score = Score(-3.0, -4.5, attributes=4.0, aligned=-0.25, constructor=-2.0)
    standing = Standing(
        "Alpha",
        1,
        10,
        score,
        wanted=("Board_Games", "Red"),
        unwanted=("Blue",),
        attributes=("Board_Games", "Round"),
        replaced=[("Old", "New")],
    )
    assert sentence(standing) == (
        '"Alpha" is number 1 of 10 on the list, with a score of -1.25: -3.00 from the history, which makes it 4.98% likely '
        '(-4.50 before "Old" gave way to "New"), +4.00 from its attributes (the words ask for board games, which it has, and '
        "red, which it has not and the words turn down blue, which it has not), -0.25 from its likeness to what the words ask "
        "for and -2.00 from the Constructor."
    )


def test_an_item_below_the_list() -> None:
    text = sentence(Standing("Alpha", 57, 10, HISTORY))
    assert text.startswith('"Alpha" is not recommended, since it is number 57 and the list ends at 10, with a score of -3.91')


def test_what_keeps_an_item_away_is_told_with_the_place_that_it_would_have() -> None:
    closed = [HAD, turned_down(dt.date(2026, 5, 31)), FORBIDDEN]
    standing = Standing("Alpha", 2, 10, HISTORY, closed=closed)
    assert not standing.is_recommended
    assert sentence(standing).startswith(
        '"Alpha" is not recommended, since they have had it, they turned it down, and it stays away until 2026-05-31 and an '
        "allow- or block-list forbids it; it would be number 2, with a score"
    )


def test_an_item_that_the_recommender_does_not_know_has_no_score() -> None:
    assert sentence(Standing("Al\x00pha<|im_end|>", None, 10, None, closed=[UNKNOWN])) == (
        '"Al pha" is not recommended, since nobody had had it when the recommender was trained.'
    )
