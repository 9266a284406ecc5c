"""conf/airflow, without an Airflow: `make airflow` runs the DAGs in a real one, these tests hold them against the library."""

import ast
import datetime as dt
import hashlib
import itertools
import logging
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
    """One function of the file, with those that it may call."""
    nodes: list[ast.stmt] = [node for node in TREE.body if isinstance(node, ast.FunctionDef)]
    names: dict[str, Any] = {"Any": Any, "dt": dt, "hashlib": hashlib, "log": logging.getLogger(name)}
    exec(compile(ast.Module(nodes, []), str(FILE), "exec"), names)
    return names[name]


def test_a_task_is_a_stage_and_they_stand_in_their_order() -> None:
    assert literal("STAGES") == tuple(stage.name for stage in NIGHTLY)


def test_outputs_are_tables_of_runs() -> None:
    assert {name for name in literal("PUBLISHED_TABLES") if not TABLES[name].is_per_run} == {"runs"}


def test_parsing_the_file_starts_neither_spark_nor_the_library() -> None:
    imported = {node.module for node in ast.walk(TREE) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(TREE) if isinstance(node, ast.Import) for alias in node.names}
    assert {name.split(".")[0] for name in imported if name} == {"airflow", "datetime", "hashlib", "logging", "typing"}


class Given:
    """In the stead of one of Airflow's classes: keeps what it was given."""

    def __init__(self, *arguments: Any, **values: Any) -> None:
        self.arguments, self.values = arguments, values
        self.tasks: list[Given] = []


@pytest.fixture(scope="module")
def dags() -> dict[str, Given]:
    """The DAGs of the file by their ids, each with its tasks."""
    made: list[Given] = []

    class Dag(Given):
        def __enter__(self) -> None:
            made.append(self)

        def __exit__(self, *_: object) -> None:
            pass

    class Task(Given):
        def __init__(self, **values: Any) -> None:
            super().__init__(**values)
            made[-1].tasks.append(self)

    airflow = {"SparkSubmitOperator": Task, "DatabricksRunNowOperator": Task, "DAG": Dag}
    airflow |= dict.fromkeys(("Asset", "CronTriggerTimetable", "Param"), Given)
    names = {**airflow, "chain": lambda *tasks: None, "dt": dt, "hashlib": hashlib, "logging": logging, "Any": Any}
    body = [node for node in TREE.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(body, []), str(FILE), "exec"), names)
    return {dag.arguments[0]: dag for dag in made}


def test_each_dag_begins_when_it_should_one_run_at_a_time(dags: dict[str, Given]) -> None:
    (asset,) = dags["cesrec_on_arrival"].values["schedule"]
    assert asset.arguments == ("cesrec_raw_interactions",)
    for name in ("cesrec_nightly", "cesrec_nightly_databricks"):
        schedule = dags[name].values["schedule"]
        assert (schedule.arguments, schedule.values) == (("0 2 * * *",), {"timezone": "UTC"})
    assert len(dags) == 3
    for dag in dags.values():
        assert (dag.values["max_active_runs"], dag.values["catchup"]) == (1, False)


def test_a_task_is_tried_again_and_somebody_is_told_when_that_does_not_help(dags: dict[str, Given]) -> None:
    for dag in dags.values():
        defaults = dag.values["default_args"]
        assert defaults["on_failure_callback"].__name__ == "tell_failure"
        assert defaults["execution_timeout"] <= dt.timedelta(days=1)
        assert all(task.values.get("retries", defaults["retries"]) >= 1 for task in dag.tasks)


def test_consumers_are_told_when_a_run_was_published_and_not_before(dags: dict[str, Given]) -> None:
    outputs = {f"cesrec_{name}" for name in literal("PUBLISHED_TABLES")}
    for dag in dags.values():
        told = [{asset.arguments[0] for asset in task.values["outlets"]} for task in dag.tasks]
        assert told == [set()] * (len(told) - 1) + [outputs]


def test_an_asset_is_the_one_that_others_name(dags: dict[str, Given]) -> None:
    """By its name alone: Airflow refuses a second URI for it, and then does not run who has given the first."""
    outlets = [asset for dag in dags.values() for task in dag.tasks for asset in task.values["outlets"]]
    for asset in (*outlets, *dags["cesrec_on_arrival"].values["schedule"]):
        assert len(asset.arguments) == 1 and asset.values == {}


def test_every_stage_is_given_the_date_of_the_dag_run(dags: dict[str, Given]) -> None:
    for name in ("cesrec_nightly", "cesrec_on_arrival"):
        asked = [task.values["application_args"] for task in dags[name].tasks]
        assert len(asked) == len(NIGHTLY)
        assert {arguments[arguments.index("--run-date") + 1] for arguments in asked} == {literal("RUN_DATE")}
    (task,) = dags["cesrec_nightly_databricks"].tasks
    assert task.values["job_parameters"] == {"run_date": literal("RUN_DATE")}
    assert "token_of" in task.values["idempotency_token"]
    assert task.values["durable"] is False


TWO = dt.datetime(2026, 3, 2, 2, tzinfo=dt.UTC)
LATER = dt.datetime(2026, 3, 5, 9, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("params", "logical_date", "told", "expected"),
    [
        ({"run_date": None}, TWO, [], "2026-03-02"),
        ({"run_date": "2026-02-01"}, TWO, [{"run_date": "2026-03-04"}], "2026-02-01"),
        ({}, None, [{"run_date": "2026-03-03"}, {"run_date": "2026-03-04"}, {}, None], "2026-03-04"),
        ({}, None, [None], "2026-03-05"),
        ({}, None, [{"run_date": "2026-03-9"}, {"run_date": "2026-03-10"}, {"run_date": "tomorrow"}], "2026-03-10"),
        ({}, None, [{"run_date": "2026-03-04T00:00:00+00:00"}, {"run_date": "2026-03-04T23:30:00-05:00"}], "2026-03-05"),
        ({}, None, [{"run_date": dt.date(2026, 3, 4)}, {"run_date": " 20260303 "}], "2026-03-04"),
    ],
    ids=["schedule", "as asked for", "newest event", "moment it was due", "newest date among events", "times", "dates"],
)
def test_the_run_date_belongs_to_the_dag_run(
    params: dict[str, Any], logical_date: dt.datetime | None, told: list[Any], expected: str
) -> None:
    dag_run = SimpleNamespace(logical_date=logical_date, run_after=LATER)
    events = {"raw": [SimpleNamespace(extra=extra) for extra in told]}
    assert function("run_date_of")(params, dag_run, events) == expected


def test_an_event_whose_date_is_none_is_told_of_and_hardly_quoted(caplog: pytest.LogCaptureFixture) -> None:
    dag_run = SimpleNamespace(logical_date=None, run_after=LATER)
    told = ["2026-03-04", "tomorrow, " + "x" * 99, "2026-03-9"]
    events = {"raw": [SimpleNamespace(extra={"run_date": text}) for text in told]}
    with caplog.at_level(logging.WARNING):
        assert function("run_date_of")({}, dag_run, events) == "2026-03-04"
    (message,) = caplog.messages
    assert "2 of 3 run dates in asset events are none" in message and "tomorrow" in message and "x" * 20 not in message
    caplog.clear()
    assert function("run_date_of")({}, dag_run, {"raw": events["raw"][:1]}) == "2026-03-04" and not caplog.messages


def test_events_that_tell_dates_of_which_none_is_one_stop_the_task() -> None:
    """The date on which they came is not what they asked for, and consumers would read that night."""
    events = {"raw": [SimpleNamespace(extra={"run_date": text}) for text in ("2026-3-9", "9999-12-31T23:59:59-05:00")]}
    with pytest.raises(ValueError, match=r"2 of 2 run dates in asset events are none, the first '2026-3-9'\. Write them as"):
        function("run_date_of")({}, SimpleNamespace(logical_date=None, run_after=LATER), events)


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
