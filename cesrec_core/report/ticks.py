"""Where the numbers of an axis stand and how they are written, for the page's charts and for pictures."""

import itertools
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from cesrec_core.report.contents import Point

STEPS = [1, 2, 2.5, 5, 10]


def ticks_between(low: float, high: float, num_ticks: int = 4, is_integer: bool = False) -> list[float]:
    """Round numbers that enclose a range; `num_ticks` is how many steps there are at most."""
    locator = MaxNLocator(num_ticks, steps=STEPS, integer=is_integer)
    return [float(tick) for tick in locator.tick_values(low, high)]


def ends_of(points: Sequence[Point]) -> list[float]:
    """Their values, and the ends of their intervals."""
    return [value for point in points for value in (point.low, point.value, point.high) if value is not None]


def ticks_around(values: Sequence[float], form: str, num_ticks: int = 4) -> list[float]:
    """Round numbers that enclose `values` with room, though all of them be equal; `form` is how they are written.

    Where no value is negative, no tick is, and ticks of shares end at 100 %.
    """
    low, high = min(values), max(values)
    unit = 10.0 ** -_places_of(form)
    # What nobody could tell apart is drawn flat: else the axis would magnify rounding errors.
    is_flat = high - low < unit / 2
    margin = max(0.05 * max(abs(low), abs(high)), 2 * unit) if is_flat else 0.05 * (high - low)
    least = 0.0 if low >= 0.0 else -np.inf
    most = 1.0 if form.endswith("%") and high <= 1.0 else np.inf
    low, high = max(low - margin, least), min(high + margin, most)
    ticks = ticks_between(low, high, num_ticks, form.endswith(".0f"))
    # Multiples of a step that is not a binary fraction may end a rounding error beside 1.
    return [min(max(tick, least), most) for tick in ticks if least - unit < tick < most + unit]


def labels_of(ticks: Sequence[float], form: str) -> list[str]:
    """As many digits as tell the ticks apart, and no minus before a zero."""
    form = _form_of(ticks, form)
    return [format(tick, form) for tick in (0.0 if abs(tick) < 1e-12 else tick for tick in ticks)]


def whole_numbers() -> MaxNLocator:
    """For what is counted; a range that holds but one whole number gets that one alone."""
    return MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)


def _places_of(form: str) -> int:
    """Decimals that a number written in this form is known to."""
    found = re.search(r"\.(\d+)([f%])$", form)
    return 3 if found is None else int(found[1]) + 2 * (found[2] == "%")


def _form_of(ticks: Sequence[float], form: str) -> str:
    step = min(abs(after - before) for before, after in itertools.pairwise(ticks)) if len(ticks) > 1 else 1.0
    places = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    if round(step, places) != round(step, places + 1):
        places += 1
    return f",.{max(0, places - 2)}%" if form.endswith("%") else f",.{places}f"
