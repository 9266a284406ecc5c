"""Pictures of runs, drawn from what the page of a run says in `contents`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import imread
from matplotlib.ticker import PercentFormatter

from cesrec_core import run_status
from cesrec_core.report.contents import Check, Histogram, RunLine, StageLine, Tally, Trend
from cesrec_core.report.pictures import BAD, GOOD, INK, LINE, ONE, SOFT, TWO, Picture, name_rows, say, style
from cesrec_core.report.text import shown
from cesrec_core.report.ticks import ends_of, labels_of, ticks_around

COLUMNS_OF_TRENDS = 3
# Counts up to it share a linear scale; beside greater ones, a few would be too short to be seen.
LARGEST_LINEAR = 100
# Of checks: what uses nothing of its room still shows its colour, and what is far beyond the limit ends there.
SHORTEST_BAR, LONGEST_BAR = 0.012, 1.3
COLOURS = {
    run_status.PUBLISHED: GOOD,
    run_status.FINISHED: ONE,
    **dict.fromkeys((run_status.PARTIAL, run_status.RUNNING), SOFT),
    **dict.fromkeys((run_status.REFUSED, run_status.FAILED), BAD),
}


def picture_of_file(path: Path, description: str) -> Picture:
    """A picture that a training left in its artifact; models that are fitted in one go leave none."""
    if not path.is_file():
        return _nothing(description, "This model was fitted in one go, and left no curve.")
    pixels = imread(path)
    height, width = pixels.shape[:2]
    picture = Picture(7.0, 7.0 * height / width, description)
    axes = picture.subplots()
    axes.imshow(pixels)
    axes.set_axis_off()
    return picture


def counts_figure(counts: Mapping[str, float], title: str) -> Picture:
    """Numbers by name, on a scale on which few and many can both be seen."""
    picture = Picture(7.5, 0.9 + 0.36 * max(2, len(counts)), title)
    axes = picture.subplots()
    style(axes, title)
    bars = axes.barh(range(len(counts)), list(counts.values()), 0.6, color=ONE)
    axes.bar_label(bars, fmt="{:,.0f}", padding=4, color=INK, fontsize=9)
    if max(counts.values(), default=0) > LARGEST_LINEAR:
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xlabel("log scale: read the numbers, not the lengths", fontsize=8)
    axes.set_xticks([])
    axes.minorticks_off()
    axes.spines["bottom"].set_visible(False)
    axes.margins(x=0.15)
    name_rows(axes, [name.replace("_", " ") for name in counts])
    return picture


def tallies_figure(tallies: Sequence[Tally], title: str, nothing: str) -> Picture:
    """How often what happened; `nothing` is said where nothing did."""
    counted = [tally for tally in tallies if tally.count]
    if counted:
        return counts_figure({tally.name: tally.count for tally in counted}, title)
    return _nothing(title, nothing)


def _nothing(title: str, text: str) -> Picture:
    picture = Picture(7.5, 1.2, title)
    axes = picture.subplots()
    style(axes, title)
    say(axes, text)
    return picture


def histogram_figure(histogram: Histogram | None) -> Picture:
    """Kinds beside each other, as shares of their kind: kinds differ in number. None where nothing was counted."""
    if histogram is None:
        return _nothing("Nothing was counted", "There is nothing to make a histogram of.")
    picture = Picture(7.0, 3.2, histogram.title)
    axes = picture.subplots()
    edges = np.asarray(histogram.edges)
    for colour, (kind, counts) in zip((ONE, TWO), histogram.counts.items(), strict=False):
        shares = np.asarray(counts) / max(1, sum(counts))
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.35)
        axes.stairs(shares, edges, color=colour, linewidth=1.5, label=f"{kind} ({sum(counts):,})")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set(xlabel=histogram.axis, ylabel="share of its kind")
    axes.legend(frameon=False, fontsize=9)
    style(axes, histogram.title, "y")
    return picture


def stages_figure(stages: Sequence[StageLine]) -> Picture:
    """Seconds of each stage that ran, beside what it usually takes; what did not run says why."""
    picture = Picture(9.0, 0.9 + 0.34 * len(stages), "Seconds by stage")
    axes = picture.subplots()
    longest = max([0.1, *(seconds for stage in stages for seconds in (stage.seconds, stage.usual_seconds) if seconds)])
    for row, stage in enumerate(stages):
        end, text = 0.0, f" {stage.outcome}: {shown(stage.reason, 70)}"
        if stage.seconds is not None:
            axes.barh(row, stage.seconds, 0.6, color=ONE)
            end, text = max(stage.seconds, stage.usual_seconds or 0.0), f" {stage.seconds:,.1f} s"
            if stage.usual_seconds is not None:
                axes.plot([stage.usual_seconds] * 2, [row - 0.42, row + 0.42], color=TWO, linewidth=2)
        axes.text(end + 0.01 * longest, row, text, va="center", fontsize=8.5, color=SOFT, parse_math=False)
    name_rows(axes, [stage.name for stage in stages])
    axes.set(xlabel="seconds; the mark is the median of earlier runs", xlim=(0, 1.12 * longest))
    style(axes, "What the run did, and how long it took")
    return picture


def checks_figure(checks: Sequence[Check]) -> Picture:
    """Where the run stands against each limit of the audit: 0 is as good as can be told, and 1 is the limit.

    Sentences stand beside the plot, where the line of the limit does not go through them.
    """
    measured = [check for check in checks if check.setting]
    picture = Picture(10.0, 1.1 + 0.34 * max(1, len(measured)), "The run against the limits of the audit")
    axes = picture.subplots()
    style(axes, "How near the run is to the limits of its audit")
    if not measured:
        say(axes, "The audit has not run.")
        return picture
    for row, check in enumerate(measured):
        used = used_share(check)
        if used is None:
            # Nobody knows where it stands: anywhere in the room that there is.
            axes.barh(row, 1.0, 0.15, color=LINE)
        else:
            colour = BAD if not check.is_met else TWO if check.is_near else GOOD
            axes.barh(row, min(max(used, SHORTEST_BAR), LONGEST_BAR), 0.6, color=colour)
        told = check.form_of_value if check.value is None else check.text.format(check.form_of_value)
        axes.annotate(
            f"{told} (limit {check.form_of_limit})",
            (1.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=SOFT,
            parse_math=False,
        )
    axes.axvline(1.0, color=BAD, linewidth=1.5)
    name_rows(axes, [check.setting.removeprefix("audit.") for check in measured], 60)
    axes.set(xlim=(0, LONGEST_BAR))
    axes.set_xticks([0, 1], labels=["far from it", "the limit"])
    return picture


def used_share(check: Check) -> float | None:
    """How much of its room a number has used: 0 none, 1 all of it, above that it is over; None where it was not measured."""
    if check.value is None:
        return None
    if not check.is_lowest:
        return check.value / check.limit if check.limit else float(check.value > 0.0) * 2.0
    if check.form.endswith("%"):
        room = 1.0 - check.limit
        return (1.0 - check.value) / room if room else float(check.value < 1.0) * 2.0
    return check.limit / check.value if check.value > 0.0 else 2.0 * float(check.limit > 0.0)


def trends_figure(trends: Sequence[Trend], title: str) -> Picture:
    """Numbers over runs, each in a plot of its own, with the intervals that were measured."""
    num_rows = max(1, -(-len(trends) // COLUMNS_OF_TRENDS))
    picture = Picture(10.0, 0.5 + 2.2 * num_rows, title)
    picture.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK, fontweight="bold")
    places = picture.subplots(num_rows, COLUMNS_OF_TRENDS, squeeze=False).ravel()
    for axes, trend in zip(places, trends, strict=False):
        _draw_trend(axes, trend)
    for axes in places[len(trends) :]:
        axes.set_axis_off()
    return picture


def _draw_trend(axes: Axes, trend: Trend) -> None:
    numbers = range(len(trend.points))
    values = [point.value for point in trend.points]
    for number, point in enumerate(trend.points):
        if point.low is not None and point.high is not None:
            axes.plot([number, number], [point.low, point.high], color=LINE, linewidth=4, solid_capstyle="butt")
    axes.plot(numbers, values, color=ONE, linewidth=1.5, marker="o", markersize=4)
    axes.plot(numbers[-1:], values[-1:], "o", color=TWO, markersize=6)
    axes.annotate(
        format(values[-1], trend.form),
        (numbers[-1], values[-1]),
        (0, 7),
        textcoords="offset points",
        ha="right",
        color=TWO,
        fontsize=9,
    )
    ends = sorted({0, len(values) - 1})
    axes.set_xticks(ends, labels=[trend.points[number].run_date.strftime("%d %b") for number in ends])
    ticks = ticks_around(ends_of(trend.points), trend.form)
    axes.set_yticks(ticks, labels=labels_of(ticks, trend.form))
    # Room for the last value above its dot, even where that is as high as it can be.
    height = ticks[-1] - ticks[0]
    axes.set_ylim(ticks[0] - 0.06 * height, ticks[-1] + 0.25 * height)
    axes.margins(x=0.15)
    direction = {1: " (more is better)", -1: " (less is better)", 0: ""}[trend.is_better]
    style(axes, trend.title, "y")
    axes.title.set_fontsize(9.5)
    axes.set_xlabel(direction.strip(" ()"), fontsize=8)


def runs_figure(runs: Sequence[RunLine]) -> Picture:
    """Every run on a line of its own, by when it worked; the one that consumers read is marked."""
    picture = Picture(9.0, 1.2 + 0.42 * max(1, len(runs)), "Runs and what became of them")
    axes = picture.subplots()
    style(axes, "Runs, and which one consumers read")
    for row, run in enumerate(runs):
        axes.barh(row, max(run.seconds or 0.0, 0.0), 0.55, color=COLOURS.get(run.status, SOFT))
        took = "" if run.seconds is None else f" {run.seconds:,.0f} s,"
        told = f"{took} {run.status}" + (" and read by consumers now" if run.is_read else "")
        weight = "bold" if run.is_read else "normal"
        axes.text(max(run.seconds or 0.0, 0.0), row, told, va="center", fontsize=9, color=INK, fontweight=weight)
    name_rows(axes, [f"{run.run_date.isoformat()}  {run.run_id}" for run in runs])
    longest = max([1.0, *(run.seconds or 0.0 for run in runs)])
    axes.set(xlabel="seconds from its beginning to its end", xlim=(0, 1.6 * longest))
    return picture
