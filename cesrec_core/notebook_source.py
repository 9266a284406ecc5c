"""Notebooks in Databricks source format, run without Databricks: from top to bottom, in one namespace.

    python -m cesrec_core.notebook_source notebooks/01_look_at_the_data.py notebooks/03_one_user.py --out FOLDER

writes them as .ipynb files that hold the texts and what the cells showed, for Jupyter, VS Code or a browser.
"""

import argparse
import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADER = "# Databricks notebook source"
SEPARATOR = "# COMMAND ----------"
MAGIC = "# MAGIC"
MARKDOWN = f"{MAGIC} %md"


@dataclass(frozen=True)
class Cell:
    """One cell; `line` is the number of its first line in the file, from 1."""

    line: int
    text: str

    @property
    def is_markdown(self) -> bool:
        return self.text.startswith(MARKDOWN)

    @property
    def markdown(self) -> str:
        """The text of a %md cell."""
        lines = self.text.removeprefix(MARKDOWN).splitlines()
        return "\n".join(line.removeprefix(MAGIC).removeprefix(" ") for line in lines).strip()


@dataclass(frozen=True)
class ShownCell:
    """A cell that has been run, and the value that it ends with; None where it ends with a statement, or is text."""

    cell: Cell
    value: Any = None


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


def run_cells(path: Path, namespace: dict[str, Any]) -> Iterator[ShownCell]:
    """Run the cells one by one; each shows the value of the expression that it ends with, as a notebook does."""
    for cell in cells_of(path.read_text(encoding="utf-8")):
        if cell.is_markdown:
            yield ShownCell(cell)
            continue
        tree = ast.parse(cell.text, str(path))
        # Tracebacks name lines of the file.
        ast.increment_lineno(tree, cell.line - 1)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(path), "exec"), namespace)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), str(path), "eval"), namespace)
        yield ShownCell(cell, value)


def as_ipynb(cells: list[ShownCell]) -> str:
    """The notebook in Jupyter's own format (nbformat 4.5). Of values only those that draw themselves as HTML are kept."""
    entries = []
    for number, shown in enumerate(cells):
        name = hashlib.sha256(f"{number} {shown.cell.text}".encode()).hexdigest()[:8]
        entry: dict[str, Any] = {"id": name, "metadata": {}}
        if shown.cell.is_markdown:
            entry |= {"cell_type": "markdown", "source": shown.cell.markdown}
        else:
            entry |= {"cell_type": "code", "source": shown.cell.text, "execution_count": None, "outputs": _outputs(shown.value)}
        entries.append(entry)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": entries}, indent=1)


def _outputs(value: Any) -> list[dict[str, Any]]:
    draw = getattr(value, "_repr_html_", None)
    return [] if draw is None else [{"output_type": "display_data", "metadata": {}, "data": {"text/html": draw()}}]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cesrec_core.notebook_source",
        description="Run notebooks in Databricks source format, and write what they show as .ipynb files.",
        epilog="Parameters are environment variables: CESREC_CONFIG, CESREC_RUN_DATE and those that a notebook names.",
    )
    parser.add_argument("notebooks", nargs="+", type=Path, help="in the order in which they are run")
    parser.add_argument("--out", type=Path, required=True, help="folder for the .ipynb files")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.notebooks:
        written = options.out / f"{path.stem}.ipynb"
        shown: list[ShownCell] = []
        try:
            for cell in run_cells(path, {"__name__": "__main__"}):
                shown.append(cell)
        finally:
            # Where a cell fails, what came before it explains why.
            written.write_text(as_ipynb(shown), encoding="utf-8")
        print(written, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
