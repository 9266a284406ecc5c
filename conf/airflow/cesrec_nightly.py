"""CESRec's nightly job for Airflow 3, in three ways. Copy this file into the DAGs folder; unpause the one you want.

cesrec_nightly             every night, a spark-submit for each stage
cesrec_nightly_databricks  every night, one run of the job that databricks.yml deploys
cesrec_on_arrival          whenever new interactions have arrived, a spark-submit for each stage

Connections: `spark_default` names the master, `databricks_default` the workspace. The spark-submits are in client mode: the
driver runs where Airflow's worker does, and reads the configuration there. That worker needs the project's environment in front
on its PATH: spark-submit, and the Python that it starts, come from there and not from Airflow's own.
Variables, with their defaults:
  cesrec_config          (must be set)   your configuration, for the spark-submit ways; conf/local.yaml simulates users. A whole
                                         path, and whole paths in it: others begin where Airflow's worker happens to run
  cesrec_home            /opt/cesrec     a checkout of this project, or a folder with its jobs/ and conf/
  cesrec_py_files        (none)          the wheel, where the machines do not have it installed
  cesrec_databricks_job  cesrec nightly  name of the Databricks job

A task that is tried again goes on where it stopped, as long as the run date stays the same, and it does: it is derived from
what belongs to the DAG run. One run at a time writes to a warehouse, hence max_active_runs and the chain of tasks; unpause one
DAG for a warehouse. Nights are made up for oldest first: one by one, where they and the scheduled night wait for each other,
  airflow dags trigger cesrec_nightly --conf '{"run_date": "2026-03-01"}'
or all at once, where the DAG is not paused; a backfill counts its runs by itself, so start one that ends before the next night:
  airflow backfill create --dag-id cesrec_nightly --from-date 2026-03-01 --to-date 2026-03-05T23:59 \\
    --max-active-runs 1 --reprocess-behavior failed
Nights begin at 2 a.m., after the midnight that a bare date means: without its time the last one is left out.
Nights before the published one are computed and kept, but not published. Of two runs that did meet, the one that began first
is stopped by its next stage, and has to begin again with ingest: clear its tasks from there.

The Databricks job has a schedule of its own: pause one of the two.
"""

import datetime as dt
import hashlib
import logging
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.databricks.operators.databricks import DatabricksRunNowOperator
from airflow.sdk import DAG, Asset, CronTriggerTimetable, Param, chain

log = logging.getLogger(__name__)

# The order of cesrec_core.stages.nightly.NIGHTLY, which a test compares: importing it here would import Spark.
STAGES = (
    "ingest",
    "build_sequences",
    "train_recommender",
    "embed_items",
    "train_adapter",
    "project_items",
    "mask_outliers",
    "finetune_constructor",
    "simulate_feedback",
    "understand_feedback",
    "construct_pseudo_sequences",
    "recommend",
    "audit",
    "publish",
)
# Assets by name alone: Airflow takes one URI for a name, and who names the asset in a DAG of their own gives none.
# Rows that consumers see once the run is published: schedule a DAG on [Asset("cesrec_recommendations")] to follow.
PUBLISHED_TABLES = ("recommendations", "pseudo_sequences", "clarifications", "metrics", "runs")
OUTPUTS = [Asset(f"cesrec_{table}") for table in PUBLISHED_TABLES]
# What the task that uploads interactions names as its outlet. An event may say {"run_date": "2026-03-02"} in its extra;
# of several events the latest date counts.
NEW_INTERACTIONS = Asset("cesrec_raw_interactions")
# Not the bare text: [scheduler] create_cron_data_intervals would make that the night before's.
EVERY_NIGHT = CronTriggerTimetable("0 2 * * *", timezone="UTC")

HOME = "{{ var.value.get('cesrec_home', '/opt/cesrec') }}"
# Without a default: that of the jobs is the demo's, whose simulated users would speak every night.
CONFIG = "{{ var.value.cesrec_config }}"
PY_FILES = "{{ var.value.get('cesrec_py_files', '') }}"
RUN_DATE = "{{ run_date_of(params, dag_run, triggering_asset_events) }}"


def run_date_of(params: dict[str, Any], dag_run: Any, triggering_asset_events: Any) -> str:
    """The date that a DAG run stands for, the same in every try: as the trigger says, else as the schedule says, in UTC.

    Runs that an asset or the API has triggered have no logical date.
    """
    if params.get("run_date"):
        return str(params["run_date"])
    events = [event for of_asset in (triggering_asset_events or {}).values() for event in of_asset]
    told = [str(event.extra["run_date"]) for event in events if (event.extra or {}).get("run_date")]
    dates = [date for text in told if (date := date_in(text)) is not None]
    if len(dates) < len(told):
        first = next(text for text in told if date_in(text) is None)
        ignored = f"{len(told) - len(dates)} of {len(told)} run dates in asset events are none, the first {first[:24]!r}."
        if not dates:
            # Another date's night, which nobody asked for, would be published.
            raise ValueError(f"{ignored} Write them as 2026-03-02, or trigger the DAG with a run_date.")
        log.warning("CESRec: %s The latest of the others counts.", ignored)
    return max(dates) if dates else (dag_run.logical_date or dag_run.run_after).date().isoformat()


def date_in(text: str) -> str | None:
    """YYYY-MM-DD of a date or, in UTC, of a time as `str(logical_date)` writes it; None where it is neither."""
    try:
        moment = dt.datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo is None else moment.astimezone(dt.UTC)).date().isoformat()
    except (ValueError, OverflowError):
        return None


def token_of(task_instance: Any, dag_run: Any) -> str:
    """Of one try of one DAG run."""
    started = dag_run.start_date.isoformat() if dag_run.start_date else ""
    whole = "|".join([task_instance.dag_id, task_instance.run_id, started])
    return f"{hashlib.sha256(whole.encode()).hexdigest()[:48]}-{task_instance.try_number}"


def tell_failure(context: dict[str, Any]) -> None:
    """Called when a task has failed for good. Put your pager here."""
    task, dag_run = context["task_instance"], context["dag_run"]
    log.error(
        "CESRec: task %s of %s, run %s, failed after %d tries. Consumers go on reading the run before. Log: %s",
        task.task_id,
        task.dag_id,
        dag_run.run_id,
        task.try_number,
        task.log_url,
    )


DEFAULTS = {
    "owner": "cesrec",
    "retries": 2,
    "retry_delay": dt.timedelta(minutes=10),
    # A task that hangs would hold back all later nights, and nobody would be told. Trainings have limits of their own.
    "execution_timeout": dt.timedelta(hours=24),
    "on_failure_callback": tell_failure,
}
FOR_ALL = {
    "start_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    "catchup": False,
    "max_active_runs": 1,
    "default_args": DEFAULTS,
    "params": {"run_date": Param(None, type=["null", "string"], format="date", description="date the run stands for")},
    "user_defined_macros": {"run_date_of": run_date_of, "token_of": token_of},
    "tags": ["cesrec"],
    "doc_md": __doc__,
}


def submit_stages() -> None:
    """A task for each stage, one after the other; the last one publishes."""
    tasks = [
        SparkSubmitOperator(
            task_id=stage,
            name=f"cesrec {stage} {RUN_DATE}",
            conn_id="spark_default",
            application=f"{HOME}/jobs/{stage}.py",
            py_files=PY_FILES,
            application_args=["--config", CONFIG, "--run-date", RUN_DATE, "--set", "run.log_format=json"],
            # A gate that has refused refuses again; one more try is for a machine that was lost.
            retries=1 if stage == "audit" else DEFAULTS["retries"],
            outlets=OUTPUTS if stage == "publish" else [],
        )
        for stage in STAGES
    ]
    chain(*tasks)


with DAG("cesrec_nightly", schedule=EVERY_NIGHT, **FOR_ALL):
    submit_stages()

with DAG("cesrec_on_arrival", schedule=[NEW_INTERACTIONS], **FOR_ALL):
    submit_stages()

with DAG("cesrec_nightly_databricks", schedule=EVERY_NIGHT, **FOR_ALL):
    DatabricksRunNowOperator(
        task_id="nightly",
        databricks_conn_id="databricks_default",
        job_name="{{ var.value.get('cesrec_databricks_job', 'cesrec nightly') }}",
        job_parameters={"run_date": RUN_DATE},
        # Databricks answers a token that it knows with the old run, failed or not: every try needs one of its own, and so does
        # every DAG and a DAG run that was made anew. Up to 64 characters.
        idempotency_token="{{ token_of(ti, dag_run) }}",
        # For a worker or a connection that was lost: the tasks of the job try again themselves, and a second run of it goes on
        # where the first one stopped, or waits for it to end.
        retries=1,
        # Otherwise a night that was cleared after it had succeeded would be taken for the one before, and run nothing.
        durable=False,
        outlets=OUTPUTS,
    )
