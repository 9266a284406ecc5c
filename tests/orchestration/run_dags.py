"""What `make airflow` runs in the environment of a real Airflow: the DAGs load, and cesrec_nightly runs on a tiny world.

Every stage is a spark-submit of the project's own environment, whose bin/ comes first on the path.
"""

import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[2]
RUN_DATE = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        configure(Path(folder))
        subprocess.run([Path(sys.executable).parent / "airflow", "db", "migrate"], check=True, stdout=subprocess.DEVNULL)
        dags = load_dags()
        run_databricks(dags["cesrec_nightly_databricks"])
        of_the_other_environment("make-world", folder)
        # Beside it, since both keep little more than one core busy.
        with ThreadPoolExecutor() as beside:
            at_once = beside.submit(of_the_other_environment, "run-at-once", folder)
            run_nightly(dags["cesrec_nightly"])
            at_once.result()
        of_the_other_environment("compare", folder)
    return 0


def configure(folder: Path) -> None:
    """Before Airflow is imported: it reads the environment then."""
    os.environ |= {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "conf" / "airflow"),
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
    assert set(bag.dags) == {"cesrec_nightly", "cesrec_on_arrival", "cesrec_nightly_databricks"}
    print("The DAGs load:", ", ".join(sorted(bag.dags)), flush=True)
    return bag.dags


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
    assert str(run.state) == "success"
    ((asked,), _) = stand_in["run_now"].call_args
    assert (asked["job_id"], asked["job_parameters"]) == (7, {"run_date": "2026-03-02"}), asked
    # The number of the try comes last.
    assert asked["idempotency_token"].rpartition("-")[2].isdigit() and len(asked["idempotency_token"]) <= 64, asked
    print(
        "cesrec_nightly_databricks asks for", asked["job_parameters"], "with the token", asked["idempotency_token"], flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
