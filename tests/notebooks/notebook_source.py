"""Notebooks in Databricks source format: their cells, and a run from top to bottom in one namespace, as Databricks does it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

HEADER = "# Databricks notebook source"
SEPARATOR = "# COMMAND ----------"
MAGIC = "# MAGIC"


@dataclass(frozen=True)
class Cell:
    """One cell; `line` is the number of its first line in the file, from 1."""

    line: int
    text: str

    @property
    def is_markdown(self) -> bool:
        return self.text.startswith(f"{MAGIC} %md")


def cells_of(text: str) -> Iterator[Cell]:
    """The cells of a notebook, in order; empty ones are left out.

    Raises:
        ValueError: it is no notebook, or a cell has a magic command other than %md, which only Databricks could run.
    """
    lines = text.splitlines()
    if not lines or lines[0] != HEADER:
        raise ValueError(f"The first line of a notebook is {HEADER!r}.")
    starts = [1, *(number + 1 for number, line in enumerate(lines) if line == SEPARATOR)]
    for start, end in zip(starts, [*(start - 1 for start in starts[1:]), len(lines)], strict=True):
        filled = [number for number in range(start, end) if lines[number].strip()]
        if not filled:
            continue
        cell = Cell(filled[0] + 1, "\n".join(lines[filled[0] : filled[-1] + 1]))
        if cell.text.startswith(MAGIC) and not cell.is_markdown:
            raise ValueError(f"Line {cell.line}: only %md cells can be read here.")
        yield cell


def run_cells(path: Path, namespace: dict[str, Any]) -> list[Figure]:
    """Run the code cells; returns the pictures, which are figures that a cell ends with, as a notebook shows them."""
    pictures = []
    for cell in cells_of(path.read_text(encoding="utf-8")):
        if cell.is_markdown:
            continue
        tree = ast.parse(cell.text, str(path))
        # Tracebacks name lines of the file.
        ast.increment_lineno(tree, cell.line - 1)
        shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(path), "exec"), namespace)
        if isinstance(shown, ast.Expr):
            value = eval(compile(ast.Expression(shown.value), str(path), "eval"), namespace)
            pictures += [value] if isinstance(value, Figure) else []
    return pictures
