"""What every notebook keeps to: its format, text enough to teach, and nothing in it that belongs in the library."""

import ast
import importlib
from pathlib import Path

import pytest

from cesrec_core.notebook_source import Cell, cells_of

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.Try, ast.With)


def cells(path: Path) -> list[Cell]:
    return list(cells_of(path.read_text(encoding="utf-8")))


def statements(path: Path) -> list[ast.stmt]:
    return [node for cell in cells(path) if not cell.is_markdown for node in ast.parse(cell.text).body]


def test_there_are_five_in_order() -> None:
    assert [path.name[:3] for path in NOTEBOOKS] == ["01_", "02_", "03_", "04_", "05_"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_its_title_and_its_parameters(path: Path) -> None:
    first = cells(path)[0]
    assert first.is_markdown and first.markdown.startswith(f"# {int(path.name[:2])} · ")
    assert "**Parameters**" in first.markdown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_explains_what_it_shows(path: Path) -> None:
    """Never more than three cells of code without a word, and more words than code."""
    kinds = "".join("m" if cell.is_markdown else "c" for cell in cells(path))
    assert "cccc" not in kinds
    words = sum(len(cell.markdown.split()) for cell in cells(path) if cell.is_markdown)
    assert words > sum(len(cell.text.split()) for cell in cells(path) if not cell.is_markdown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_text_is_text(path: Path) -> None:
    """A line without the marker would be code on Databricks."""
    for cell in cells(path):
        marked = [line.startswith("# MAGIC") for line in cell.text.splitlines()]
        assert all(marked) if cell.is_markdown else not any(marked), f"{path.name}, line {cell.line}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_defines_nothing(path: Path) -> None:
    found = [node for statement in statements(path) for node in ast.walk(statement) if isinstance(node, DEFINITIONS)]
    assert not found
    calls = [node.func for statement in statements(path) for node in ast.walk(statement) if isinstance(node, ast.Call)]
    assert "print" not in [call.id for call in calls if isinstance(call, ast.Name)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_uses_public_names_of_the_library_alone(path: Path) -> None:
    imports = [node for node in statements(path) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    for node in imports:
        assert isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cesrec_core."), ast.unparse(node)
        module = importlib.import_module(node.module or "")
        for alias in node.names:
            assert not alias.name.startswith("_") and hasattr(module, alias.name), ast.unparse(node)
    tree = ast.Module([*statements(path)], [])
    assert not [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_closes_what_it_opens(path: Path) -> None:
    """And shows something: most of its cells of code end with a value."""
    last = [ast.parse(cell.text).body[-1] for cell in cells(path) if not cell.is_markdown]
    assert ast.unparse(last[-1]) == "notebook.close()"
    assert sum(isinstance(statement, ast.Expr) for statement in last) > len(last) / 2
