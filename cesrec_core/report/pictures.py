"""What a notebook shows: figures and tables that draw themselves as HTML, on Databricks, in Jupyter and without any display.

No state of pyplot is used, so nothing depends on a backend. Texts may hold anything that people and catalogues hold: tables
escape them, and figures neither read formulas in them nor let them break lines.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cesrec_core.report.text import shown

# The light palette of page.css.
INK, SOFT, LINE, FAINT = "#1c1b19", "#5b5851", "#dedbd2", "#efede6"
ONE, TWO, GOOD, BAD = "#2f5fb3", "#c05a1c", "#146c43", "#a3231b"
DOTS_PER_INCH = 110
MAX_CELL_CHARACTERS = 300
# For tables: notebooks lend them no style sheet.
CELL = "padding:4px 12px 4px 0;text-align:left;vertical-align:top;border-bottom:1px solid #dedbd2"


class Picture(Figure):
    """A figure that knows what it shows.

    Args:
        width, height: inches.
        description: one sentence for those who cannot see it.
    """

    def __init__(self, width: float, height: float, description: str) -> None:
        super().__init__(figsize=(width, height), layout="constrained", facecolor="white")
        self.description = description

    def png(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=DOTS_PER_INCH)
        return file.getvalue()

    def _repr_html_(self) -> str:
        source = "data:image/png;base64," + base64.b64encode(self.png()).decode()
        return str(Markup('<img style="max-width:100%" alt="{}" src="{}">').format(self.description, source))


@dataclass(frozen=True)
class HtmlTable:
    """Rows under named columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    @classmethod
    def of(cls, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> "HtmlTable":
        """Of anything that can be written: None is empty, several values stand behind each other."""
        return cls(tuple(columns), tuple(tuple(_written(value) for value in row) for row in rows), caption)

    def _repr_html_(self) -> str:
        title = Markup('<p style="margin:0 0 6px"><b>{}</b></p>').format(self.caption) if self.caption else Markup("")
        head = Markup("").join(Markup('<th style="' + CELL + '">{}</th>').format(name) for name in self.columns)
        body = Markup("").join(
            Markup("<tr>{}</tr>").format(
                Markup("").join(Markup('<td style="' + CELL + '">{}</td>').format(cell) for cell in row)
            )
            for row in self.rows
        )
        nothing = Markup("") if self.rows else Markup("<p>Nothing.</p>")
        table = Markup('<table style="border-collapse:collapse"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>')
        return str(title + table.format(head, body) + nothing)


def _written(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(_written(entry) for entry in value)
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else shown(str(value), MAX_CELL_CHARACTERS)


def style(axes: Axes, title: str, grid: str = "x") -> None:
    """The look of all figures; grid lines at right angles to an axis, or none."""
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(colors=SOFT, labelcolor=SOFT, labelsize=9)
    axes.xaxis.label.set_color(SOFT)
    axes.yaxis.label.set_color(SOFT)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=FAINT)  # type: ignore[arg-type]


def name_rows(axes: Axes, names: Sequence[str], max_characters: int = 44) -> None:
    """One row for each name, the first on top."""
    labels = [shown(name, max_characters) for name in names]
    axes.set_yticks(range(len(names)), labels=labels, parse_math=False, color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)


def say(axes: Axes, text: str) -> None:
    """Words in place of a drawing where there is nothing to draw."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, ha="center", va="center", color=SOFT, transform=axes.transAxes, parse_math=False)
