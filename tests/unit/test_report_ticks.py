"""Numbers of an axis: they enclose what is drawn, with room, and stay within what a quantity can be."""

import pytest

from cesrec_core.report.ticks import labels_of, ticks_around


@pytest.mark.parametrize(
    ("values", "form", "labels"),
    [
        # 5 % around .467 are .444 to .490: multiples of .02 enclose them.
        ([0.467057154293825] * 2, ".3f", ["0.44", "0.46", "0.48", "0.50"]),
        ([0.467057154293825], ".3f", ["0.44", "0.46", "0.48", "0.50"]),
        # Less than what the form can tell apart is flat, too.
        ([0.4670, 0.4670 + 1e-13], ".3f", ["0.44", "0.46", "0.48", "0.50"]),
        # 95 to 100 %, and not 105.
        ([1.0, 1.0], ".1%", ["94%", "96%", "98%", "100%"]),
        # Two tenths of a percent above nothing, and none below it.
        ([0.0, 0.0], ".1%", ["0.00%", "0.05%", "0.10%", "0.15%", "0.20%"]),
        ([0.0, 0.0], ",.0f", ["0", "1", "2"]),
        ([60.0, 60.0], ",.0f", ["56", "58", "60", "62", "64"]),
        ([0.0, 7.0], ",.0f", ["0", "2", "4", "6", "8"]),
        ([-0.02, 0.02], "+.3f", ["-0.04", "-0.02", "0.00", "0.02", "0.04"]),
        ([0.0, 1.0], ".1%", ["0%", "25%", "50%", "75%", "100%"]),
    ],
)
def test_ticks_enclose_what_is_drawn(values: list[float], form: str, labels: list[str]) -> None:
    ticks = ticks_around(values, form)
    assert labels_of(ticks, form) == labels
    assert ticks[0] <= min(values) and max(values) <= ticks[-1]


@pytest.mark.parametrize("value", [0.0, 1e-13, 0.0004, 0.003, 0.0421, 0.333333, 0.5, 0.985, 0.9996, 1.0])
@pytest.mark.parametrize("spread", [0.0, 1e-13, 0.0004, 0.07])
def test_shares_stay_shares(value: float, spread: float) -> None:
    values = [value, max(0.0, value - spread)]
    ticks = ticks_around(values, ".1%")
    assert ticks[0] >= 0.0 and ticks[-1] <= 1.0
    assert ticks[0] <= min(values) and max(values) <= ticks[-1]
    labels = labels_of(ticks, ".1%")
    assert len(set(labels)) == len(labels) >= 3
    assert max(len(label) for label in labels) <= len("99.95%")


def test_there_is_no_minus_before_a_zero() -> None:
    assert labels_of([-0.5, -1e-17, 0.5], ".1f") == ["-0.5", "0.0", "0.5"]
