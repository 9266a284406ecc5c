"""What is on a figure, for tests."""

from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text


def words_on(figure: Figure) -> list[str]:
    """All texts that can be seen, numbers at the axes too."""
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def colour_of(figure: Figure, words: str) -> str:
    """Of the text that holds these words."""
    (found,) = {to_hex(text.get_color()) for text in figure.findobj(Text) if words in text.get_text()}
    return found


def lengths_of_bars(figure: Figure) -> list[float]:
    """Widths of the horizontal bars, in the order in which they were drawn."""
    return [patch.get_width() for container in figure.axes[0].containers for patch in container]
