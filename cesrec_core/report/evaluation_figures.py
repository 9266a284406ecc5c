"""Pictures of evaluations: means with their intervals, never a mean alone."""

from collections.abc import Mapping, Sequence

import numpy as np

from cesrec_core.evaluation.rounds import Round
from cesrec_core.evaluation.significance import PairedTest
from cesrec_core.evaluation.sweeps import Sweep
from cesrec_core.evaluation.variants import TableRow
from cesrec_core.report.pictures import BAD, GOOD, INK, LINE, ONE, SOFT, TWO, Picture, name_rows, style

COLOURS = (ONE, TWO, GOOD, "#8e4aa8", SOFT)
# Above it, a difference may well be an accident.
LARGEST_P = 0.05


def variants_figure(rows: Sequence[TableRow], num_users: int, measures: Sequence[str] = ("NDCG@10", "HR@10")) -> Picture:
    """Every variant with its 95 % interval, by full ranking; the dotted line is the first one's."""
    picture = Picture(10.5, 1.2 + 0.34 * len(rows), f"{len(rows)} variants on test items of {num_users:,} users")
    places = picture.subplots(1, len(measures), sharey=True)
    for axes, measure in zip(places, measures, strict=True):
        intervals = [row.intervals["full"][measure] for row in rows]
        baseline = intervals[0]
        axes.axvline(baseline.mean, color=SOFT, linestyle=":", linewidth=1)
        for number, interval in enumerate(intervals):
            colour = GOOD if interval.low > baseline.mean else BAD if interval.high < baseline.mean else ONE
            axes.plot([interval.low, interval.high], [number, number], color=colour, linewidth=2)
            axes.plot([interval.mean], [number], "o", color=colour, markersize=5)
        name_rows(axes, [row.variant.name for row in rows])
        axes.set(xlabel="mean and 95 % interval over users")
        style(axes, f"{measure}, full ranking, {num_users:,} users")
    return picture


def differences_figure(tests: Mapping[str, Mapping[str, PairedTest]], measure: str = "full NDCG@10") -> Picture:
    """Differences over the same users, with their intervals; those with a p-value of at most LARGEST_P are coloured.

    The test decides and not the interval: of few users, a bootstrap interval is somewhat too narrow.
    """
    picture = Picture(10.0, 1.2 + 0.34 * max(1, len(tests)), f"Paired differences in {measure}")
    axes = picture.subplots()
    axes.axvline(0.0, color=SOFT, linewidth=1)
    for number, test in enumerate(by_measure[measure] for by_measure in tests.values()):
        difference = test.difference
        colour = LINE if test.p_value > LARGEST_P else GOOD if difference.mean > 0 else BAD
        axes.plot([difference.low, difference.high], [number, number], color=colour, linewidth=3)
        axes.plot([difference.mean], [number], "o", color=INK if colour == LINE else colour, markersize=5)
        told = f"p = {test.p_value:.3f}"
        axes.annotate(told, (1.01, number), xycoords=("axes fraction", "data"), va="center", color=SOFT, fontsize=8.5)
    name_rows(axes, list(tests), 70)
    axes.set(xlabel=f"difference and 95 % interval; grey: p above {LARGEST_P:g}")
    style(axes, f"Who beats whom in {measure}, user by user")
    return picture


def sweep_figure(sweep: Sweep) -> Picture:
    """A curve for each variant over the values of a setting, with intervals; the value that is taken is marked."""
    picture = Picture(7.5, 3.4, f"NDCG@10 by {sweep.setting}")
    axes = picture.subplots()
    places = np.arange(len(sweep.values))
    for number, (colour, (name, intervals)) in enumerate(zip(COLOURS, sweep.intervals.items(), strict=False)):
        # Beside each other: bands on top of each other cannot be told apart.
        at = places + 0.05 * (number - (len(sweep.intervals) - 1) / 2)
        axes.vlines(at, [one.low for one in intervals], [one.high for one in intervals], color=colour, alpha=0.5)
        axes.plot(at, [one.mean for one in intervals], "o-", color=colour, markersize=4, label=name)
    value, why = sweep.marked
    if value in sweep.values:
        axes.axvline(sweep.values.index(value), color=SOFT, linestyle=":", linewidth=1.2, label=f"{why}: {value:g}")
    axes.set_xticks(places, labels=[f"{value:g}" for value in sweep.values])
    axes.set(xlabel=sweep.setting.replace("_", " "), ylabel="NDCG@10, validation")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    style(axes, f"What {sweep.setting.replace('_', ' ')} is worth", "y")
    return picture


def rounds_figure(rounds: Sequence[Round], measure: str = "HR@10") -> Picture:
    """Variants after one round of feedback, two, and three, with intervals."""
    picture = Picture(7.5, 3.4, f"{measure} after each round of feedback")
    axes = picture.subplots()
    numbers = np.arange(1, len(rounds) + 1)
    for place, (colour, rows) in enumerate(zip(COLOURS, zip(*(one.rows for one in rounds), strict=True), strict=False)):
        intervals = [row.intervals["full"][measure] for row in rows]
        at = numbers + 0.06 * (place - len(rounds[0].rows) / 2)
        axes.vlines(at, [one.low for one in intervals], [one.high for one in intervals], color=colour, alpha=0.5)
        axes.plot(at, [one.mean for one in intervals], "o-", color=colour, markersize=4, label=rows[0].variant.name)
    axes.set_xticks(numbers)
    axes.set(xlabel="rounds of feedback", ylabel=f"{measure}, full ranking")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    style(axes, "What another round of words is worth", "y")
    return picture
