"""Charts as inline SVG. Colours are classes of the page's style sheet, so that they follow light and dark; no text is trusted.

Each is drawn for the width of a phone, so that its letters stay legible there; wider pages put several side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup

from cesrec_core.report.contents import Histogram, Point, Trend
from cesrec_core.report.ticks import ends_of, labels_of, ticks_around, ticks_between

WIDTH, HEIGHT = 360.0, 210.0
# Around the plot: room for numbers and names of the axes.
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 22.0, 44.0
# Of the marks in a table's cell.
MARK_WIDTH, MARK_HEIGHT = 220.0, 18.0
SPARK_WIDTH, SPARK_HEIGHT = 120.0, 28.0


@dataclass(frozen=True)
class Scale:
    """From numbers to a range of pixels; the same place for every number where there is but one."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = 0.5 if self.high == self.low else (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


class Drawing:
    """An SVG that is built from shapes and written with everything escaped."""

    def __init__(self, width: float, height: float, label: str | None, kind: str) -> None:
        attributes = {"viewBox": f"0 0 {width:g} {height:g}", "class": kind}
        self.root = ElementTree.Element("svg", attributes | ({"role": "img"} if label else {"aria-hidden": "true"}))
        if label:
            ElementTree.SubElement(self.root, "title").text = label

    def add(self, shape: str, kind: str, text: str | None = None, hint: str | None = None, **attributes: object) -> None:
        """A shape with a class; `hint` is shown under the pointer."""
        values = {name.replace("_", "-"): str(value) for name, value in attributes.items()}
        element = ElementTree.SubElement(self.root, shape, {"class": kind, **values})
        element.text = text
        if hint is not None:
            ElementTree.SubElement(element, "title").text = hint

    def line(self, kind: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.add("line", kind, x1=start[0], y1=start[1], x2=end[0], y2=end[1])

    def axes(self, horizontal: str, vertical: str) -> None:
        """Both axes and what they are called."""
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        self.line("axis", (LEFT, bottom), (right, bottom))
        self.add("text", "name", text=vertical, x=0, y=12)
        self.add("text", "name", text=horizontal, x=(LEFT + right) / 2, y=HEIGHT - 6, text_anchor="middle")

    def vertical_ticks(self, ticks: Sequence[float], to_y: Scale, form: str) -> None:
        for tick, label in zip(ticks, labels_of(ticks, form), strict=True):
            self.line("grid", (LEFT, to_y(tick)), (WIDTH - RIGHT, to_y(tick)))
            self.add("text", "tick", text=label, x=LEFT - 6, y=to_y(tick) + 4, text_anchor="end")

    def horizontal_tick(self, x: float, text: str, anchor: str = "middle") -> None:
        self.add("text", "tick", text=text, x=x, y=HEIGHT - BOTTOM + 20, text_anchor=anchor)

    def markup(self) -> Markup:
        return Markup(ElementTree.tostring(self.root, encoding="unicode"))


def trend_chart(trend: Trend) -> Markup:
    """A number from run to run, with its intervals; the last run stands out."""
    ticks = ticks_around(ends_of(trend.points), trend.form)
    to_y = Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    to_x = Scale(0, len(trend.points) - 1, LEFT + 14, WIDTH - RIGHT - 14)
    drawing = Drawing(WIDTH, HEIGHT, f"{trend.title} from run to run", "chart")
    drawing.vertical_ticks(ticks, to_y, trend.form)
    drawing.axes("date of the run", trend.title)
    places = [(to_x(number), to_y(point.value)) for number, point in enumerate(trend.points)]
    drawing.add("polyline", "trace", points=" ".join(f"{x},{y}" for x, y in places))
    for (x, y), point in zip(places, trend.points, strict=True):
        if point.low is not None and point.high is not None:
            drawing.line("whisker", (x, to_y(point.low)), (x, to_y(point.high)))
        hint = f"{point.run_date.isoformat()}: {format(point.value, trend.form)} {point.interval(trend.form)}"
        drawing.add("circle", "dot now" if point is trend.points[-1] else "dot", cx=x, cy=y, r=4, hint=hint)
    first, last = trend.points[0], trend.points[-1]
    if len(trend.points) == 1:
        drawing.horizontal_tick(to_x(0), first.run_date.isoformat())
    else:
        drawing.horizontal_tick(LEFT, first.run_date.isoformat(), "start")
        drawing.horizontal_tick(WIDTH - RIGHT, last.run_date.isoformat(), "end")
    return drawing.markup()


def histogram_chart(histogram: Histogram) -> Markup:
    """Bars of one kind behind those of another, as shares of their kind: kinds differ in number."""
    shares = {name: np.asarray(counts) / max(1, sum(counts)) for name, counts in histogram.counts.items()}
    ticks = ticks_between(0.0, max(0.01, *(float(values.max()) for values in shares.values())))
    to_y = Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    to_x = Scale(histogram.edges[0], histogram.edges[-1], LEFT, WIDTH - RIGHT)
    drawing = Drawing(WIDTH, HEIGHT, histogram.title, "chart")
    drawing.vertical_ticks(ticks, to_y, ".0%")
    for number, (name, values) in enumerate(shares.items(), start=1):
        for bin_number, share in enumerate(values):
            left, right = (to_x(edge) for edge in histogram.edges[bin_number : bin_number + 2])
            low, high = histogram.edges[bin_number : bin_number + 2]
            hint = f"{name}: {histogram.counts[name][bin_number]:,} between {low:.2f} and {high:.2f}"
            y = to_y(float(share))
            height = round(HEIGHT - BOTTOM - y, 2)
            if height > 0:
                drawing.add("rect", f"bar series{number}", x=left, y=y, width=round(right - left, 2), height=height, hint=hint)
    drawing.axes(histogram.axis, "share")
    numbers = [tick for tick in ticks_between(histogram.edges[0], histogram.edges[-1]) if to_x.low <= tick <= to_x.high]
    for tick, label in zip(numbers, labels_of(numbers, ".2f"), strict=True):
        drawing.horizontal_tick(to_x(tick), label)
    return drawing.markup()


def sparkline(points: Sequence[Point]) -> Markup:
    """The shape of a number over runs, without axes; nothing where there is but one."""
    if len(points) < 2:
        return Markup("")
    low, high = min(point.value for point in points), max(point.value for point in points)
    to_x, to_y = Scale(0, len(points) - 1, 3, SPARK_WIDTH - 5), Scale(low, high, SPARK_HEIGHT - 5, 5)
    places = [(to_x(number), to_y(point.value)) for number, point in enumerate(points)]
    drawing = Drawing(SPARK_WIDTH, SPARK_HEIGHT, None, "spark")
    drawing.add("polyline", "trace", points=" ".join(f"{x},{y}" for x, y in places))
    drawing.add("circle", "dot now", cx=places[-1][0], cy=places[-1][1], r=3)
    return drawing.markup()


def interval_axis(points: Sequence[Point]) -> Markup:
    """The scale above a column of `interval_mark`s."""
    to_x, ticks = _interval_scale(points)
    drawing = Drawing(MARK_WIDTH, MARK_HEIGHT, None, "mark")
    # Five numbers would run into each other.
    every = 1 if len(ticks) < 5 else 2
    for tick, label in list(zip(ticks, labels_of(ticks, ".3f"), strict=True))[::every]:
        anchor = "start" if tick == ticks[0] else "end" if tick == ticks[-1] else "middle"
        drawing.add("text", "tick", text=label, x=to_x(tick), y=13, text_anchor=anchor)
    return drawing.markup()


def interval_mark(point: Point, points: Sequence[Point]) -> Markup:
    """A mean and its interval on the scale of all `points`."""
    to_x, ticks = _interval_scale(points)
    drawing = Drawing(MARK_WIDTH, MARK_HEIGHT, None, "mark")
    for tick in ticks:
        drawing.line("grid", (to_x(tick), 0), (to_x(tick), MARK_HEIGHT))
    middle = MARK_HEIGHT / 2
    if point.low is not None and point.high is not None:
        drawing.line("whisker", (to_x(point.low), middle), (to_x(point.high), middle))
    drawing.add("circle", "dot now", cx=to_x(point.value), cy=middle, r=4)
    return drawing.markup()


def _interval_scale(points: Sequence[Point]) -> tuple[Scale, list[float]]:
    ticks = ticks_around(ends_of(points), ".3f", num_ticks=3)
    return Scale(ticks[0], ticks[-1], 6, MARK_WIDTH - 6), ticks


def seconds_bar(seconds: float, longest: float) -> Markup:
    """A stage's share of the longest stage."""
    drawing = Drawing(SPARK_WIDTH, 8, None, "mark")
    drawing.add("rect", "track", x=0, y=0, width=SPARK_WIDTH, height=8, rx=4)
    width = round(max(2.0, SPARK_WIDTH * seconds / max(longest, 1e-9)), 2)
    drawing.add("rect", "bar series1", x=0, y=0, width=width, height=8, rx=min(4.0, width / 2))
    return drawing.markup()
