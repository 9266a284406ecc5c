"""Cells of notebooks in Databricks source format, by notebooks written out here."""

import traceback
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from notebook_source import Cell, cells_of, run_cells

NOTEBOOK = """\
# Databricks notebook source
# MAGIC %md
# MAGIC # A title

# COMMAND ----------

from matplotlib.figure import Figure
size = (2, 1)

# COMMAND ----------

# COMMAND ----------

Figure(figsize=size)
"""


def test_cells_are_split_where_databricks_splits_them() -> None:
    assert list(cells_of(NOTEBOOK)) == [
        Cell(2, "# MAGIC %md\n# MAGIC # A title"),
        Cell(7, "from matplotlib.figure import Figure\nsize = (2, 1)"),
        Cell(14, "Figure(figsize=size)"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = 1\n", "first line"), ("", "first line"), ("# Databricks notebook source\n# MAGIC %sh ls\n", "Line 2: only %md")],
)
def test_what_is_no_notebook_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(cells_of(text))


def test_cells_share_a_namespace_and_their_last_figure_is_a_picture(tmp_path: Path) -> None:
    path, namespace = tmp_path / "01.py", {}
    path.write_text(NOTEBOOK, encoding="utf-8")
    (picture,) = run_cells(path, namespace)
    assert isinstance(picture, Figure) and list(picture.get_size_inches()) == [2, 1]
    assert namespace["size"] == (2, 1)


def test_a_cell_that_fails_is_told_by_its_line_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "01.py"
    path.write_text(NOTEBOOK + "\n# COMMAND ----------\n\n1 / 0\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError) as caught:
        run_cells(path, {})
    assert traceback.extract_tb(caught.value.__traceback__)[-1].lineno == 18
