"""Faults that make a figure hard to read, found where its renderer puts its texts."""

import re
from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

NUMBER = re.compile(r"[+\N{MINUS SIGN}-]?[\d.,]*\d%?")
# Pixels: renderers round, and boxes of texts have some room around their letters.
SLACK = 2.0


def illegible(figure: Figure) -> list[str]:
    """Texts that reach out of the figure, and axes on which two numbers are the same; names of rows may be."""
    canvas = FigureCanvasAgg(figure)
    # Constrained layouts settle while they are drawn.
    canvas.draw()
    return [*_outside(figure, canvas), *(fault for axes in figure.axes for fault in _repeated(axes))]


def _outside(figure: Figure, canvas: FigureCanvasAgg) -> Iterator[str]:
    width, height = canvas.get_width_height()
    hidden = {id(text) for axes in figure.axes for text in _hidden(axes)}
    for text in figure.findobj(Text):
        if not text.get_text().strip() or not text.get_visible() or id(text) in hidden:
            continue
        box = text.get_window_extent(canvas.get_renderer())
        if box.x0 < -SLACK or box.y0 < -SLACK or box.x1 > width + SLACK or box.y1 > height + SLACK:
            yield f"{text.get_text()!r} reaches out of the figure"


def _hidden(axes: Axes) -> Iterator[Text]:
    """Texts that count as visible and are not drawn: of what is switched off as a whole, and of ticks beyond the axis."""
    if not axes.get_visible():
        yield from axes.findobj(Text)
    for axis in (axes.xaxis, axes.yaxis):
        yield from _labels(axis, is_seen=False) if axes.axison and axis.get_visible() else axis.findobj(Text)


def _repeated(axes: Axes) -> Iterator[str]:
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if not axes.axison or not axis.get_visible():
            continue
        numbers = [label.get_text() for label in _labels(axis, is_seen=True) if NUMBER.fullmatch(label.get_text())]
        if len(set(numbers)) < len(numbers):
            yield f"the {name} axis of {axes.get_title(loc='left')!r} has a number twice: {', '.join(numbers)}"


def _labels(axis: Axis, is_seen: bool) -> list[Text]:
    """Of the ticks within the range that is drawn, or of those beyond it."""
    low, high = sorted(axis.get_view_interval())
    room = 1e-6 * (high - low)
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [tick.label1 for tick in ticks if (low - room <= tick.get_loc() <= high + room) == is_seen]
