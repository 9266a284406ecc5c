"""Remarks about toys, games and books that somebody else thought of: most are read, and hardly any as what it does not say."""

from remarks import readings

MIN_SHARE_RIGHT = 0.8
MAX_SHARE_WORSE = 0.05


def test_remarks_are_read_and_seldom_turned_round() -> None:
    told = readings()
    assert len(told) == 96
    assert sum(one.is_right for one in told) / len(told) >= MIN_SHARE_RIGHT, [one.said for one in told if not one.is_right]
    assert sum(one.is_worse for one in told) / len(told) <= MAX_SHARE_WORSE, [one.said for one in told if one.is_worse]
