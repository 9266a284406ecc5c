"""What `make airflow` runs in the environment of a real Airflow: the DAGs load, and cesrec_nightly runs on a tiny world.

Every stage is a spark-submit of the project's own environment, whose bin/ comes first on the path. What the asset-triggered DAG
submits, and what a failed stage does to it, is seen with a spark-submit that only writes down what it was asked.
"""

import argparse
import datetime as dt
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

ROOT = Path(__file__).parents[2]
RUN_DATE = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
# What others write in files of their own, as the DAG's file says.
OF_OTHERS = """
import datetime as dt
from airflow.sdk import DAG, Asset, task

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

with DAG("somebodys_upload", schedule=None, start_date=START):
    @task(outlets=[Asset("cesrec_raw_interactions")])
    def upload(): pass
    upload()

with DAG("somebodys_load", schedule=[Asset("cesrec_recommendations")], start_date=START):
    @task
    def load(): pass
    load()
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make airflow")
    parser.add_argument("--against-nightly", action="store_true", help="run nightly_refresh too, and compare every table")
    against_nightly = parser.parse_args(arguments).against_nightly
    with tempfile.TemporaryDirectory() as folder:
        configure(Path(folder))
        for command in (["db", "migrate"], ["dags", "reserialize"]):
            subprocess.run([Path(sys.executable).parent / "airflow", *command], check=True, stdout=subprocess.DEVNULL)
        dags = load_dags()
        activate_assets()
        run_upload(dags["somebodys_upload"])
        run_databricks(dags["cesrec_nightly_databricks"])
        date_an_arrival(dags["cesrec_on_arrival"])
        run_on_arrival(dags["cesrec_on_arrival"], Path(folder))
        make_up_for_nights()
        of_the_other_environment("make-world", folder)
        run_nightly(dags["cesrec_nightly"])
        assert_published_wakes()
        of_the_other_environment("check", folder)
        if against_nightly:
            of_the_other_environment("run-at-once", folder)
            of_the_other_environment("compare", folder)
    return 0


def configure(folder: Path) -> None:
    """Before Airflow is imported: it reads the environment then."""
    dags = folder / "dags"
    dags.mkdir()
    shutil.copyfile(ROOT / "conf" / "airflow" / "cesrec_nightly.py", dags / "cesrec_nightly.py")
    (dags / "of_others.py").write_text(OF_OTHERS)
    os.environ |= {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        # Nobody who is paused is woken.
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
        "AIRFLOW_CONN_DATABRICKS_DEFAULT": json.dumps({"conn_type": "databricks", "host": "https://example.invalid"}),
        "AIRFLOW_VAR_CESREC_HOME": str(ROOT),
        "AIRFLOW_VAR_CESREC_CONFIG": str(folder / "by_stages.yaml"),
        "SPARK_CONF_DIR": str(folder / "spark_conf"),
    }


def of_the_other_environment(command: str, folder: str) -> None:
    script = Path(__file__).with_name("worlds.py")
    subprocess.run(["python", script, command, folder], check=True)


def load_dags() -> dict:
    from airflow.models import DagBag

    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    assert bag.import_errors == {}, bag.import_errors
    ours = {"cesrec_nightly", "cesrec_on_arrival", "cesrec_nightly_databricks"}
    assert set(bag.dags) == ours | {"somebodys_upload", "somebodys_load"}
    print("The DAGs load:", ", ".join(sorted(ours)), flush=True)
    return bag.dags


def activate_assets() -> None:
    """What the scheduler does with the assets that DAGs name: one that two of them describe differently is not activated."""
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models.asset import AssetActive
    from airflow.models.dagwarning import DagWarning
    from airflow.settings import Session
    from sqlalchemy import select

    with Session() as session:
        SchedulerJobRunner(Job())._update_asset_orphanage(session=session)
        session.commit()
        warned = [(warning.dag_id, warning.message) for warning in session.scalars(select(DagWarning))]
        active = {asset.name for asset in session.scalars(select(AssetActive))}
    assert not warned, warned
    assert {"cesrec_recommendations", "cesrec_raw_interactions"} <= active, active


def woken() -> set[str]:
    """The DAGs that the scheduler would start for what has happened to assets since this was asked before."""
    from airflow.models.asset import AssetDagRunQueue
    from airflow.settings import Session
    from sqlalchemy import delete, select

    with Session() as session:
        found = {queued.target_dag_id for queued in session.scalars(select(AssetDagRunQueue))}
        session.execute(delete(AssetDagRunQueue))
        session.commit()
    return found


def assert_published_wakes() -> None:
    found = woken()
    assert found == {"somebodys_load"}, found
    print("Who has scheduled on what is published is woken", flush=True)


def run_upload(dag) -> None:
    assert str(dag.test(logical_date=RUN_DATE).state) == "success"
    found = woken()
    assert found == {"cesrec_on_arrival"}, found
    print("Who uploads interactions, and says so, wakes cesrec_on_arrival", flush=True)


def run_nightly(dag) -> None:
    for task in dag.tasks:
        # What fails here would fail again.
        task.retries = 0
    run = dag.test(logical_date=RUN_DATE)
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    assert str(run.state) == "success", states
    assert set(states.values()) == {"success"} and len(states) == 14, states
    print("cesrec_nightly: 14 tasks have succeeded", flush=True)


def run_databricks(dag) -> None:
    """Databricks itself is a stand-in; what it would be asked is what a real Airflow makes of the DAG."""
    from airflow.providers.databricks.hooks.databricks import DatabricksHook, RunState

    state = {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS", "state_message": ""}
    stand_in = {
        "find_job_id_by_name": mock.Mock(return_value=7),
        "run_now": mock.Mock(return_value=1),
        "get_run_page_url": mock.Mock(return_value="https://example.invalid/run/1"),
        "get_run": mock.Mock(return_value={"state": state}),
        "get_run_state": mock.Mock(return_value=RunState(**state)),
    }
    with mock.patch.multiple(DatabricksHook, **stand_in):
        run = dag.test(logical_date=RUN_DATE)
        # Cleared, although it had succeeded: a correction, say, of what was read.
        again = dag.test(logical_date=RUN_DATE)
    assert str(run.state) == str(again.state) == "success"
    assert_published_wakes()
    assert stand_in["run_now"].call_count == 2, stand_in["run_now"].call_args_list
    assert stand_in["find_job_id_by_name"].call_args.args == ("cesrec nightly",), stand_in["find_job_id_by_name"].call_args
    (((asked,), _), ((asked_again,), _)) = stand_in["run_now"].call_args_list
    assert asked["idempotency_token"] != asked_again["idempotency_token"], asked
    assert (asked["job_id"], asked["job_parameters"]) == (7, {"run_date": "2026-03-02"}), asked
    # The number of the try comes last.
    assert asked["idempotency_token"].rpartition("-")[2].isdigit() and len(asked["idempotency_token"]) <= 64, asked
    print(
        "cesrec_nightly_databricks asks for", asked["job_parameters"], "with the token", asked["idempotency_token"], flush=True
    )


def date_an_arrival(dag) -> None:
    """The newest date that the events tell, in the form in which Airflow hands them to a template; else the day they came."""
    from airflow.sdk.execution_time.comms import AssetEventDagRunReferenceResult
    from airflow.sdk.execution_time.context import TriggeringAssetEventsAccessor

    (asset,) = dag.timetable.asset_condition.objects
    arrived = {"timestamp": "2026-03-06T01:00:00Z", "asset": {"name": asset.name, "uri": asset.uri, "extra": {}}}
    origin = {
        "source_task_id": None,
        "source_dag_id": None,
        "source_run_id": None,
        "source_map_index": None,
        "source_aliases": [],
    }
    dag_run = SimpleNamespace(logical_date=None, run_after=dt.datetime(2026, 3, 6, 1, tzinfo=dt.UTC))
    for told, expected in (({"run_date": "2026-03-05"}, "2026-03-05"), ({}, "2026-03-06")):
        events = [
            AssetEventDagRunReferenceResult.model_validate({**arrived, **origin, "extra": extra})
            for extra in (told, {}, {"run_date": "2026-03-04"} if told else {})
        ]
        given = {"params": {}, "dag_run": dag_run, "triggering_asset_events": TriggeringAssetEventsAccessor.build(events)}
        date = dag.get_template_env().from_string(dag.tasks[0].application_args[3]).render(**given)
        assert date == expected, (date, expected)
    print("cesrec_on_arrival: the date of its events' extra, else of the day", flush=True)


def run_on_arrival(dag, folder: Path) -> None:
    """The trigger's date reaches every stage and try; a stage that fails for good stops later ones, and is told of."""
    asked = folder / "asked.txt"
    stand_in = folder / "stand_in" / "spark-submit"
    stand_in.parent.mkdir()
    # One stage fails the first time, another one always.
    stand_in.write_text(f"""#!/bin/sh
echo "$@" >> {asked}
case "$*" in
  *jobs/embed_items.py*) mkdir {folder}/tried 2> /dev/null && exit 1 || exit 0;;
  *jobs/project_items.py*) exit 1;;
esac
""")
    stand_in.chmod(0o755)
    for task in dag.tasks:
        task.retries, task.retry_delay = 1, dt.timedelta(0)
    told: list[str] = []
    (callback,) = {callback for task in dag.tasks for callback in task.on_failure_callback}
    log = callback.__globals__["log"]
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    log.addHandler(handler)
    with mock.patch.dict(os.environ, {"PATH": f"{stand_in.parent}:{os.environ['PATH']}"}):
        run = dag.test(logical_date=None, run_conf={"run_date": "2026-03-05"})
    log.removeHandler(handler)
    assert run.logical_date is None and str(run.state) == "failed", run
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    order = [task.task_id for task in dag.topological_sort()]
    failed = order.index("project_items")
    assert [states[stage] for stage in order] == [*["success"] * failed, "failed", *["upstream_failed"] * (13 - failed)], states
    expected = [stage for stage in order[: failed + 1] for _ in range(2 if stage in ("embed_items", "project_items") else 1)]
    for line, stage in zip(asked.read_text().splitlines(), expected, strict=True):
        assert f"jobs/{stage}.py" in line and "--run-date 2026-03-05" in line, (stage, line)
    assert len(told) == 1 and "project_items of cesrec_on_arrival" in told[0], told
    print(
        "cesrec_on_arrival:",
        failed,
        "stages submitted, one of them twice; the next one failed twice, and the callback told of it",
        flush=True,
    )


def make_up_for_nights() -> None:
    """The command in the DAG's own text, as far as it goes without a scheduler: what it would run."""
    airflow = Path(sys.executable).parent / "airflow"
    dates = ["--from-date", "2026-03-01", "--to-date", "2026-03-03T23:59"]
    rules = ["--max-active-runs", "1", "--reprocess-behavior", "failed"]
    command = [airflow, "backfill", "create", "--dag-id", "cesrec_nightly", *dates, *rules, "--dry-run"]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    nights = [f"2026-03-0{day}" for day in (1, 2, 3)]
    # Before this line the command repeats what it was asked for, dates and all.
    _, found, planned = told.partition("to be attempted")
    assert found and sorted(set(re.findall(r"2026-03-\d\d", planned))) == nights, told
    print("A backfill would run the nights of", ", ".join(nights), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
