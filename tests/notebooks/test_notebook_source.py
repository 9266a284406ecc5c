"""Cells of notebooks in Databricks source format, by notebooks written out here."""

import json
import traceback
from pathlib import Path

import pytest

from cesrec_core.notebook_source import Cell, ShownCell, as_ipynb, cells_of, main, run_cells
from cesrec_core.report.pictures import HtmlTable

NOTEBOOK = """\
# Databricks notebook source
# MAGIC %md
# MAGIC # A title
# MAGIC
# MAGIC   indented

# COMMAND ----------

from cesrec_core.report.pictures import HtmlTable
size = (2, 1)

# COMMAND ----------

# COMMAND ----------

HtmlTable.of(("width", "height"), [size])
"""


def test_cells_are_split_where_databricks_splits_them() -> None:
    cells = list(cells_of(NOTEBOOK))
    assert cells == [
        Cell(2, "# MAGIC %md\n# MAGIC # A title\n# MAGIC\n# MAGIC   indented"),
        Cell(9, "from cesrec_core.report.pictures import HtmlTable\nsize = (2, 1)"),
        Cell(16, 'HtmlTable.of(("width", "height"), [size])'),
    ]
    assert cells[0].markdown == "# A title\n\n  indented"


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = 1\n", "first line"), ("", "first line"), ("# Databricks notebook source\n# MAGIC %sh ls\n", "Line 2: only %md")],
)
def test_what_is_no_notebook_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(cells_of(text))


def test_cells_share_a_namespace_and_show_what_they_end_with(tmp_path: Path) -> None:
    path, namespace = tmp_path / "01.py", {}
    path.write_text(NOTEBOOK, encoding="utf-8")
    text, statements, table = run_cells(path, namespace)
    assert (text.value, statements.value) == (None, None)
    assert table.value == HtmlTable(("width", "height"), (("2", "1"),))
    assert namespace["size"] == (2, 1)


def test_a_cell_that_fails_is_told_by_its_line_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "01.py"
    path.write_text(NOTEBOOK + "\n# COMMAND ----------\n\n1 / 0\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError) as caught:
        list(run_cells(path, {}))
    assert traceback.extract_tb(caught.value.__traceback__)[-1].lineno == 20


def test_the_ipynb_holds_texts_sources_and_what_was_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "01.py").write_text(NOTEBOOK, encoding="utf-8")
    assert main([str(tmp_path / "01.py"), "--out", str(tmp_path / "out")]) == 0
    written = tmp_path / "out" / "01.ipynb"
    assert capsys.readouterr().out == f"{written}\n"
    read = json.loads(written.read_text(encoding="utf-8"))
    assert (read["nbformat"], read["nbformat_minor"]) == (4, 5)
    assert [cell["cell_type"] for cell in read["cells"]] == ["markdown", "code", "code"]
    assert read["cells"][0]["source"] == "# A title\n\n  indented"
    assert [len(cell.get("outputs", [])) for cell in read["cells"]] == [0, 0, 1]
    assert "<table" in read["cells"][2]["outputs"][0]["data"]["text/html"]
    assert len({cell["id"] for cell in read["cells"]}) == 3


def test_what_was_shown_before_a_cell_failed_is_written(tmp_path: Path) -> None:
    (tmp_path / "01.py").write_text(NOTEBOOK + "\n# COMMAND ----------\n\n1 / 0\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        main([str(tmp_path / "01.py"), "--out", str(tmp_path)])
    assert len(json.loads((tmp_path / "01.ipynb").read_text(encoding="utf-8"))["cells"]) == 3


def test_values_that_do_not_draw_themselves_are_not_kept() -> None:
    (cell,) = json.loads(as_ipynb([ShownCell(Cell(1, "user_id"), "somebody")]))["cells"]
    assert cell["outputs"] == []
