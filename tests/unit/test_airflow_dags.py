"""conf/airflow, without an Airflow: `make airflow` runs the DAGs in a real one, these tests hold them against the library."""

import ast
import datetime as dt
import hashlib
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cesrec_core.schemas import TABLES
from cesrec_core.stages.nightly import NIGHTLY

FILE = Path(__file__).parents[2] / "conf" / "airflow" / "cesrec_nightly.py"
TREE = ast.parse(FILE.read_text(encoding="utf-8"))


def literal(name: str) -> Any:
    (value,) = (
        node.value
        for node in TREE.body
        if isinstance(node, ast.Assign) and [target.id for target in node.targets if isinstance(target, ast.Name)] == [name]
    )
    return ast.literal_eval(value)


def function(name: str) -> Any:
    """One function of the file, by itself."""
    (node,) = (node for node in TREE.body if isinstance(node, ast.FunctionDef) and node.name == name)
    names: dict[str, Any] = {"Any": Any, "hashlib": hashlib}
    exec(compile(ast.Module([node], []), str(FILE), "exec"), names)
    return names[name]


def test_a_task_is_a_stage_and_they_stand_in_their_order() -> None:
    assert literal("STAGES") == tuple(stage.name for stage in NIGHTLY)


def test_outputs_are_tables_of_runs() -> None:
    assert {name for name in literal("PUBLISHED_TABLES") if not TABLES[name].is_per_run} == {"runs"}


def test_parsing_the_file_starts_neither_spark_nor_the_library() -> None:
    imported = {node.module for node in ast.walk(TREE) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(TREE) if isinstance(node, ast.Import) for alias in node.names}
    assert {name.split(".")[0] for name in imported if name} == {"airflow", "datetime", "hashlib", "logging", "typing"}


TWO = dt.datetime(2026, 3, 2, 2, tzinfo=dt.UTC)
LATER = dt.datetime(2026, 3, 5, 9, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("params", "logical_date", "told", "expected"),
    [
        ({"run_date": None}, TWO, [], "2026-03-02"),
        ({"run_date": "2026-02-01"}, TWO, [{"run_date": "2026-03-04"}], "2026-02-01"),
        ({}, None, [{"run_date": "2026-03-03"}, {"run_date": "2026-03-04"}, {}, None], "2026-03-04"),
        ({}, None, [None], "2026-03-05"),
    ],
    ids=["by the schedule", "as asked for", "as the newest event says", "by the moment it was due"],
)
def test_the_run_date_belongs_to_the_dag_run(
    params: dict[str, Any], logical_date: dt.datetime | None, told: list[Any], expected: str
) -> None:
    dag_run = SimpleNamespace(logical_date=logical_date, run_after=LATER)
    events = {"raw": [SimpleNamespace(extra=extra) for extra in told]}
    assert function("run_date_of")(params, dag_run, events) == expected


def test_every_try_of_every_dag_run_has_a_token_of_its_own() -> None:
    tokens = [
        function("token_of")(
            SimpleNamespace(dag_id=dag, run_id="scheduled__2026-03-02T02:00:00+00:00", try_number=number),
            SimpleNamespace(start_date=started),
        )
        for dag, number, started in itertools.product(("a", "b"), (1, 2), (None, TWO, LATER))
    ]
    assert len(set(tokens)) == len(tokens)
    assert max(map(len, tokens)) <= 64
